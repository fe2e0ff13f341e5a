"""One run directory for both systems: the same names, files and refusals."""

import pytest

from mmnet.checks import InputError
from mmnet.flags import parse
from mmnet.mma4ctr import tasks
from mmnet.training.run_directory import SHARE_RATES, is_there, removed_if_unused


@pytest.fixture(params=[SHARE_RATES, tasks.RUNS], ids=["share rates", "clicks"])
def kind(request):
    return request.param


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def given(kind, *arguments):
    return parse(kind.flags, arguments)


def test_two_runs_without_a_directory_get_one_each(kind):
    (_, first), (_, second) = (kind.open(given(kind)) for _ in range(2))
    assert first != second
    assert first.parent.name == "runs"
    assert f"-{given(kind).model}" in first.name


def test_flags_and_places_are_read_back_and_a_run_is_not_started_twice(kind, here):
    flags, run_dir = kind.open(given(kind, "--run_dir=run", "--seed=3", "--dataset_dir=data"))
    kind.write(flags, run_dir)
    assert "dataset_dir" not in (run_dir / "flags.txt").read_text()
    own = kind.read(run_dir)
    assert (own.seed, own.dataset_dir) == (3, str(here / "data"))
    with pytest.raises(InputError, match=r"already holds a run; add --resume to continue it"):
        kind.open(given(kind, "--run_dir=run"))


@pytest.mark.parametrize("was_there", [False, True])
def test_an_empty_directory_is_removed_after_a_refusal_unless_it_was_there(kind, here, was_there):
    if was_there:
        (here / "run").mkdir()
    there = is_there(given(kind, "--run_dir=run"))
    _, run_dir = kind.open(given(kind, "--run_dir=run"))
    with pytest.raises(InputError), removed_if_unused(run_dir, was_there=there):
        raise InputError("wrong")
    assert run_dir.exists() == was_there


def test_checkpoints_alone_are_a_run_too(kind, here):
    (here / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(InputError, match="already holds a run"):
        kind.open(given(kind, "--run_dir=run"))


def test_a_resumed_run_has_its_own_flags_and_new_places(kind, here):
    kind.write(*kind.open(given(kind, "--run_dir=run", "--seed=3", "--dataset_dir=data")))
    resumed = ("--run_dir=run", "--resume")
    flags, _ = kind.open(given(kind, *resumed, "--seed=3", "--dataset_dir=moved"))
    assert (flags.seed, flags.dataset_dir, flags.resume) == (3, "moved", True)
    with pytest.raises(InputError, match=r"--seed=4 differs from the run to resume, which has 3"):
        kind.open(given(kind, *resumed, "--seed=4"))
    with pytest.raises(InputError, match="--resume needs --run_dir"):
        kind.open(given(kind, "--resume"))


def test_a_run_is_resumed_with_the_secrets_that_its_files_leave_out(here):
    def url(host, key):
        return f"--text_handle=https://me:{key}@{host}/bert"

    kind = SHARE_RATES
    flags, run_dir = kind.open(given(kind, "--run_dir=run", url("h", "first-key")))
    kind.write(flags, run_dir)
    again = given(kind, "--run_dir=run", "--resume", url("h", "second-key"))
    assert kind.open(again)[0].text_handle == "https://me:second-key@h/bert"
    with pytest.raises(InputError, match=r"--text_handle=https://\*\*\*@other/bert differs"):
        kind.open(given(kind, "--run_dir=run", "--resume", url("other", "second-key")))


def test_a_run_that_was_moved_finds_the_dataset_inside_it(kind, here):
    inside = here / "run" / "dataset"
    kind.write(*kind.open(given(kind, "--run_dir=run", f"--dataset_dir={inside}")))
    inside.mkdir()
    moved = (here / "run").rename(here / "moved")
    assert kind.read(moved).dataset_dir == str(moved / "dataset")


def test_a_directory_without_a_run_is_named(kind, here):
    with pytest.raises(InputError, match=r"--run_dir=.*nothing contains no run"):
        kind.read(here / "nothing")
