import pytest

from tests.cases.worlds import Drives


@pytest.fixture
def drives(tmp_path, monkeypatch, capsys):
    """Drivers, in an empty working directory so that files have short names in messages."""
    monkeypatch.chdir(tmp_path)
    return Drives(capsys)
