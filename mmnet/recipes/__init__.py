"""Recipes: flagfiles of the package, one per name that `--recipe` accepts, and how they are read.

reading.py    names, and a recipe's flags beneath those that were given
durations.py  the text of `--budget`
"""
