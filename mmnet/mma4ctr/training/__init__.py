"""How click models are trained, with the trainer of both systems."""
