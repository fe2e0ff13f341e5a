"""The Python API: what the drivers do, as objects.

given.py       what a caller gives, tables and options, as flags
directories.py what both systems share: a run directory, an export directory
datasets.py    `Dataset`: tables in, batches for any Keras model out
networks.py    `MMNet` and its baselines, as ordinary Keras models
exports.py     `Export`: scores, decisions and drift of an exported model
runs.py        `Run`: a training run and what it left

`mmnet` itself exports all of it; the API of MMa4CTR is in `mma4ctr/api.py`.
"""
