"""docs/architecture.md names what there is."""

import re
from pathlib import Path

from tests.test_import_order import ROOMS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")


def test_every_file_that_it_names_exists():
    named = re.findall(r"`([\w./<>]*(?:/|\.py))`", PAGE)
    assert len(named) > 30  # the pattern finds them
    places = (ROOT, ROOT / "mmnet")
    run_directory = {"checkpoints/", "logs/", "evaluation/", "export/", "assets.extra/", "raw/"}
    missing = [
        name
        for name in named
        if "<" not in name
        and name not in run_directory
        and not any((place / name).exists() for place in places)
    ]
    assert not missing


def test_every_room_is_in_the_table():
    table = PAGE.partition("## Rooms")[2].partition("###")[0]
    rooms = {room for rooms in ROOMS for room in rooms}
    named = {name.removesuffix(".py").rstrip("/") for name in re.findall(r"`([\w.]+/?)`", table)}
    assert rooms <= named


def test_every_command_is_in_the_table():
    drivers = set(ROOMS[-1]) - {"series"}  # which another driver starts
    commands = set(re.findall(r"`(python -m [^`]+)`", PAGE))
    assert commands >= {f"python -m mmnet.{driver}" for driver in drivers}
