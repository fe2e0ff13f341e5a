"""Scoring block by block: the same scores as in one go, once each, whatever happens on the way."""

import errno
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import types

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from mmnet import credentials, driver, tasks
from mmnet.checks import InputError
from mmnet.config import PredictConfig, TableFlags
from mmnet.data import dataset as datasets
from mmnet.data import input_tables
from mmnet.data.parquet import ParquetTable
from mmnet.files import only_one
from mmnet.flags import parse
from mmnet.serving import catalogue as catalogues
from mmnet.serving import first_pass, kept_pass, runtimes, workers
from tests.conftest import SECRET, SECRETS

PARTS = 3
SHARD = ["--shard_items=37"]


@pytest.fixture(scope="module")
def catalogue(run_dir, tmp_path_factory):
    """The run's own tables as directories of Parquet files, covers as a column of the items."""
    directory = tmp_path_factory.mktemp("catalogue")
    found = input_tables.load_tables(datasets.load(run_dir / "dataset").fitted.tables)
    covers = found.vectors["cover"].data
    rows = pc.index_in(found.items.data["item_id"], value_set=covers["item_id"])
    items = found.items.data.append_column("cover", covers["vector"].take(rows))
    for name, table in {"items": items, "counts": found.counts.data, "covers": covers}.items():
        (directory / name).mkdir()
        size = -(-table.num_rows // PARTS)
        for part in range(PARTS):
            path = directory / name / f"part-{part}.parquet"
            pq.write_table(table.slice(part * size, size), path, row_group_size=50)
    return directory


def flags(run_dir, catalogue, *more):
    given = {flag.partition("=")[0] for flag in more}
    own = {
        "--saved_model": run_dir / "export",
        "--counts": catalogue / "counts",
        "--items": catalogue / "items",
        "--vectors": f"cover:{catalogue / 'items'}",
    }
    return [*(f"{flag}={value}" for flag, value in own.items() if flag not in given), *more]


def predict(run_dir, catalogue, output, *more):
    arguments = flags(run_dir, catalogue, f"--output={output}", *more)
    tasks.predict(parse(PredictConfig, arguments))
    return read(output)


def read(output):
    """The scores in the order of the items."""
    return pa.concat_tables(map(pq.read_table, parts(output) or [output]))


def parts(output):
    return sorted(output.glob("part-*.parquet"))


def refused(run_dir, catalogue, capsys, *more):
    arguments = flags(run_dir, catalogue, *more)
    assert driver.run(PredictConfig, "", "predict", arguments) == driver.WRONG_INPUT
    (error,) = capsys.readouterr().err.splitlines()
    return error


@pytest.fixture(scope="module")
def whole(run_dir, catalogue, tmp_path_factory):
    """The scores of one file, made in one shard."""
    return predict(run_dir, catalogue, tmp_path_factory.mktemp("whole") / "scores.parquet")


def test_blocks_are_scored_as_the_whole_is(run_dir, catalogue, whole, tmp_path):
    scored = predict(run_dir, catalogue, tmp_path / "scores", *SHARD, *SECRETS)
    assert f"{credentials.HIDDEN}@localhost" in (tmp_path / "scores/_job.json").read_text()
    assert SECRET not in (tmp_path / "scores/_job.json").read_text()
    # Each of the three files has row groups of 50, 50, 50 and the rest.
    assert len(parts(tmp_path / "scores")) == 12
    assert scored.equals(whole)


def predict_dataset(run_dir, output, *more):
    """Scores the items of the run's own dataset."""
    own = [f"--saved_model={run_dir / 'export'}", f"--dataset_dir={run_dir / 'dataset'}"]
    tasks.predict(parse(PredictConfig, [*own, f"--output={output}", *more]))
    return read(output)


def test_scores_are_those_of_the_prepared_dataset(run_dir, whole, tmp_path):
    assert predict_dataset(run_dir, tmp_path / "scores.parquet").equals(whole)


def test_a_dataset_is_scored_in_blocks_too_and_only_where_it_has_not_been(run_dir, whole, tmp_path):
    output = tmp_path / "scores"
    assert predict_dataset(run_dir, output, *SHARD).equals(whole)
    assert len(parts(output)) == 14  # 500 items in blocks of 37
    parts(output)[3].unlink()
    kept = {path: path.stat().st_mtime_ns for path in parts(output)}
    assert predict_dataset(run_dir, output, *SHARD).equals(whole)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_some_items_of_a_dataset_with_their_static_parts_kept(
    run_dir, whole, tmp_path, monkeypatch
):
    sizes = computed(monkeypatch)
    pq.write_table(whole.select(["item_id"]).slice(100, 50), tmp_path / "wanted.parquet")
    more = [f"--only_items={tmp_path / 'wanted.parquet'}", f"--static_cache={tmp_path / 'static'}"]
    for name in ("first", "again"):
        scored = predict_dataset(run_dir, tmp_path / f"{name}.parquet", *more)
        assert scored.equals(whole.slice(100, 50))
    assert len(sizes) == 1


def test_a_job_of_some_items_resumes(run_dir, whole, tmp_path):
    pq.write_table(whole.select(["item_id"]).slice(100, 50), tmp_path / "wanted.parquet")
    for _ in range(2):
        more = f"--only_items={tmp_path / 'wanted.parquet'}"
        scored = predict_dataset(run_dir, tmp_path / "scores", more, *SHARD)
        assert scored.equals(whole.slice(100, 50))
        parts(tmp_path / "scores")[3].unlink()


@pytest.mark.parametrize("of", ["tables", "dataset"])
def test_the_runtime_is_the_one_that_is_asked_for(run_dir, catalogue, tmp_path, monkeypatch, of):
    asked, opened = set(), runtimes.opened

    def by_tensorflow(directory, signature, *, runtime, **how):
        asked.add(runtime)
        return opened(directory, signature, **how)

    monkeypatch.setattr(runtimes, "opened", by_tensorflow)
    path, more = tmp_path / "scores.parquet", "--runtime=onnx"
    if of == "tables":
        predict(run_dir, catalogue, path, more)
    else:
        predict_dataset(run_dir, path, more)
    assert asked == {"onnx"}


@pytest.mark.parametrize("of", ["tables", "dataset"])
def test_one_file_is_written_by_many_processes(
    run_dir, catalogue, whole, tmp_path, monkeypatch, of
):
    asked = []

    def in_turn(make, directory, blocks, done, *, number):
        """What the processes do, in this one."""
        asked.append((make, number))
        return [workers.here(catalogues.worker(directory), blocks, done)]

    monkeypatch.setattr(workers, "processes", in_turn)
    path, more = tmp_path / "scores.parquet", [*SHARD, "--processes=3"]
    if of == "tables":
        assert predict(run_dir, catalogue, path, *more).equals(whole)
    else:
        assert predict_dataset(run_dir, path, *more).equals(whole)
    assert asked == [(catalogues.WORKER, 3)]
    assert [one.name for one in tmp_path.iterdir()] == ["scores.parquet"]


def test_a_full_scratch_directory_is_named_by_the_flag_that_moves_it(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(catalogues, "_claim", full)
    job = types.SimpleNamespace(tables=TableFlags(engine_spill=str(tmp_path)))
    told = rf"^--engine_spill={tmp_path}/.*: No space left on device$"
    with pytest.raises(InputError, match=told):
        catalogues.to_file(job, None, tmp_path / "scores.parquet", print, processes=1)
    assert not list(tmp_path.iterdir())


def test_vectors_of_a_table_of_their_own_are_lined_up(run_dir, catalogue, whole, tmp_path):
    apart = f"--vectors=cover:{catalogue / 'covers'}"
    assert predict(run_dir, catalogue, tmp_path / "scores", *SHARD, apart).equals(whole)


@pytest.mark.slow
def test_processes_score_a_dataset_as_one_does(run_dir, whole, tmp_path):
    path = tmp_path / "scores.parquet"
    assert predict_dataset(run_dir, path, *SHARD, "--processes=2").equals(whole)


@pytest.mark.slow
def test_processes_score_as_one_does(run_dir, catalogue, whole, tmp_path):
    output = tmp_path / "scores"
    assert predict(run_dir, catalogue, output, *SHARD, "--processes=2").equals(whole)
    budget = json.loads((output / "_budget.json").read_text())
    assert (budget["items"], budget["processes"]) == (500, 2)
    assert 0 < budget["batch_p50_seconds"] <= budget["batch_p99_seconds"]
    assert budget["workers"] >= 1
    assert "| items scored | 500 |" in (output / "_budget.md").read_text()
    assert not (output / "_survey").exists()


def test_what_is_scored_is_not_scored_again(run_dir, catalogue, whole, tmp_path):
    output = tmp_path / "scores"
    predict(run_dir, catalogue, output, *SHARD)
    for path in parts(output)[::3]:
        path.unlink()
    kept = {path: path.stat().st_mtime_ns for path in parts(output)}
    assert predict(run_dir, catalogue, output, *SHARD).equals(whole)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    predict(run_dir, catalogue, output, *SHARD)  # all is there: nothing to do


def flip(path, place=-9):
    """Changes one bit of a file."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_what_an_earlier_session_left_is_checked(
    run_dir, catalogue, whole, tmp_path, monkeypatch, capsys
):
    output = tmp_path / "scores"

    def stops(work, blocks, done):
        for block in blocks[:2]:
            done(work(block))
        raise KeyboardInterrupt

    with monkeypatch.context() as stopped:
        stopped.setattr(workers, "here", stops)
        with pytest.raises(KeyboardInterrupt):
            predict(run_dir, catalogue, output, *SHARD)
    job = json.loads((output / "_job.json").read_text())
    job["job"]["saved_model"] = "another"  # of which workers would read the model
    (output / "_job.json").write_text(json.dumps(job))
    flip(output / "_survey" / "clicks.npy")
    first, second = parts(output)
    swapped = first.read_bytes(), second.read_bytes()
    again = [f"--output={output}", *SHARD]
    first.write_bytes(swapped[1])
    error = refused(run_dir, catalogue, capsys, *again)
    assert f"{first} is of another job; delete it, and run the same command again" in error
    first.write_bytes(swapped[0])
    flip(first, place=len(swapped[0]) // 3)
    assert f"{first} is damaged; delete it" in refused(run_dir, catalogue, capsys, *again)
    first.unlink()
    assert predict(run_dir, catalogue, output, *SHARD).equals(whole)


def test_a_directory_of_other_scores_is_refused(run_dir, catalogue, tmp_path, capsys):
    output = tmp_path / "scores"
    predict(run_dir, catalogue, output)
    error = refused(run_dir, catalogue, capsys, f"--output={output}", "--as_of=12")
    assert f"--output={output} has scores of other tables, or of another model, period" in error
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").touch()
    error = refused(run_dir, catalogue, capsys, f"--output={tmp_path / 'other'}")
    assert "contains other files; choose another directory" in error


def test_two_jobs_in_one_directory_are_refused(run_dir, catalogue, tmp_path, capsys):
    with only_one(tmp_path / "scores", "in use"):
        error = refused(run_dir, catalogue, capsys, f"--output={tmp_path / 'scores'}")
    assert "is in use by another process; wait for it, or choose another directory" in error


def test_only_some_items_with_the_means_of_all(run_dir, catalogue, whole, tmp_path):
    ids = whole["item_id"].to_pylist()[5:400:7]
    pq.write_table(pa.table({"item_id": [*ids, "unheard of"]}), tmp_path / "wanted.parquet")
    some = f"--only_items={tmp_path / 'wanted.parquet'}"
    scored = predict(run_dir, catalogue, tmp_path / "scores", *SHARD, some)
    assert scored["item_id"].to_pylist() == ids
    kept = whole.filter(pc.is_in(whole["item_id"], pa.array(ids)))
    assert scored.equals(kept)


def test_nothing_later_than_as_of_is_read(run_dir, catalogue, tmp_path):
    counts = pq.read_table(catalogue / "counts").to_pandas()
    later = counts["period"] > 15
    counts.loc[later, "shares"] = counts.loc[later, "clicks"]
    pq.write_table(pa.Table.from_pandas(counts), tmp_path / "changed.parquet")
    more = [*SHARD, "--as_of=15"]
    before = predict(run_dir, catalogue, tmp_path / "before", *more)
    changed = f"--counts={tmp_path / 'changed.parquet'}"
    assert predict(run_dir, catalogue, tmp_path / "after", *more, changed).equals(before)
    assert set(before["period"].to_pylist()) == {16}


def test_a_window_may_begin_before_the_counts(run_dir, catalogue, tmp_path):
    scored = predict(run_dir, catalogue, tmp_path / "scores", "--as_of=1")
    assert set(scored["period"].to_pylist()) == {2}
    assert max(scored["observed_periods"].to_pylist()) == 2


# ------------------------------------------------------------------------------ static parts


def computed(monkeypatch):
    """Lists the tiles of each run of items whose static parts are computed."""
    sizes = []
    opened = runtimes.opened

    def counting(directory, signature, **how):
        scorer = opened(directory, signature, **how)
        if signature != "static":
            return scorer
        return lambda tensors: sizes.append(len(next(iter(tensors.values())))) or scorer(tensors)

    monkeypatch.setattr(runtimes, "opened", counting)
    return sizes


def test_static_parts_are_computed_once(run_dir, catalogue, whole, tmp_path, monkeypatch):
    sizes = computed(monkeypatch)
    more = [*SHARD, f"--static_cache={tmp_path / 'static'}"]
    assert predict(run_dir, catalogue, tmp_path / "first", *more).equals(whole)
    assert len(sizes) == 21
    assert predict(run_dir, catalogue, tmp_path / "again", *more).equals(whole)
    predict(run_dir, catalogue, tmp_path / "earlier", *more, "--as_of=12")
    assert len(sizes) == 21


def test_changed_items_and_damaged_files_are_computed_again(
    run_dir, catalogue, whole, tmp_path, monkeypatch
):
    more = [*SHARD, f"--static_cache={tmp_path / 'static'}"]
    predict(run_dir, catalogue, tmp_path / "first", *more)
    files = sorted((tmp_path / "static").rglob(f"{'[0-9a-f]' * 64}.npy"))
    assert len(files) == 21  # row groups of 50 items in shards of 37 and 13, the rest in one
    files[0].write_bytes(files[0].read_bytes()[:-4])
    files[1].write_bytes(b"PK\x03\x04, and no more")
    flip(files[2])  # a number of the last item
    sizes = computed(monkeypatch)
    assert predict(run_dir, catalogue, tmp_path / "again", *more).equals(whole)
    assert len(sizes) == 3
    items = pq.read_table(catalogue / "items")
    titles = ["another title", *items["title"].to_pylist()[1:]]
    changed = items.set_column(items.column_names.index("title"), "title", pa.array(titles))
    pq.write_table(changed, tmp_path / "items.parquet")
    path = tmp_path / "items.parquet"
    paths = [f"--items={path}", f"--vectors=cover:{path}"]
    scored = predict(run_dir, catalogue, tmp_path / "changed", *more, *paths)
    fresh = predict(run_dir, catalogue, tmp_path / "fresh", *SHARD, *paths)
    assert scored.equals(fresh)
    assert scored["predicted_share_rate"][0] != whole["predicted_share_rate"][0]


def refuse_surveys(monkeypatch):
    def refused(*_, **__):
        raise AssertionError("a first pass is made")

    monkeypatch.setattr(first_pass, "survey", refused)


def test_a_first_pass_is_kept_and_columns_of_found_static_parts_are_not_read(
    run_dir, catalogue, whole, tmp_path, monkeypatch
):
    monkeypatch.setattr(kept_pass, "RECENT_SECONDS", -1.0)
    more = [*SHARD, f"--static_cache={tmp_path / 'static'}"]
    assert predict(run_dir, catalogue, tmp_path / "first", *more).equals(whole)
    read, pieces = set(), ParquetTable.pieces

    def noting(table, rows, columns=None, blocks=None):
        read.update(columns)
        return pieces(table, rows, columns, blocks)

    with monkeypatch.context() as again:
        refuse_surveys(again)
        again.setattr(ParquetTable, "pieces", noting)
        assert predict(run_dir, catalogue, tmp_path / "again", *more).equals(whole)
        assert read == {"item_id"}
        decided = predict(run_dir, catalogue, tmp_path / "decided", *more, "--rule=stored")
        assert decided.select(whole.column_names).equals(whole)
    # Another period, or counts that were written again, are another pass.
    for part in sorted((catalogue / "counts").iterdir())[:1]:
        shutil.copy2(part, tmp_path / "copy")
        os.replace(tmp_path / "copy", part)
    refuse_surveys(monkeypatch)
    for name, flag in (("earlier", "--as_of=12"), ("replaced", "--runtime=tensorflow")):
        with pytest.raises(AssertionError, match="a first pass is made"):
            predict(run_dir, catalogue, tmp_path / name, *more, flag)


def test_a_finished_job_is_only_checked(run_dir, catalogue, tmp_path, monkeypatch, capsys):
    output = tmp_path / "scores"
    scored = predict(run_dir, catalogue, output, *SHARD)
    told = capsys.readouterr().out
    refuse_surveys(monkeypatch)
    assert predict(run_dir, catalogue, output, *SHARD).equals(scored)
    again = capsys.readouterr().out
    ledger = [line for line in told.splitlines() if line.startswith("  ")]
    assert ledger
    assert all(line in again for line in ledger)
    assert "0 items scored for 24" in again
    assert "all of them by an earlier session" in again
    part = parts(output)[3]
    flip(part, place=part.stat().st_size // 3)
    error = refused(run_dir, catalogue, capsys, f"--output={output}", *SHARD)
    assert f"{part} is damaged; delete it, and run the same command again" in error


# -------------------------------------------------------------------------------- wrong input


def test_what_a_process_finds_wrong_is_one_sentence(run_dir, catalogue, tmp_path, capsys):
    """A value that the first pass does not look at."""
    items = pq.read_table(catalogue / "items")
    durations = [*map(str, items["duration"].to_pylist()[:-1]), "long"]
    column = items.column_names.index("duration")
    path = tmp_path / "items.parquet"
    pq.write_table(items.set_column(column, "duration", pa.array(durations)), path)
    more = [f"--items={path}", f"--output={tmp_path / 'scores'}", *SHARD]
    error = refused(run_dir, catalogue, capsys, *more, "--processes=2")
    assert f"{path} row 500, column duration: a numeric column's value must be a number" in error


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--as_of=99"], "--as_of=99 is outside the counts, which run from 0 to 23"),
        (["--precision=bfloat16"], "--precision=bfloat16 is checked on at least 1,000 rows"),
        (["--only_items=nowhere.parquet"], "nowhere.parquet: no such file"),
    ],
)
def test_a_wrong_flag_is_one_sentence(run_dir, catalogue, tmp_path, capsys, more, said):
    assert said in refused(run_dir, catalogue, capsys, f"--output={tmp_path / 'scores'}", *more)
    assert not (tmp_path / "scores").exists()


def test_an_output_that_cannot_be_made_is_one_sentence(run_dir, catalogue, tmp_path, capsys):
    (tmp_path / "file").touch()
    error = refused(run_dir, catalogue, capsys, f"--output={tmp_path / 'file' / 'scores'}")
    assert f"--output={tmp_path / 'file' / 'scores'}: Not a directory" in error


# -------------------------------------------------------------------------------------- slow


@pytest.mark.slow
def test_a_job_that_is_killed_goes_on(run_dir, catalogue, whole, tmp_path):
    """SIGKILL of all its processes at three moments, each after some more parts are there."""
    output = tmp_path / "scores"
    more = [f"--output={output}", "--shard_items=10", "--processes=2"]
    command = [sys.executable, "-m", "mmnet.predict", *flags(run_dir, catalogue, *more)]
    for least in (1, 4, 8):  # of 12
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
        while process.poll() is None and len(parts(output)) < least:
            time.sleep(0.01)
        assert process.poll() is None, "it ended before it could be killed"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    scored = read(output)
    assert scored.equals(whole)
    left = {path.name for path in output.iterdir()} - {path.name for path in parts(output)}
    assert left == {"_job.json", "_budget.json", "_budget.md"}


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("pyspark") is None or shutil.which("java") is None,
    reason="needs PySpark (the extra spark) and Java 17",
)
def test_spark_scores_as_one_process_does(run_dir, catalogue, whole, tmp_path):
    spark = ["--engine=pyspark://local[2]", "--engine_threads=2"]
    assert predict(run_dir, catalogue, tmp_path / "scores", *SHARD, *spark).equals(whole)
