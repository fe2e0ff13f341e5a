"""Disturbed tables through `mmnet.prepare`: a dataset of every row, or one clear sentence."""

import contextlib
import io
import random
import shutil

from mmnet import driver
from mmnet.config import PrepareConfig
from tests.fuzz import tables
from tests.fuzz.outcomes import REFUSED, WELL, check_ledger, check_sentence, is_expected

FURTHER = ("--horizon=1,2", "--also_predict=all", "--rate=all=clicks/clicks")


def check(seed, place, ready=None):
    """Prepares one disturbed pair of tables."""
    del ready
    draws = random.Random(seed)
    place.mkdir()
    counts, rows = tables.written(tables.counts(draws), draws, place / "counts")
    items, _ = tables.written(tables.items(draws), draws, place / "items")
    arguments = [
        *(f"--counts={counts}", f"--items={items}", f"--dataset_dir={place / 'set'}"),
        *("--taxonomies=category", "--numerics=duration", "--texts=title"),
        *(["--release=release"] if draws.random() < 0.5 else []),
        *("--min_test_rows=1", "--min_target_clicks=1", "--window=3"),
        *(FURTHER if draws.random() < 0.3 else []),
    ]
    printed, said = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(printed):
            code = driver.run(PrepareConfig, "", "prepare", arguments)
        left = {path.name for path in place.iterdir()}
    finally:
        shutil.rmtree(place)
    wanted = {counts.name, items.name} | ({"set"} if code == driver.OK else set())
    assert code in (driver.OK, driver.WRONG_INPUT), said.getvalue()
    assert left == wanted, f"left {left}"
    if code == driver.OK:
        check_ledger(printed.getvalue(), {} if rows is None else {"counts": rows})
        return WELL
    *lines, sentence = said.getvalue().strip("\n").splitlines()
    assert sentence.startswith("error: "), said.getvalue()
    check_sentence(sentence.removeprefix("error: "))
    assert all(map(is_expected, lines)), said.getvalue()
    return REFUSED
