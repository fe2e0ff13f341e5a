"""Inspection of tables before training: their columns, what is wrong with them, and fitting flags.

In the order of inspection:

samples.py    some rows of a table in any format
columns.py    kinds of columns, by their values
times.py      format of a column of times, and length of a period
keys.py       column of item ids, in both tables
rates.py      counts that make a rate, and running totals
cells.py      all rows of the counts, with everything that is wrong with them
quality.py    coverage, evidence, sampling noise
effects.py    how well columns of items explain their rates: taxonomies, releases
leaks.py      columns that leak the future
proposal.py   all of it together: flags, each with its reason
report.py     the report and the flagfile
"""
