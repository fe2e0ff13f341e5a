"""Exports without a model: whole by their checksums, and small enough to be copied often."""

import json

from mmnet.promotion.versions import Versions
from mmnet.serving import checksums


def write(directory, text="a model"):
    """Writes the directory of a version."""
    (directory / "assets.extra").mkdir(parents=True)
    (directory / "saved_model.pb").write_text(text)
    for name in ("fitted", "decision"):
        (directory / f"assets.extra/{name}.json").write_text(json.dumps({"of": text}) + "\n")
    checksums.seal(directory, {})
    return directory


def text(path):
    """What an export was written with."""
    return (path / "saved_model.pb").read_text()


def problems(models):
    """What is wrong with a directory of versions that anybody may read now."""
    versions = Versions(models)
    found = [
        f"version {number}: {problem}"
        for number in versions.numbers()
        for problem in checksums.problems(versions.path(number))
    ]
    half = [
        path.name
        for path in models.iterdir()
        if path.name.isdecimal() and not (path / checksums.FILE).exists()
    ]
    versions.champion()  # raises for a pointer that names no version
    return found + half
