"""The Python API: the tasks of the drivers, as objects.

given.py       a caller's tables and options, converted to flags
directories.py a run directory and an export directory of either system
datasets.py    `Dataset`: tables in, batches for any Keras model out
networks.py    `MMNet` and its baselines, as ordinary Keras models
exports.py     `Export`: scores, decisions and drift of an exported model
runs.py        `Run`: a training run and its files
versions.py    `Versions`: versions of a model, night after night, and the champion among them

`mmnet` itself exports all of it; the API of MMa4CTR is in `mma4ctr/api.py`.
"""
