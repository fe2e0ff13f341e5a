"""MMNet: item-level share rate prediction, from tables of counts to a filter decision."""

__version__ = "0.1.0"
