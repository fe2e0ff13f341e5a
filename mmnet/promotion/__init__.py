"""From an export to the model that serves: a night's comparison, the decision, the versions.

In the order of a night:

first_seen.py    values of the items' fields as they were first seen, and which fields changed
paired.py        two models' errors on the same rows: the difference, the ratio, the test
propensities.py  weights of rows from logged decisions
comparing.py     champion and challenger on the periods that neither has learned from
outages.py       the error of a model when any single input is gone
deciding.py      the promotion rule: promote, or keep and why
versions.py      the directory of numbered versions, and the pointer to the champion
history.py       one line per night, whatever it decided

Nothing here trains: `mmnet.tasks.nightly` does that, and calls these in turn.
"""
