"""Systems x seeds x origins: from a folder of flagfiles to tables that say what is known.

plan.py          which cells there are, each a training run named after its flags and data
cells.py         one process per cell, resumable
tuning.py        the same number of trials for every row to tune
comparison.py    every cell's predictions side by side, and how they compare
paper.py, claims.py, tables.py, figures.py    what is made of that
results.py       the files of a results directory
"""
