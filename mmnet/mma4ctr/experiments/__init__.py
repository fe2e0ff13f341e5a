"""MMa4CTR and its baselines in experiments; the runner is `mmnet.experiments.running`.

clicks.py    the system as the runner sees it
tables.py    the results page, a line per cell and the curve
records.py   results as they are kept, read again
paper.py     the published numbers
ledger.py    published numbers next to ours, each with a status
claims.py    checks of the published claims
rows/        the row flagfiles that experiments share
"""
