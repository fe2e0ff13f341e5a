"""Passwords and signatures of URLs are in no file that is written and in no line that is shown."""

import pytest

from mmnet import credentials, driver
from mmnet.checks import InputError, shown
from mmnet.config import PrepareConfig, TableFlags, TrainConfig
from mmnet.data import engines
from mmnet.flags import expanded, parse, to_flagfile
from tests.conftest import SECRET, SECRETS


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://me:pass/word@host/x", "https://***@host/x"),
        ("https://ghp_token@host/x", "https://***@host/x"),
        ("https://host:8080/path@v1", "https://host:8080/path@v1"),
        ("s3://bucket/a@b.parquet", "s3://bucket/a@b.parquet"),
        ("https://h/log?secret", "https://h/log?***"),
        ("https://h/log?X-Amz-Date=2026&X-Amz-Signature=ab", None),
        ("duckdb://log@1.db?threads=2&s3_secret_access_key=abcd", None),
        ("pyspark://?spark.master=local[1]&spark.hadoop.fs.s3a.secret.key=abcd", None),
        ("duckdb://md:db?motherduck_token=${TOKEN}", "duckdb://md:db?motherduck_token=${TOKEN}"),
        ("postgres://bob:${PASSWORD}@h/db", "postgres://bob:${PASSWORD}@h/db"),
    ],
)
def test_a_url_keeps_its_place_and_loses_its_secrets(url, kept):
    expected = kept or url.rpartition("=")[0] + "=***"
    assert credentials.redacted(url) == expected
    assert credentials.redacted(f"reading '{url}' failed") == f"reading '{expected}' failed"
    assert shown(url) == expected


def test_a_secret_is_hidden_where_its_url_is_not_whole(monkeypatch):
    monkeypatch.setattr(credentials, "_known", set())
    monkeypatch.setenv("LOG_PASSWORD", "p%40ss w0rd")
    TableFlags(engine="postgres://bob:a%20b-c@h/db")
    assert expanded("mysql://eve:${LOG_PASSWORD}@h", "engine") == "mysql://eve:p%40ss w0rd@h"
    told = str(InputError("denied: 'a b-c', bob, a%20b-c, 'p@ss w0rd', eve"))
    assert told == "denied: '***', bob, ***, '***', eve"


def test_an_environment_variable_is_read_where_a_url_is_used(monkeypatch):
    monkeypatch.delenv("NO_SUCH_NAME", raising=False)
    with pytest.raises(InputError, match="the environment variable NO_SUCH_NAME is not set"):
        expanded("https://${NO_SUCH_NAME}@h", "events")
    flags = TableFlags(events="https://me:${LOG_PASSWORD}@h/x")
    assert "--events=https://me:${LOG_PASSWORD}@h/x\n" in to_flagfile(flags, leave_out=())
    stored = parse(TableFlags, ["--events=https://me:word@h/x"])
    again = to_flagfile(stored, leave_out=()).splitlines()
    with pytest.raises(InputError, match=r"--events=.*not stored; give --events again, with \$"):
        expanded(parse(TableFlags, again).events, "events")


@pytest.mark.parametrize("value", ["a\n--engine=x", "a\rb", "a\u2028b", "shares ", "a\0"])
def test_a_value_that_a_flagfile_would_change_is_refused(value):
    with pytest.raises(InputError, match="must be one line that does not end with a blank"):
        parse(TrainConfig, [f"--numerator={value}"])


def secrets_in(directory):
    files = [path for path in directory.rglob("*") if path.is_file()]
    return [path for path in files if SECRET.encode() in path.read_bytes()]


def test_no_file_of_a_run_holds_a_secret_of_its_flags(run_dir):
    assert "text_handle=https://***@localhost/bert" in (run_dir / "flags.txt").read_text()
    for name in ("flags.txt", "record.json", "dataset/dataset.json", "export/1/saved_model.pb"):
        assert (run_dir / name).is_file()
    assert secrets_in(run_dir) == []


def test_no_message_and_no_file_of_a_driver_holds_a_secret(tmp_path, capfd, monkeypatch):
    (tmp_path / "items.csv").write_text("item_id\na\n")
    events = "item_id,timestamp,shares\n" + "".join(f"a,{day},{day % 2}\n" for day in range(20))
    (tmp_path / "events.csv").write_text(events)
    flags = [f"--items={tmp_path}/items.csv", f"--dataset_dir={tmp_path}/d", *SECRETS]
    flags += ["--denominator=events", "--window=3", "--min_test_rows=1", "--min_target_clicks=1"]

    def prepare(*more):
        return driver.run(PrepareConfig, "", "prepare", [*flags, *more])

    assert prepare(f"--events={tmp_path}/events.csv") == driver.OK
    assert prepare(f"--events={tmp_path}/no.csv") == driver.WRONG_INPUT
    url = f"--events=https://me:{SECRET}@localhost/log.parquet?sig={SECRET}"
    assert prepare(url) == driver.WRONG_INPUT
    assert prepare(url, f"--engine=duckdb://no.db?password={SECRET}") == driver.WRONG_INPUT

    def fail(engine, paths):
        raise RuntimeError(f"no file {paths[0]}, as {SECRET} says")

    monkeypatch.setattr(engines, "read_parquet", fail)
    assert prepare(url, "--allow_remote") == driver.INTERNAL
    out, err = capfd.readouterr()
    assert "set --allow_remote" in err
    assert "as *** says" in err
    assert SECRET not in out + err
    assert secrets_in(tmp_path) == []
