"""What the benchmarks share: turns, medians and ratios are right, and no option is lost."""

import ast
import functools
import importlib
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from experiments.performance import bench, growth

ROOT = Path(__file__).parents[1]


def parsed(monkeypatch, *given, **arguments):
    monkeypatch.setattr(sys, "argv", ["script.py", *given])
    return bench.options("What it measures, 100 % of it.", **arguments)


def test_an_option_has_the_type_of_its_default(monkeypatch):
    found = parsed(monkeypatch, "--rounds=7", "--only", rounds=5, scale=1.0, only=False, name="")
    assert vars(found) == {"rounds": 7, "scale": 1.0, "only": True, "name": "", "output": ""}


def test_an_option_may_have_all_that_argparse_knows(monkeypatch, capsys):
    kind = {"default": "a", "choices": ["a", "b"]}
    assert parsed(monkeypatch, "--kind=b", kind=kind, output="page.md").output == "page.md"
    with pytest.raises(SystemExit):
        parsed(monkeypatch, "--kind=c", kind=kind)
    assert "invalid choice: 'c'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        parsed(monkeypatch, run_dir={"required": True})
    assert "the following arguments are required: --run_dir" in capsys.readouterr().err


def test_help_shows_the_docstring_and_hides_what_is_for_child_processes(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        parsed(monkeypatch, "--help", part=bench.HIDDEN, rounds=5)
    shown = capsys.readouterr().out
    assert "What it measures, 100 % of it." in shown
    assert "--rounds" in shown
    assert "--part" not in shown


def test_variants_take_turns():
    calls = []
    variants = {name: lambda name=name: calls.append(name) or len(calls) for name in ("a", "b")}
    assert bench.turns(variants, 2) == {"a": [1, 3], "b": [2, 4]}
    assert calls == ["a", "b", "a", "b"]


def test_a_race_keeps_wall_and_cpu_seconds_of_every_round(monkeypatch):
    wall, cpu = iter(range(100)), iter(range(0, 1000, 10))
    monkeypatch.setattr(bench.time, "perf_counter", lambda: next(wall))
    monkeypatch.setattr(bench.time, "process_time", lambda: next(cpu))
    assert bench.race({"a": int, "b": int}, 2) == (
        {"a": [1, 1], "b": [1, 1]},
        {"a": [10, 10], "b": [10, 10]},
    )


def test_a_spread_is_the_median_least_and_most():
    assert bench.spread([3.0, 1.0, 2.5]) == "2.50 (1.00 to 3.00)"
    assert bench.spread([3000, 1000], ",.0f") == "2,000 (1,000 to 3,000)"
    assert bench.spread([3, 1, 2], lambda value: f"{value}x") == "2x (1x to 3x)"


def test_ratios_are_formed_within_a_round():
    assert bench.ratios([3.0, 1.0], [2.0, 4.0]) == [1.5, 0.25]


def test_a_process_is_measured(tmp_path):
    code = "import os; print(os.getcwd(), os.environ['PYTHONPATH'], os.environ['THREADS'])"
    done = bench.run("-S", "-c", code, cwd=tmp_path, checkout=tmp_path / "other", THREADS="1")
    place, path, threads = done.output.split()
    assert (place, threads) == (str(tmp_path.resolve()), "1")
    assert path.startswith(str(tmp_path / "other"))
    assert 0 < done.wall < 60
    assert 0 < done.cpu < 60
    assert done.peak > 0


def test_a_process_that_fails_is_an_error_with_what_it_said():
    with pytest.raises(SystemExit, match=r"ended with exit code 3:\n(?s:.*)broken"):
        bench.run("-S", "-c", "import sys; print('broken', file=sys.stderr); sys.exit(3)")
    assert bench.run("-S", "-c", "raise SystemExit(3)", codes=(0, 3)).output == ""


def test_a_page_is_printed_and_written(tmp_path, capsys):
    page = tmp_path / "page.md"
    bench.publish(["# A", "", "b", ""], page)
    assert page.read_text(encoding="utf-8") == "# A\n\nb\n"
    assert capsys.readouterr().out == "# A\n\nb\n\n"
    bench.publish(["# A"], "")
    assert capsys.readouterr().out == "# A\n\n"


def test_simulated_counts_are_of_the_items_given():
    ids = pa.array(["a", "b"])
    table, row = bench.counts(np.random.default_rng(0), ids, np.array([0.0, 1.0]), periods=50)
    assert table["item_id"].to_pylist() == ids.take(pa.array(row)).to_pylist()
    clicks, shares = (table[name].to_numpy() for name in ("clicks", "shares"))
    assert (clicks > 0).all()
    np.testing.assert_array_equal(shares, np.where(row == 1, clicks, 0))


def test_words_are_those_drawn():
    assert bench.words("tag", 3, [2, 0]).to_pylist() == ["tag2", "tag0"]


def test_scripts_are_importable_as_modules():
    """`import bench` works from the folder on the path and as a module of `experiments`."""
    from experiments.performance import events, startup

    assert events.bench.spread is startup.bench.spread


def names_of_the_package(script):
    """(line, module, name) of what a script takes from mmnet: imported, or an attribute of that."""
    tree = ast.parse(script.read_text(encoding="utf-8"))
    modules = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "mmnet":
            for one in node.names:
                yield node.lineno, node.module, one.name
                modules[one.asname or one.name] = f"{node.module}.{one.name}"
    assigned = {node.id for node in ast.walk(tree) if _is_assigned(node)}
    assigned |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = modules.get(node.value.id, "")
            if module and node.value.id not in assigned and importable(module):
                yield node.lineno, module, node.attr


def _is_assigned(node):
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)


