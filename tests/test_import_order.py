"""Imports point one way, so that every file can be read after those it builds on; and late.

TensorFlow takes seconds to load: what can be refused without it is refused before.
"""

import ast
import functools
import graphlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mmnet

PACKAGE = Path(mmnet.__file__).parent
ROOMS = (
    (
        "schema",
        "config",
        "table_flags",
        "experiment_flags",
        "promotion_flags",
        "scoring_flags",
        "run_flags",
        "flags",
        "recipes",
        "checks",
        "credentials",
        "files",
        "interrupts",
        "hashing",
        "memory_limit",
        "startup",
        "console",
        "json_logs",
        "deprecations",
    ),
    ("data", "encoders", "layers"),
    ("models", "inspection"),
    ("evaluation",),
    ("training",),
    ("serving",),
    ("mma4ctr", "promotion"),
    ("experiments", "search"),
    ("tasks",),
    ("api",),
    ("driver", "__main__"),
    (
        *("inspect", "prepare", "encode", "train", "series", "evaluate", "predict", "drift"),
        *("nightly", "experiment"),
    ),
)
RANK = {room: rank for rank, rooms in enumerate(ROOMS) for room in rooms}
BESIDE = {("data", "encoders")}  # what turns content into tokens and vectors


def room_of(path):
    """The second system's own experiments, tasks and drivers are where those of the first are."""
    first, *inside = path.relative_to(PACKAGE).with_suffix("").parts
    own = first == "mma4ctr" and inside[0] in (
        "__init__",
        "api",
        "experiments",
        "tasks",
        *ROOMS[-1],
    )
    return inside[0] if own else first


@functools.cache
def imported(path):
    """Every module that a file imports, wherever the import is, relative ones resolved."""
    return list(_imported(path))


def _imported(path):
    package = ("mmnet", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join([*start, *([node.module] if node.module else [])])
            yield from (f"{module}.{name.name}" for name in node.names)


def files():
    return [path for path in sorted(PACKAGE.rglob("*.py")) if room_of(path) != "__init__"]


def test_every_file_stands_in_a_room():
    assert {room_of(path) for path in files()} <= set(RANK)


def test_imports_point_one_way():
    wrong = []
    for path in files():
        here = room_of(path)
        for module in imported(path):
            parts = module.split(".")
            if parts[:2] == ["mmnet", "mma4ctr"]:
                parts = ["mmnet", room_of(PACKAGE.joinpath(*parts[1:3]))]
            if parts[0] != "mmnet" or len(parts) < 2 or parts[1] not in RANK:
                continue
            there = parts[1]
            beside = RANK[here] == RANK[there] == 0 or (here, there) in BESIDE
            if not (here == there or RANK[there] < RANK[here] or beside):
                wrong.append(f"{path.relative_to(PACKAGE)} imports {module}")
    assert not wrong


def files_imported(path):
    """The files of the package that a file imports, wherever the import is."""
    found = set()
    for module in imported(path):
        # `from mmnet.data.tables import Table` names a file and something in it.
        while module.startswith("mmnet."):
            place = PACKAGE.joinpath(*module.split(".")[1:])
            there = [place.with_suffix(".py"), place / "__init__.py"]
            if here := [one for one in there if one.is_file()]:
                found.add(here[0])
                break
            module = module.rpartition(".")[0]
    return found - {path}


def test_imports_between_files_never_lead_back():
    graph = {path: files_imported(path) for path in PACKAGE.rglob("*.py")}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the files


def test_the_data_files_are_listed_in_the_order_data_flow():
    room = PACKAGE / "data"
    index = ast.get_docstring(ast.parse((room / "__init__.py").read_text(encoding="utf-8")))
    lines = re.findall(r"^((?:\w+(?:\.py|/)(?:, )?)+) {2,}\S", index, re.MULTILINE)
    listed = [name.rstrip("/") for line in lines for name in line.split(", ")]
    there = {path.relative_to(room).parts[0] for path in room.rglob("*.py")} - {"__init__.py"}
    assert sorted(listed) == sorted(there)
    wrong = [
        f"{path.relative_to(room)} imports {other.relative_to(room)}, which comes later"
        for path in sorted(room.rglob("*.py"))
        for other in files_imported(path)
        if room in other.parents and path != room / "__init__.py"
        if listed.index(other.relative_to(room).parts[0])
        > listed.index(path.relative_to(room).parts[0])
    ]
    assert not wrong


def test_layers_and_models_know_keras_only():
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {module}"
        for room in ("layers", "models")
        for path in (PACKAGE / room).rglob("*.py")
        for module in imported(path)
        if module.split(".")[0] == "tensorflow"
    ]
    assert not wrong


