"""What several tests of tables share."""

import itertools

import pytest


@pytest.fixture(scope="session")
def new_file(tmp_path_factory):
    """Writes a file that no cache has seen; its first bytes, and not its name, say what it is."""
    place, numbers = tmp_path_factory.mktemp("files"), itertools.count()

    def write(content):
        path = place / f"{next(numbers)}.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write
