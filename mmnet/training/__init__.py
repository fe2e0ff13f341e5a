"""Fitting a model with exact resume, its TensorBoard logs, and the record of a run."""
