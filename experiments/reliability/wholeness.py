"""Whether every file that bears its final name is whole, whatever was killed and when."""

import json
import zipfile

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

APPENDED = (".tfevents.", "output.txt", ".journal")
"""Logs, which grow line by line; a cut last line is what they are made for."""


class Wholeness:
    """Reads every visible file of a directory once; what has been read is not read again."""

    def __init__(self, root):
        self.root, self.seen, self.read = root, set(), 0

    def __call__(self):
        """Raises AssertionError for a file that is not whole."""
        for path in sorted(self.root.rglob("*")):
            parts = path.relative_to(self.root).parts
            if any(part.startswith(".") for part in parts) or not path.is_file():
                continue
            if any(mark in path.name for mark in APPENDED):
                continue
            found = path.stat()
            key = (found.st_ino, found.st_size, found.st_mtime_ns)
            if key in self.seen:
                continue
            try:
                read(path)
            except Exception as error:
                raise AssertionError(f"{path} is not whole: {error!r}") from error
            self.seen.add(key)
            self.read += 1


def read(path):
    """Reads a file to its end, as what its name says it is."""
    match path.suffix:
        case ".json":
            json.loads(path.read_text(encoding="utf-8"))
        case ".parquet":
            pq.read_table(path)
        case ".npy":
            np.array(np.load(path, allow_pickle=False))
        case ".npz":
            with zipfile.ZipFile(path) as file:
                assert file.testzip() is None
        case ".png":
            with Image.open(path) as image:
                image.load()
        case ".md" | ".txt" | ".csv" | ".tex":
            text = path.read_text(encoding="utf-8")
            assert text == "" or text.endswith("\n"), "the last line has no end"
        case _:
            path.read_bytes()
