"""MMa4CTR: a user's click on an item, from the item's modalities and the user's history."""
