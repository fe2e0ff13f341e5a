"""From a trained model to a SavedModel, and from a SavedModel to scores."""
