"""From an export to the model that serves: a night's comparison, the decision, the versions.

In the order of a night:

first_seen.py    values of the items' fields as they were first seen, and which fields changed
propensities.py  weights of rows by logged decisions
paired.py        errors of two models on the same rows: tests and intervals
comparing.py     champion and challenger on the periods that neither has learned from
outages.py       the error of a model when any single input is gone
deciding.py      the promotion rule: promote, or keep and why
versions.py      the directory of numbered versions, and the pointer to the champion
history.py       an event per night, whatever it decided, and per rollback
nights.py        the directories of nights, and how far each of them came
night_report.py  nightly.md and nightly.html

Nothing here trains: `mmnet.tasks.night` does that, and calls these in turn.
"""
