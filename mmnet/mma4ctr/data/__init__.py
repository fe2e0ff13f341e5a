"""Conversion of a publisher's files to the rows and tables that models read."""