def test_flags_are_read_without_tensorflow():
    # A wrong flag is told at once, not after seconds of loading.
    for path in files():
        if room_of(path) in ROOMS[0]:
            for module in imported(path):
                assert module.split(".")[0] not in ("tensorflow", "keras")


ENVIRONMENT = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}  # of a process elsewhere

COUNTS = "item_id,period,clicks,shares\n" + "".join(
    f"{item},{period},{100 + period},{item % 3 + period % 2}\n"
    for item in range(40)
    for period in range(12)
)
ITEMS = "item_id,category,title\n" + "".join(
    f"{item},{item % 4},no. {item}\n" for item in range(40)
)
TABLES = ["--counts=counts.csv", "--items=items.csv"]
DATASET = [*TABLES, "--min_target_clicks=1", "--min_test_rows=1", "--categoricals=category"]
HUB, IMAGES = "--text_encoder=hub", ["--images=title", "--image_encoder=resnet50"]
MISTAKES = {
    "inspect": [
        (["--cuonts=counts.csv"], "unknown flag --cuonts. Did you mean counts?"),
        (["--counts=counts.csv"], "--items not given"),
        (["--counts=no.csv", "--items=nor.csv"], "no.csv: no such file"),
        ([*TABLES, "--item_column=id"], "counts.csv has no column 'id'"),
        (["--events=bare.csv", "--items=items.csv"], "bare.csv has no column that is recognised"),
    ],
    "prepare": [
        (["--cuonts=counts.csv"], "unknown flag --cuonts. Did you mean counts?"),
        ([*TABLES, "--dataset_dir=d", "--window=0"], "--window: "),
        (["--counts=no.csv", "--items=items.csv", "--dataset_dir=d"], "no.csv: no such file"),
        (["--counts=counts.csv", "--items=no.csv", "--dataset_dir=d"], "no.csv: no such file"),
        (["--events=no.csv", "--items=items.csv", "--dataset_dir=d"], "no.csv: no such file"),
        ([*TABLES, "--dataset_dir=d", "--taxonomies=categry"], "items.csv has no column 'categry'"),
        ([*TABLES, "--dataset_dir=d", "--texts=titel"], "items.csv has no column 'titel'"),
        ([*TABLES, "--dataset_dir=d", "--release=born"], "items.csv has no column 'born'"),
        ([*TABLES, "--dataset_dir=d", "--numerator=likes"], "counts.csv has no column 'likes'"),
        (["--source=simulate", "--dataset_dir=d"], "`source` must be one of"),
        (["--source=wechat", "--source_dir=no", "--dataset_dir=d"], "--source_dir=no is not a dir"),
        (["--source=simulated", "--source_set=itms=9", "--dataset_dir=d"], "--source_set=itms=9: "),
        (
            [*TABLES, "--dataset_dir=d", "--texts=title", HUB, "--text_handle=no"],
            "text encoder 'no'",
        ),
    ],
    "encode": [
        (["--items=no.csv", "--texts=title", HUB], "no.csv: no such file"),
        (["--items=items.csv", "--texts=titel", HUB], "items.csv has no column 'titel'"),
        (["--items=items.csv", "--texts=title", HUB, "--text_handle=no"], "text encoder 'no'"),
        (["--items=items.csv", *IMAGES, "--image_root=no"], "--image_root=no: no such directory"),
        (
            ["--items=items.csv", *IMAGES, "--image_root=.", "--image_weights=no.h5"],
            "--image_weights=no.h5: no such file",
        ),
    ],
    "train": [
        (["--bogus=1"], "unknown flag --bogus"),
        ([*TABLES, "--model=mmnett"], "--model must be one of"),
        ([*TABLES, "--set=unitz=8"], "--set=unitz=8: mmnet has no option 'unitz'"),
        ([*TABLES, "--model=gru", "--set=link=logt"], "--set=link=logt: "),
        ([*TABLES, "--rules=recal=0.9"], "a rule must be threshold=PERCENT"),
        ([*TABLES, "--recipe=papr"], "--recipe=papr: unknown recipe"),
        ([*TABLES, "--recipe=paper", "--loss=binomial"], "--loss=binomial contradicts"),
        ([*TABLES, "--recipe=auto", "--schedule=cosine"], "--schedule=cosine: --recipe=auto"),
        ([*TABLES, "--recipe=auto", "--model=lightgbm"], "--recipe=auto: no network is left"),
        ([*TABLES, "--mode_weights=1,0"], "--mode_weights must be three numbers"),
        (["--counts=no.csv", "--items=items.csv"], "no.csv: no such file"),
        ([*TABLES, "--taxonomies=categry"], "items.csv has no column 'categry'"),
        ([*TABLES, "--horizon=2,1"], "--horizon: must be different horizons"),
        ([*TABLES, "--also_predict=like"], "--also_predict='like': no --rate has this name"),
        (
            [*TABLES, "--also_predict=like", "--rate=like=likes/views"],
            "counts.csv has no column 'views'",
        ),
        (["--dataset_dir=no"], "no is not a dataset directory"),
        (["--run_dir=new"], "no tables given"),
        (["--resume"], "--resume needs --run_dir"),
    ],
    "evaluate": [
        (["--run_dri=no"], "unknown flag --run_dri"),
        (["--run_dir=no"], "--run_dir=no contains no run"),
        (["--run_dir=run", "--dataset_dir=no"], "no is not a dataset directory"),
        (["--run_dir=run"], "no weights of a finished run found"),
    ],
    "predict": [
        (["--saved_modle=no"], "unknown flag --saved_modle"),
        (["--saved_model=no", *TABLES], "--saved_model=no: no SavedModel there"),
        (["--saved_model=no", "--verify"], "--saved_model=no: no SavedModel there"),
        (["--saved_model=export"], "no tables given"),
        (["--saved_model=export", "--counts=no.csv", "--items=items.csv"], "no.csv: no such file"),
        (
            ["--saved_model=export", "--counts=counts.csv", "--items=bare.csv"],
            "bare.csv has no col",
        ),
        (["--saved_model=export", *TABLES, "--only_items=no.csv"], "no.csv: no such file"),
        (["--saved_model=export", *TABLES, "--as_of=today"], "--as_of: a period must be"),
        (["--saved_model=export", *TABLES, "--explain"], "--explain: the model"),
        (["--saved_model=export", *TABLES, "--rule=stored"], "decision.json is missing"),
        (["--saved_model=export", "--dataset_dir=no"], "no is not a dataset directory"),
    ],
    "drift": [
        (["--psi=0"], "--psi: "),
        (["--saved_model=no", *TABLES], "--saved_model=no: no SavedModel there"),
        (["--saved_model=export", *TABLES], "profile.json is missing"),
    ],
    "nightly": [
        (["--model=s"], "--models not given"),
        (["--modles=m"], "unknown flag --modles"),
        (["--models=m", "--rollback=last"], "--rollback: must be the number of a version"),
        (["--models=m", "--rollback"], "--models=m: no such directory"),
        (["--models=m", "--history"], "no night has ended there yet"),
        (["--models=m"], "--counts and --items not given"),
        (["--models=m", *TABLES, "--run_dir=r"], "--run_dir is set by the night itself"),
        (["--models=m", *TABLES, "--split=by_item"], "--split=by_item: models of different"),
        (["--models=m", *TABLES, "--model=ha"], "--model=ha is not exported"),
        (["--models=m", *TABLES, "--promote=best"], "--promote must be better or not_worse"),
        (["--models=m", *TABLES, "--decisions=no.csv"], "no.csv: no such file"),
        (["--models=m", *TABLES, "--decisions=items.csv"], "items.csv has no column 'period'"),
        (["--models=m", "--counts=no.csv", "--items=items.csv"], "no.csv: no such file"),
        (["--models=m", *TABLES, "--taxonomies=categry"], "items.csv has no column 'categry'"),
    ],
    "experiment": [
        (["--experimnet=no"], "unknown flag --experimnet"),
        (["--results=r"], "no --table"),
        (["--results=r", "--table=T: no", "--rows=."], "no flagfile no.txt"),
        (["--results=r", "--table=T: row", "--rows=."], "--set=unitz=8: mmnet has no option"),
    ],
    "mma4ctr.prepare": [
        (["--bogus=1"], "unknown flag --bogus"),
        (["--dataset_dir=d", "--source_dir=no"], "--source_dir=no is not a directory"),
        (["--dataset_dir=d", "--generate=usrs=3"], "--generate=usrs=3: wechat_files has no option"),
    ],
    "mma4ctr.train": [
        (["--protocol=c3"], "--protocol"),
        (["--run_dir=r", "--dataset_dir=no"], "--dataset_dir=no is not a dataset directory"),
        (["--run_dir=r", "--source_dir=no"], "--source_dir=no is not a directory"),
        (["--run_dir=r", "--item_scores=no.parquet"], "no.parquet: no such file"),
        (["--run_dir=r", "--item_scores=items.csv"], "items.csv has no column"),
        (
            ["--run_dir=r", "--matrix=none", "--user_features=none"],
            "leave the model without inputs",
        ),
        (["--run_dir=r", "--model=din", "--protocol=p0"], "--model=din identifies users by"),
        (["--run_dir=r", "--faithful=x"], "--faithful=x: --model=mma4ctr has no deviation 'x'"),
        (
            ["--run_dir=r", "--protocol=recbole", "--shuffle_labels"],
            "--protocol=recbole reads none",
        ),
        (["--run_dir=r", "--protocol=recbole", "--negatives=shown"], "every row is a positive"),
    ],
    "mma4ctr.evaluate": [(["--run_dir=no"], "--run_dir=no contains no run")],
    "mma4ctr.predict": [
        (["--saved_model=no", "--pairs=counts.csv"], "--saved_model=no: no SavedModel there"),
        (["--saved_model=export", "--pairs=counts.csv"], "export is not a SavedModel of mma4ctr"),
        (["--saved_model=clicks"], "--pairs not given"),
        (["--saved_model=clicks", "--output=delta:d"], "--output=delta:d: scores of pairs are"),
        (["--saved_model=clicks", "--pairs=no.csv"], "no.csv: no such file"),
        (["--saved_model=clicks", "--pairs=items.csv"], "items.csv has no column 'user_id'"),
    ],
    "mma4ctr.experiment": [
        (["--results=r"], "no --row"),
        (["--results=r", "--row=a: --bogus=1"], "unknown flag --bogus"),
        (["--results=r", "--cells=c", "--row=a: --source_dir=no"], "--source_dir=no is not a dir"),
    ],
}
"""Driver -> arguments, and how the answer begins or what is in it."""

