"""MMa4CTR and its baselines in experiments; the runner is `mmnet.experiments.running`.

clicks.py    the system as the runner sees it
tables.py    the results page, a line per cell and the curve
rows/        the row flagfiles that experiments share
"""
