"""Metrics of click probabilities, references to compare them with, and figures."""
