"""`--recipe=auto`: which system fits a log, found on validation within a budget.

candidates.py  the candidates, as data, and their order of simplicity
halving.py     successive halving: the epochs that each candidate is trained for
choosing.py    the simplest candidate within one standard error, and 2 %, of the best
journal.py     the outcomes so far, on disk
report.py      recipe.md, recipe.json and recipe.txt

Nothing here trains: `halving` asks a function for that, which is in `mmnet.tasks.choosing_recipe`.
"""
