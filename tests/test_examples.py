"""The examples and statements of README and docs/ hold; see also test_docs.py."""

import ast
import csv
import functools
import importlib
import importlib.util
import re
import sys
from collections import Counter
from pathlib import Path

import pytest

import mmnet
from mmnet import __main__, models
from mmnet.flags import LogFlags, parse
from tests import english, examples

ROOT = examples.ROOT
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def generate():
    """docs/generate.py as a module."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def extras():
    setup = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    (found,) = (
        keyword.value
        for node in ast.walk(setup)
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg == "extras_require"
    )
    return {key.value for key in found.keys}


def test_generated_pages_are_current(generate):
    stale = [p.name for p, text in generate.pages().items() if p.read_text("utf-8") != text]
    assert not stale, "run: python docs/generate.py"


@pytest.mark.parametrize(
    "block", examples.blocks("bash", pages=[*examples.PAGES, *examples.RESULTS]), ids=str
)
def test_every_command_is_valid(block, generate, extras, tmp_path, monkeypatch):
    examples.write_flagfiles(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name, arguments in examples.commands(block):
        if name:
            flags = parse(generate.DRIVERS[name], arguments)
            if name == "train":
                models.resolve_options(flags.model, flags.set)
        elif arguments[0].startswith("pip install "):
            named = re.findall(r"\[([\w,]+)\]", arguments[0])
            assert {extra for part in named for extra in part.split(",")} <= extras
        elif script := re.match(r"python ([\w/]+\.py)", arguments[0]):
            assert (ROOT / script[1]).exists(), arguments[0]
        else:
            assert arguments[0].startswith(examples.OTHER_PROGRAMS), arguments[0]


def test_every_flag_that_a_page_names_exists(generate, extras):
    known = {name for config in generate.DRIVERS.values() for name in config.model_fields}
    known |= {f"no{name}" for name in known} | {"help", "helpfull", "flagfile", "version"}
    known |= {"quick", "logdir", "strict", "site-dir"}  # of .ci/run, TensorBoard and MkDocs
    known |= {"tf_xla_persistent_cache_directory"}  # of TensorFlow
    known |= LogFlags.model_fields.keys()
    known |= {"tag", "publish", "volume", "wheel", "outdir", "nonblock"}  # of docs/deploy.md
    known |= {"model-repository", "filename", "model_config_file_poll_wait_seconds"}
    for page in examples.PAGES:
        unknown = examples.flags_named(page.read_text("utf-8")) - known - {"flag"}
        assert not unknown, page.name


@pytest.mark.parametrize("block", examples.blocks("python"), ids=str)
def test_every_python_block_compiles(block):
    compile(block.text, str(block), "exec")


def test_what_is_not_run_has_a_reason():
    """A new mark needs a reason, and a new number here."""
    marks = Counter(block.mark for block in examples.blocks("bash", "python") if block.mark)
    assert marks == {"parsed only": 20, "not run": 1}


def test_readme_fits_on_one_screen():
    assert len(README.splitlines()) <= 100


def test_the_numbers_of_the_readme_are_those_of_the_experiment():
    with open(ROOT / "experiments/github_tables/results/headline.csv", newline="") as file:
        stored = {
            (row["system"], row["scenario"]): float(row["value"])
            for row in csv.DictReader(file)
            if row["metric"] == "mse"
        }
    systems = {
        "Historical average with taxonomy fallback": "ha_taxonomy",
        "Empirical-Bayes smoothing": "smoothed_history",
        "LightGBM + three modes": "lightgbm_modes",
        "MMNet, the paper's network and head": "mmnet",
        "MMNet + smoothed history": "mmnet_smoothed",
    }
    rows = re.findall(r"^\| ([^|]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", README, re.M)
    assert [name for name, *_ in rows] == list(systems)
    for name, *numbers in rows:
        scenarios = zip(("normal", "cold_start", "noisy"), numbers, strict=True)
        for scenario, number in scenarios:
            assert f"{stored[systems[name], scenario]:.1f}" == number, (name, scenario)


def test_every_page_is_in_the_navigation():
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    pages = {page.name for page in (ROOT / "docs").glob("*.md")}
    assert pages <= set(re.findall(r"([\w-]+\.md)", site))


def test_the_limits_of_the_server_are_those_of_the_code():
    page = (ROOT / "docs/production.md").read_text(encoding="utf-8")
    stored = {}
    for name in ("admission", "requests", "request_rules", "mlserver_requests"):
        source = (ROOT / f"mmnet/serving/{name}.py").read_text(encoding="utf-8")
        stored |= dict(re.findall(r"^(MAX_\w+) = ([\d_]+(?: << \d+)?)$", source, re.M))
    for name, shown in {
        "MAX_BYTES": f"| {number_in(stored['MAX_BYTES']) >> 20} MiB |",
        "MAX_ROWS": f"| {number_in(stored['MAX_ROWS']):,} |",
        "MAX_TEXT_BYTES": f"| {number_in(stored['MAX_TEXT_BYTES']):,} |",
        "MAX_REQUESTS_AT_ONCE": f"| {stored['MAX_REQUESTS_AT_ONCE']};",
        "MAX_SECONDS": f"| {stored['MAX_SECONDS']} seconds |",
    }.items():
        assert shown in page, name


def number_in(text):
    number, _, shift = text.partition(" << ")
    return int(number) << int(shift or 0)


def test_every_public_name_is_in_the_reference():
    page = (ROOT / "docs/reference.md").read_text(encoding="utf-8")
    for module in ("mmnet", "mmnet.layers", "mmnet.mma4ctr"):  # imported so, none loads TensorFlow
        for name in importlib.import_module(module).__all__:
            assert re.search(rf"\b{name}\b", page), name


def test_the_messages_of_the_troubleshooting_page_are_in_the_code():
    page = (ROOT / "docs/faq.md").read_text(encoding="utf-8").partition("## Messages")[2]
    quoted = re.findall(r"^\| `([^`]+)` \|", page, re.M)
    assert len(quoted) > 20
    said = [
        " ".join(text.text.split())
        for path in (ROOT / "mmnet").rglob("*.py")
        for text in english.python_texts(path)
        if text.kind in ("message", "string")
    ]
    for message in quoted:
        parts = [re.escape(part.strip()) for part in message.replace(r"\|", "|").split("…")]
        pattern = re.compile(".*".join(parts))
        assert any(map(pattern.search, said)), message


def test_what_is_linked_exists():
    """Links of pages that the site does not check, as GitHub follows them."""
    for page in examples.PAGES:
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text("utf-8")):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page.name}: {link}"


# ------------------------------------------------------------------------------- run as they are

RUN = (
    *("README.md", "docs/getting-started.md", "docs/data.md", "docs/events.md"),
    *("docs/expressions.md", "docs/models.md", "docs/moment.md", "docs/inspect.md"),
    *("docs/evaluation.md", "docs/production.md", "docs/mma4ctr.md"),
)
"""Pages whose examples run, in this order, in one directory."""
SMALL = ("--epochs=1", "--nojit", "--set=units=8", "--set=field_width=4")
DRIFT_FOUND = 3


def run(name, arguments, monkeypatch):
    """Runs a command as the command line does; returns its exit code."""
    if name == "train":
        named = [one.partition("=")[2] for one in arguments if one.startswith("--run_dir=")]
        (run_dir,) = named or ("",)
        if (
            run_dir and Path(run_dir).exists()
        ):  # another page's example trains it from the same tables
            return 0
        own = any(one.startswith("--set=") for one in arguments)
        if run_dir == "runs/first":  # one network with evaluation and export is enough
            arguments = [*arguments, *SMALL]
        else:
            arguments = [*arguments, *(SMALL if own else ["--model=ha"]), "--outputs=validation"]
    if name == "mma4ctr.train":
        arguments = [*arguments, "--epochs=1", "--nojit"]
    monkeypatch.setattr(sys, "argv", ["mmnet", *name.split("."), *arguments])
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    return ended.value.code


@pytest.mark.slow(first=True)
@pytest.mark.usefixtures("undrawn")
def test_the_examples_run(tmp_path, monkeypatch, capsys):
    examples.write_flagfiles(tmp_path)
    examples.write_tables(tmp_path)
    monkeypatch.chdir(tmp_path)
    train = mmnet.Run.train
    small = {"epochs": 1, "jit": False, "set": {"units": 8, "field_width": 4}, "verbose": False}
    monkeypatch.setattr(mmnet.Run, "train", functools.partial(train, **small))
    done, found = set(), {page: [] for page in RUN}
    for block in examples.blocks("bash", "python"):
        if block.page in RUN and not block.mark:
            found[block.page].append(block)
    for block in (block for page in RUN for block in found[page]):
        if block.language == "python" and block.text not in done:
            exec(compile(block.text, str(block), "exec"), {})
        for name, arguments in examples.commands(block) if block.language == "bash" else ():
            command = (name, *arguments)
            if name and command not in done:
                code = run(name, arguments, monkeypatch)
                assert code in (0, DRIFT_FOUND if name == "drift" else 0), (block, command)
            done.add(command)
        done.add(block.text)
    assert Path("scores.parquet").exists()
