"""No default is declared twice: what a flag or an option declares, no function repeats."""

import ast
import importlib
from collections import defaultdict
from pathlib import Path

import mmnet
from mmnet.flags import Flags
from mmnet.models.options import Options

PACKAGE = Path(mmnet.__file__).parent
OTHER_NAMES = ("data/sources/", "mma4ctr/data/generator/")
"""Where the arguments of functions are the names of --source_set and --generate, not flags."""

DECLARING = (
    "config.py",
    "table_flags.py",
    "promotion_flags.py",
    "scoring_flags.py",
    "run_flags.py",
    "mma4ctr/config.py",
    "models/options.py",
)
TWO_SYSTEMS = "each system has its own choices"
ALLOWED = {
    "mma4ctr/config.py": {
        "batch_size": "of predict: pairs per call, which nothing depends on",
        "loss": TWO_SYSTEMS,
        "model": TWO_SYSTEMS,
        "outputs": TWO_SYSTEMS,
        "schedule": TWO_SYSTEMS,
        "unknown_items": "of interactions; the first system's is of counts",
    },
    "config.py": {
        "output": "of drift: a directory",
        "precision": "of predict: what a runtime can do, not what training can",
    },
    "promotion_flags.py": {
        "keep": "of versions; training keeps checkpoints",
    },
    "models/heads.py": {"clip": "of predictions; the flag's is of weights"},
    "models/options.py": {"learning_rate": "LightGBM's own parameter"},
    "layers/attention.py": {"softmax_axis": "an axis; the option names one of two"},
    "data/calendars.py": {"time_zone": "of periods that are no times"},
    "data/dataset.py": {"split": "of a dataset: train, validation or test"},
    "data/windows.py": {"batch_size": "of scoring, which nothing depends on"},
    "encoders/hub_text.py": {
        "batch_size": "texts per call, which nothing depends on",
        "precision": "of --text_precision",
    },
    "encoders/image.py": {"batch_size": "images per call, which nothing depends on"},
    "serving/runtimes.py": {
        "precision": "what every runtime has",
        "runtime": "what every installation has",
    },
}
"""File -> name -> why it may declare a default of a flag's or an option's name. Never grows."""


def literal(node):
    """The default that an expression declares; None where it declares none.

    None, False, 0 and what is empty say that something is off or not given.
    """
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Field" and node.args:
        node = node.args[0]
    try:
        return ast.literal_eval(node) or None
    except ValueError:
        return None


def declared(path):
    """(name, default, class or None) of every literal default in a file, at any depth."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef):
            for line in node.body:
                if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                    yield line.target.id, literal(line.value), node.name
        elif isinstance(node, ast.FunctionDef):
            positional = [*node.args.posonlyargs, *node.args.args]
            given = dict(zip(reversed(positional), reversed(node.args.defaults), strict=False))
            given |= dict(zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True))
            yield from ((argument.arg, literal(value), None) for argument, value in given.items())


def settings_class(path, name):
    """The class, if it declares flags or options."""
    if name is None:
        return None
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    found = getattr(importlib.import_module(".".join(parts)), name, None)
    return found if isinstance(found, type) and issubclass(found, Flags | Options) else None


def overrides(of, name, value):
    """Whether a class changes the default that it inherits."""
    inherited = [base for base in of.__mro__[1:] if name in getattr(base, "model_fields", ())]
    return bool(inherited) and inherited[0].model_fields[name].default != value


def test_no_default_of_a_flag_or_an_option_is_declared_twice():
    places, settings = defaultdict(list), set()
    for path in sorted(PACKAGE.rglob("*.py")):
        file = str(path.relative_to(PACKAGE))
        declares = file in DECLARING
        for name, value, owner in declared(path):
            one = settings_class(path, owner) if declares else None
            if one is not None and name not in one.model_fields:
                continue
            if one is not None:
                settings.add(name)
            elif file.startswith(OTHER_NAMES):
                continue
            if value is not None and not (one and overrides(one, name, value)):
                places[name].append(file)
    twice = {name: places[name] for name in settings if len(places[name]) > 1}
    unexplained = {
        name: once
        for name, files in twice.items()
        if len(once := [file for file in files if name not in ALLOWED.get(file, {})]) > 1
    }
    assert not unexplained
    listed = {(file, name) for file, names in ALLOWED.items() for name in names}
    assert listed <= {(file, name) for name, files in twice.items() for file in files}
