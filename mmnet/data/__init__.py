"""From tables to windows, in the order data flows."""
