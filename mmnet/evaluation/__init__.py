"""Scenarios, metrics and the report: how good predictions are, and under which conditions."""
