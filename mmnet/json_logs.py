"""Log lines as JSON, for log collectors: one object per message, on the standard error.

    {"time": "2026-11-29T18:04:05.123Z", "level": "INFO", "driver": "mmnet.train", "message": "…"}

`--log_format=json` of every command uses it; a server's logging configuration may name `Formatter`.
"""

from __future__ import annotations

import contextlib
import datetime
import io
import json
import logging
import re
import sys
from collections.abc import Iterator

from mmnet.checks import printable_lines

_STYLE = re.compile(r"\x1b\[[0-9;]*m")
"""Terminal codes of bold text and colours."""
_LEVELS = {"error:": logging.ERROR, "Traceback": logging.ERROR, "interrupted": logging.WARNING}
"""Beginning of a message on the standard error -> its level."""


class Formatter(logging.Formatter):
    """Formats a log record as one line of JSON with the keys time, level, driver and message.

    Args:
        driver: the program that logs, such as `mmnet.train`.
    """

    def __init__(self, driver: str = "mmnet"):
        super().__init__()
        self._driver = driver

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line; characters that do not print are escaped, URLs have no secrets."""
        message = record.getMessage()
        if record.exc_info:
            message = f"{message}\n{self.formatException(record.exc_info)}"
        time = datetime.datetime.fromtimestamp(record.created, datetime.timezone.utc)
        return json.dumps(
            {
                "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                "level": record.levelname,
                "driver": self._driver,
                "message": printable_lines(_STYLE.sub("", message)),
            },
            ensure_ascii=False,
        )


class _Messages(io.TextIOBase):
    """A text stream that logs what is written to it; a message ends where a write ends a line."""

    def __init__(self, logger: logging.Logger, *, of_errors: bool):
        self._logger, self._of_errors, self._begun = logger, of_errors, ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._begun += text
        if self._begun.endswith("\n"):
            self.end()
        return len(text)

    def end(self) -> None:
        """Logs what has been written since the last message."""
        message, self._begun = self._begun.rstrip(), ""
        if not message:
            return
        level = logging.INFO
        if self._of_errors:
            level = next((of for start, of in _LEVELS.items() if message.startswith(start)), level)
        self._logger.log(level, message)


class _Handler(logging.StreamHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """Drops a line that cannot be written: the reader of a log does not end the work."""


@contextlib.contextmanager
def printed_as_json(driver: str) -> Iterator[None]:
    """Logs as JSON, on the standard error, all that Python code prints, warns of or logs.

    What libraries in other languages print is not covered.

    Args:
        driver: name of the program in every line.
    """
    handler = _Handler(sys.stderr)
    handler.setFormatter(Formatter(driver))
    root, own = logging.getLogger(), logging.getLogger("mmnet")
    handlers, level = root.handlers[:], own.level
    root.handlers[:] = [handler]
    own.setLevel(logging.INFO)
    logging.captureWarnings(True)
    out, errors = (_Messages(own, of_errors=of_errors) for of_errors in (False, True))
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            yield
    finally:
        out.end()
        errors.end()
        logging.captureWarnings(False)
        root.handlers[:] = handlers
        own.setLevel(level)
