"""From tables to windows: the files of this room, in the order data flow through them.

Every file imports only those above it, so that reading down the list never leads back up; a test
holds that.

What the others need:
budgets.py          memory and disk, estimated before they are taken
arrays.py           arrays in memory and in files, and sums that int64 does not hold

Rows, wherever they come from:
ledger.py           what every rule did to the rows that reached it
delta.py            the files of a Delta table
table_paths.py      where the files of a table are
file_kinds.py       what a file is by its first bytes; its content as a stream
dialects.py         how a text file is written: separator, encoding
quotations.py       how its quotation marks are read
json_rows.py        rows of JSON
table_files.py      files that were opened: their columns, and what to say of a bad one
table_reading.py    their rows, as Arrow tables and batches
tables.py           rows in memory that know their file and line; `Rows`, what every table can do
parquet.py          rows in Parquet files, read in pieces
spelling.py         one text of a value, whatever wrote it
numbers.py          numbers written as text: decimal commas, marks between thousands
columns.py          a column as text, numbers or lists
separators.py       what separates the values of a list in text
repeats.py          two rows for one key: exact repeats, or rows that differ
ids.py              where an item is
zones.py            how far the clock of a time zone is ahead, and its hours that occur twice
time_texts.py       how times are written
time_columns.py     a column of times in memory
calendars.py        what a period is
periods.py          the periods of a log, checked against --period
sources/            public logs and a generator, each a function that returns the tables
engines.py, expressions/, event_times.py    what DuckDB, Spark and others call differently
event_files.py      files of events, as an engine can read them
event_rules.py      which rule every event breaks
events.py           events -> counts
kept_counts.py      counts of events that did not change

Counts to examples:
spool.py            rows that need not fit in memory
counts.py           counts table -> panel, [items, periods]
share_rates.py      panel -> share rates and missing flags (Eq. 1)
splits.py           panel -> examples (item, t), and which of them train, validate and test
moments.py          the target's moment: the item's age, and the calendar
targets.py          targets that are all the same, of which there is nothing to learn

Examples to what a model reads:
items.py            items table -> fields, numbers, token ids, vectors
groups.py           items that a split by item keeps together
rate_scale.py       the scale of the rates that training reads
taxonomy_means.py   what the other items of a category did (Eq. 4)
taxonomies.py       the means of every taxonomy, shard by shard of items
histories.py        all periods that windows are cut from, in one array
outputs.py          tables written where a flag says
content.py          texts and images -> vectors of frozen encoders

All of it together:
store.py            a dataset directory: locked, reused, replaced in one step
dataset.py          the arrays, what was fitted, and the ledger
item_tensors.py     tensors that depend on an item alone
input_tables.py     the tables that the flags name, and the fingerprint of a dataset
pipeline.py         the order of preparation, on one page
windows.py          examples -> batches of model inputs (Eq. 2)
"""
