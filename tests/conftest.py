"""One small trained run, made once for all tests of the whole."""

import contextlib
import fcntl
import gc
import io
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Spark's JVM lives for a few small queries: its optimising compiler would take most of the time.
os.environ.setdefault("SPARK_SUBMIT_OPTS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")

import hypothesis
import pytest
from PIL import Image

from mmnet.console import Progress

# A machine that does other work too may need seconds for what takes milliseconds.
hypothesis.settings.register_profile("no_deadline", deadline=None)
hypothesis.settings.load_profile("no_deadline")
Progress.__init__.__kwdefaults__ |= {"silence": 3600.0, "every": 3600.0}
# Networks leave few cycles behind, and looking for them would be a twentieth of the tests' time.
gc.set_threshold(50_000, 20, 20)


def pytest_configure(config):
    """A program that XLA has compiled is loaded by other processes that need the same one.

    TensorFlow compares the whole program before it loads one, and what is loaded computes the same
    bits. The directory is that of the shared runs, or one for this session.
    """
    if "TF_XLA_FLAGS" in os.environ:  # of the user, or of the process that started this one
        return
    if not (place := os.environ.get("MADE_ONCE")):
        place = tempfile.mkdtemp(prefix="compiled-")
        config.add_cleanup(lambda: shutil.rmtree(place, ignore_errors=True))
    compiled = pathlib.Path(place, "compiled")
    compiled.mkdir(parents=True, exist_ok=True)
    os.environ["TF_XLA_FLAGS"] = f"--tf_xla_persistent_cache_directory={compiled}"


def pytest_collection_modifyitems(items):
    """The longest tests begin first, so that no process has one left when the others are done."""
    items.sort(key=lambda item: not any(m.kwargs.get("first") for m in item.iter_markers("slow")))


SIMULATED = [
    "--source=simulated",
    "--source_set=items=500",
    "--source_set=periods=24",
    "--source_set=clicks=800000",
    "--taxonomies=category,tags",
    "--categoricals=author",
    "--numerics=duration",
    "--texts=title",
    "--release=release",
    "--min_test_rows=50",
]
# XLA would double the seconds; the run of data/test_events.py goes the whole road with it.
SMALL = ["--set=units=8", "--set=field_width=4", "--epochs=2", "--batch_size=32", "--nojit"]


SECRET = "mark3d-s3cret"
SECRETS = [
    f"--engine=duckdb://?custom_user_agent={SECRET}",
    f"--text_handle=https://me:{SECRET}@localhost/bert?X-Amz-Signature={SECRET}",
]
"""Flags with a secret that nothing may show or store; the handle is not used."""


@pytest.fixture(autouse=True)
def seeded():
    """Weights that a test does not seed are the same in every run."""
    random.seed(0)  # where Keras' initialisers get theirs


@contextlib.contextmanager
def without_drawing():
    """Files of figures get one pixel: drawing them is most of what an evaluation costs.

    They are still made; `run_dir` and evaluation/test_report.py draw them too.
    """
    from matplotlib.figure import Figure

    from mmnet.evaluation import html_page

    pixel = io.BytesIO()
    Image.new("L", (1, 1)).save(pixel, "PNG")

    def one_pixel(figure, file, **_):
        write = file.write if hasattr(file, "write") else pathlib.Path(file).write_bytes
        write(pixel.getvalue())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(html_page, "svg", lambda figure, name: "")
        patch.setattr(Figure, "get_layout_engine", lambda figure: None)  # its parts get no places
        patch.setattr(Figure, "savefig", one_pixel)
        yield


@pytest.fixture
def undrawn():
    """`without_drawing`, for one test."""
    with without_drawing():
        yield


@pytest.fixture(scope="session")
def simulated_flags():
    """Flags of a small simulated log."""
    return list(SIMULATED)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """`made_once(name, make)`: a directory or file that the first process to need it makes.

    `make` receives its path. No test writes there; one that has to works on a copy. Several
    sessions on one state of the code can share what they make, in the directory MADE_ONCE.
    """
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # of all workers of this session
    place = pathlib.Path(os.environ.get("MADE_ONCE") or base / "made_once")

    def made(name, make):
        place.mkdir(exist_ok=True)
        path, done = place / name, place / f".{name}.done"
        with open(place / f".{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                shutil.rmtree(path, ignore_errors=True)  # of one that failed half way
                make(path)
                done.touch()
        return path

    return made


@pytest.fixture(scope="session")
def modules_of_the_tasks(made_once):
    """Names of the modules that a process has loaded which imported encoders and all tasks.

    Its imports have not started TensorFlow's runtime: forks of such a process train.
    """
    tasks = ("preparing", "starting", "training", "evaluating", "scoring", "experimenting")
    names = ["encoders.hub_text", "encoders.cache", *(f"tasks.{name}" for name in tasks)]
    code = f"import sys, {', '.join(f'mmnet.{name}' for name in names)}; print(*sys.modules)"
    code += "; from tensorflow.python.eager import context; assert context._context is None"
    root = pathlib.Path(__file__).parents[1]

    def write(path):
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
        )
        path.write_text(done.stdout)

    return set(made_once("modules", write).read_text().split())


@pytest.fixture(scope="session")
def tiny_bert_dir(made_once):
    """A directory for the hub text encoder."""
    pytest.importorskip("tensorflow_hub")
    from tests.encoders import tiny_bert

    return made_once("tiny_bert", tiny_bert.write)


@pytest.fixture(scope="session")
def run_dir(made_once):
    """The run directory of a small MMNet, trained, evaluated and exported; see `own_copy`."""

    def train(directory):
        from mmnet import config, tasks
        from mmnet.flags import parse

        flags = [*SIMULATED, *SMALL, *SECRETS, f"--run_dir={directory}"]
        tasks.train(parse(config.TrainConfig, flags))

    return made_once("run", train)


@pytest.fixture
def own_copy(run_dir, tmp_path):
    """A copy of the run directory for a test that writes there."""
    return shutil.copytree(run_dir, tmp_path / "own_copy")


@pytest.fixture(scope="session")
def several_outputs(made_once):
    """Tables, a dataset and an export of a model of two rates and two horizons."""
    from tests.serving import several

    return made_once("several_outputs", several.write)
