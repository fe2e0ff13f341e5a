"""From tables to windows; the files are listed in the order in which data flow through them.

Every file imports only files above it in this list; a test checks that.

Shared:
budgets.py          estimates of memory and disk use, checked before allocation
arrays.py           arrays in memory and in files, and exact sums beyond int64

Rows, from any source:
ledger.py           how many rows each rule dropped
delta.py            the files of a Delta table
table_paths.py      the files of a table
file_kinds.py       the format of a file by its first bytes; its content as a stream
dialects.py         format of a text file: separator, encoding
quotations.py       interpretation of quotation marks
json_rows.py        rows of JSON
table_files.py      opened files: their columns, and messages about bad ones
table_reading.py    their rows, as Arrow tables and batches
tables.py           rows in memory that know their file and line; `Rows`, what every table can do
parquet.py          rows in Parquet files, read in pieces
spelling.py         one spelling per value, whichever program wrote it
numbers.py          numbers written as text: decimal commas, thousands separators
columns.py          a column as text, numbers or lists
separators.py       separators of the values of a list in text
rates.py            the columns of the further rates
repeats.py          two rows for one key: exact duplicates, or contradictions
ids.py              lookup of items by id
zones.py            UTC offsets of a time zone, and its ambiguous hours
time_texts.py       formats of times
time_columns.py     a column of times in memory
calendars.py        times -> numbered periods
periods.py          the periods of a log, checked against --period
sources/            public logs and a generator, each a function that returns the tables
engines.py, expressions/, event_times.py    differences between DuckDB, Spark and other engines
event_files.py      files of events, as an engine can read them
event_rules.py      the rule that each event breaks
events.py           events -> counts
kept_counts.py      cached counts of unchanged events

Counts to examples:
spool.py            rows on disk that need not fit in memory
threads.py          parts of a table, read by several threads
counts_reading.py   rows of a counts table, checked
counts.py           counts table -> panel, [items, periods]
share_rates.py      panel -> share rates and missing flags (Eq. 1)
splits.py           panel -> examples (item, t), and their split into train, validation and test
moments.py          the time of the target: the item's age, and the calendar
lifetimes.py        counts of an item before the window
targets.py          check for targets that are all equal, from which nothing can be learned

Examples to model inputs:
items.py            items table -> fields, numbers, token ids, vectors
groups.py           items that a split by item keeps together
rate_scale.py       the scale of the rates in training
taxonomy_means.py   mean rate of the other items of a category (Eq. 4)
taxonomies.py       the means of every taxonomy, for one shard of items at a time
histories.py        all periods that windows are cut from, in one array
outputs.py          tables written to the path of a flag
content.py          texts and images -> vectors of frozen encoders

Together:
store.py            a dataset directory: locked, reused, replaced atomically
dataset.py          the arrays, the fitted values, and the ledger
item_tensors.py     tensors that depend on an item alone
earlier.py          fitted values taken over from an earlier model, for a warm start
input_tables.py     the tables that the flags name, and the fingerprint of a dataset
pipeline.py         all steps of preparation, on one page
windows.py          examples -> batches of model inputs (Eq. 2)
"""
