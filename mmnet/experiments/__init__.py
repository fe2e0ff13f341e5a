"""Systems x seeds x origins: from a folder of flagfiles to tables with significance tests.

plan.py          which cells there are, each a training run named after its flags and data
cells.py         processes that train cells in turn, resumable
fork_server.py   what these processes are forks of
tables.py        scores with letters, differences with intervals
results.py       the files of a results directory
running.py       one experiment from its plan to its files
rows/            the row flagfiles that experiments share

These serve any `plan.System`. `mma4ctr.experiments` is one; the other one is here:

share_rates.py   the system of `mmnet.experiment`
tuning.py        the same number of trials for every row to tune
comparison.py    every cell's predictions next to each other, and how they compare
kept.py          what tests are computed from, in a file
retest.py        tests of finished tables, recomputed from that file
paper.py, claims.py, figures.py, share_rate_tables.py    tables, claims and figures made from it
"""