ANSWERS = """
import contextlib, io, json, sys
from pathlib import Path
from mmnet import config, driver
from mmnet.mma4ctr import config as own

def answer(name, arguments):
    room, _, task = name.rpartition(".")
    flags = getattr(own if room else config, f"{task.capitalize()}Config")
    told = io.StringIO()
    tasks = "mmnet.mma4ctr.tasks" if room else "mmnet.tasks"
    with contextlib.redirect_stderr(told), contextlib.redirect_stdout(io.StringIO()):
        code = driver.run(flags, None, task, arguments, tasks=tasks)
    return code, told.getvalue(), sorted(HEAVY & set(sys.modules))

HEAVY = {"tensorflow", "keras", "matplotlib", "sklearn", "scipy.stats", "tensorboard"}
given = json.load(sys.stdin)
prepared = answer("prepare", given["dataset"])
used = prepared, sorted({"ibis", "duckdb", "PIL"} & set(sys.modules))

from mmnet.data import dataset
fitted = dataset.load("dataset").fitted.model_dump(mode="json")
Path("export/assets.extra/fitted.json").write_text(json.dumps({"fitted": fitted}))
from mmnet.serving import checksums
checksums.seal(Path("export"), {})
answers = {
    name: [answer(name, arguments) for arguments in cases]
    for name, cases in given["mistakes"].items()
}
print(json.dumps({"used": used, "answers": answers}))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What one process, which has done nothing else, answers to all mistakes."""
    place = tmp_path_factory.mktemp("mistakes")
    for name, text in {
        "counts.csv": COUNTS,
        "items.csv": ITEMS,
        "bare.csv": "item_id\n1\n",
        "row.txt": "# Row\n--set=unitz=8\n",
        "run/flags.txt": "--dataset_dir=dataset\n",
        "export/saved_model.pb": "",
        "export/assets.extra/fitted.json": "",
        "clicks/saved_model.pb": "",
        "clicks/assets.extra/mma4ctr.json": "{}",
    }.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    cases = {name: [flags for flags, _ in mistakes] for name, mistakes in MISTAKES.items()}
    done = subprocess.run(
        [sys.executable, "-c", ANSWERS],
        input=json.dumps({"dataset": [*DATASET, "--dataset_dir=dataset"], "mistakes": cases}),
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
        cwd=place,
    )
    return json.loads(done.stdout)


