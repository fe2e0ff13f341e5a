"""Pairs in, click probabilities out."""