@functools.cache
def importable(name):
    """The module of this name, or None."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


SCRIPTS = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("experiments/**/*.py"))


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_names_what_the_package_has(script):
    missing = [
        f"{script}:{line}: {module} has no {name}"
        for line, module, name in names_of_the_package(ROOT / script)
        if not hasattr(importlib.import_module(module), name) and not importable(f"{module}.{name}")
    ]
    assert not missing


def test_the_tables_of_a_cell_have_what_it_says(tmp_path):
    cell = growth.Cell(items=30, periods=25, values=8, tags=3, characters=50)
    growth.write_tables(tmp_path, cell)
    items, counts = (pq.read_table(tmp_path / name) for name in ("items", "counts"))
    assert len(items) == len(set(items["item_id"].to_pylist())) == 30
    tags = items["tags"].to_pylist()
    assert {len(set(of_item)) for of_item in tags} == {3}
    assert len(set().union(*tags)) == 8
    assert max(map(len, items["title"].to_pylist())) <= 50
    keys = set(zip(counts["item_id"].to_pylist(), counts["period"].to_pylist(), strict=True))
    assert len(keys) == len(counts) == 30 * growth.COUNTS_PER_ITEM
    assert {period for _, period in keys} <= set(range(25))


def test_growth_is_that_above_the_smallest_value():
    assert growth.exponent([1, 10, 100], [6.0, 15.0, 105.0]) == "1.00"  # 5 + value
    assert growth.exponent([1, 10, 100], [1.0, 100.0, 10000.0]) == "**1.92**"
    assert growth.exponent([1, 10], [1.0, 10.0]) == "1.00"
    assert growth.exponent([1, 10], [1.0, 1.1]) == "="
    assert growth.exponent([1, 10, 100], [1.0, 1.1, 11.0]) == "≥ 1.00"


def test_a_page_of_growth_shows_what_was_refused():
    small = {"prepare": {"cpu": 1.0, "peak": 1e9, "disk": 1e8}, "step": {"cpu": 0.01}}
    found = {1: small, 10: {"prepare": {"refused": "too large"}}}
    lines = growth.table("tags", found)
    assert "| prepare | CPU s | 1 | – |  |" in lines
    assert "| step | CPU ms per step | 10 | – |  |" in lines
    assert "10, prepare: refused, “too large”" in lines