def test_tables_without_taxonomies_and_texts_are_prepared_without_tensorflow(answers):
    assert answers["used"] == [[0, "", []], []]


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_answered_without_tensorflow(answers, name):
    for (flags, wanted), (code, told, loaded) in zip(
        MISTAKES[name], answers["answers"][name], strict=True
    ):
        assert (code, loaded) == (1, []), (flags, told)
        assert told.startswith("error: "), (flags, told)
        assert wanted in told, (flags, told)
        assert told.count("\n") == 1, (flags, told)


LOADED = """
import logging, sys
from mmnet import startup
sys.ps1 = "In: "  # as in a notebook, where TensorFlow would log at INFO

def loaded(*names):
    print(*[name for name in names if name in sys.modules])

startup.load_tensorflow(keras=False)
import mmnet.serving.catalogue, mmnet.serving.features, mmnet.serving.bundle
loaded("tensorflow", "keras", "matplotlib", "sklearn", "scipy.stats")
startup.load_tensorflow()
import mmnet.tasks.training, mmnet.tasks.evaluating
loaded("keras", "sklearn", "matplotlib.pyplot", "tensorflow_hub", "tf_keras", "tensorflow_text")
import matplotlib, sklearn  # which only looked as if they were not there
print(logging.getLogger("tensorflow").level == logging.WARNING)
"""


def test_scoring_loads_no_keras_and_training_no_second_one():
    done = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, check=True, env=ENVIRONMENT
    )
    assert done.stdout.splitlines() == ["tensorflow", "keras", "True"]
    assert done.stderr == ""  # no notes of TensorFlow's
