"""A look at tables before any training: what their columns are, what is wrong, which flags fit.

In the order in which things are found out:

samples.py    some rows of a table, wherever it is
columns.py    what a column is, by its values
times.py      how a column of times is read, and how wide a period is
keys.py       which column holds the ids of items, in both tables
rates.py      which counts make a rate, and whether they are running totals
cells.py      all rows of the counts, with everything that is wrong with them
quality.py    coverage, evidence, sampling noise
effects.py    what columns of items tell of their rates: taxonomies, releases
leaks.py      columns that know the future
proposal.py   all of it together: flags, each with its reason
report.py     the report and the flagfile
"""
