"""Content of an item as tokens or vectors, computed once per item."""
