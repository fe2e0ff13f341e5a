"""`--recipe=auto`: which system fits a log, found on validation within a budget.

candidates.py  what is tried, as data, and in which order of simplicity
halving.py     who is trained for how many epochs: successive halving
choosing.py    the simplest candidate within one standard error, and 2 %, of the best
journal.py     what is known so far, on the disk
report.py      recipe.md, recipe.json and recipe.txt

Nothing here trains: `halving` asks a function for that, which is in `mmnet.tasks.choosing_recipe`.
"""
