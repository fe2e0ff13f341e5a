"""Imports what the drivers need, for `kill_many.py --forked`; nothing is executed."""

import importlib
import logging
import pkgutil

import mmnet
from mmnet.startup import load_tensorflow

load_tensorflow()
for _module in pkgutil.walk_packages(mmnet.__path__, "mmnet."):
    if not _module.name.endswith("__main__"):
        try:
            importlib.import_module(_module.name)
        except ImportError as _error:  # of a package that is an extra
            logging.debug("%s: %s", _module.name, _error)
