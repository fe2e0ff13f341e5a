"""Stored files that are cut off or have a bit flipped: refused in one sentence, or still whole."""

import os
import random
import shutil
import warnings
from pathlib import Path

import numpy as np

from mmnet.checks import InputError
from mmnet.data import dataset as datasets
from mmnet.mma4ctr.data import dataset as click_datasets
from mmnet.serving import exported
from mmnet.training import resume
from tests.fuzz.outcomes import REFUSED, WELL, check_sentence

READERS = {
    "export": exported.check_unchanged,
    "dataset": lambda place: [np.sum(one) for one in datasets.load(place).tensors.values()],
    "clicks export": exported.check_unchanged,
    "clicks dataset": click_datasets.load,
}
CHECKSUMMED = {"export", "clicks export"}
"""What is refused whatever has changed."""


def ready(world):
    """Directory of each kind that there is, and how it is read."""
    places = {
        "export": [world / "run" / "export" / "1"],
        "dataset": [world / "dataset", world / "run" / "dataset"],
        "clicks export": [world.parent / "clicks" / "run" / "export" / "1"],
        "clicks dataset": [world.parent / "clicks" / "dataset"],
        "run": [world / "run" / "checkpoints"],
    }
    found = {name: next(filter(Path.is_dir, some), None) for name, some in places.items()}
    with np.load(found["run"] / "best.npz", allow_pickle=False) as stored:
        fingerprint = str(stored["dataset"])

    def read_run(place):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a checkpoint that was passed over
            resume.Checkpoints(place).newest()
        resume.load_arrays(place / "best.npz", fingerprint)

    readers = READERS | {"run": read_run}
    return {name: (place, readers[name]) for name, place in found.items() if place}


def check(seed, place, stored):
    """Reads one directory with one file damaged."""
    draws = random.Random(seed)
    kind = draws.choice(sorted(stored))
    source, read = stored[kind]
    shutil.copytree(source, place, copy_function=os.link)
    files = sorted(one for one in place.rglob("*") if one.is_file() and one.stat().st_size)
    file = draws.choice(files)
    content = bytearray(file.read_bytes())
    at = draws.randrange(len(content))
    if draws.random() < 0.5:
        del content[at:]
    else:
        content[at] ^= 1 << draws.randrange(8)
    file.unlink()  # the original has another name still
    file.write_bytes(content)
    try:
        read(place)
    except InputError as error:
        check_sentence(str(error))
        return REFUSED
    finally:
        shutil.rmtree(place)
    assert kind not in CHECKSUMMED, f"{kind}: {file.relative_to(place)}, byte {at}"
    return WELL
