"""Training of click models, with the trainer of both systems."""
