"""Systems x seeds x origins: from a folder of flagfiles to tables that say what is known.

plan.py      which cells there are, each a training run named after all that decides it
cells.py     one process per cell, resumable
tuning.py    the same number of trials for every row to tune
comparison.py  every cell's predictions side by side, and how they compare
tables.py, figures.py, claims.py, paper.py   what is made of that
results.py   the files of a results directory
"""
