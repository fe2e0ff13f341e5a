"""One-line argument checks, and `InputError`, the error for wrong input."""

from __future__ import annotations

import difflib
import html
import re
from collections.abc import Iterable
from typing import Any

from mmnet.credentials import redacted


class InputError(ValueError):
    """The user's input is wrong: one clear sentence, exit code 1.

    The sentence names the file and the row or column (or the flag), the value received, and how to
    fix it. Text from users' files cannot control the terminal: characters that do not print are
    escaped, and a long value is truncated.

    Args:
        sentence: what is wrong.
        more: lines to print after the sentence, unchanged.

    Attributes:
        ledger: lines about the rows that earlier rules dropped; see `data.ledger.so_far`.
        of_tables: whether tables were read, so that `mmnet.inspect` can report more about them.
    """

    def __init__(self, sentence: str, more: str = ""):
        rule, received, value = printable(sentence).rpartition("Received: ")
        super().__init__(rule + received + (shown(value) if received else value) + more)
        self.ledger: list[str] = []
        self.of_tables = False


def in_range(low: float, high: float, **named: float) -> float:
    """Returns the one named value if it lies in [low, high].

    >>> in_range(0, 1, rate=0.5)
    0.5
    >>> in_range(0, 1, rate=1.5)
    Traceback (most recent call last):
    ...
    ValueError: `rate` must be in [0, 1]. Received: rate=1.5
    """
    ((name, value),) = named.items()
    if not low <= value <= high:
        raise ValueError(f"`{name}` must be in [{low}, {high}]. Received: {name}={value}")
    return value


def at_least(low: float, **named: Any) -> Any:
    """Returns the one named value if it is at least `low`."""
    ((name, value),) = named.items()
    if not value >= low:
        raise ValueError(f"`{name}` must be at least {low}. Received: {name}={value}")
    return value


def one_of(choices: Iterable[str], **named: str) -> str:
    """Returns the one named value if it is among the choices.

    >>> one_of(["mmnet", "ha"], model="mnet")
    Traceback (most recent call last):
    ...
    ValueError: `model` must be one of mmnet, ha. Received: model=mnet. Did you mean mmnet?
    """
    ((name, value),) = named.items()
    choices = list(choices)
    if value not in choices:
        raise ValueError(
            f"`{name}` must be one of {', '.join(choices)}. Received: {name}={value}"
            f"{did_you_mean(value, choices)}"
        )
    return value


def same_shape(**named: Any) -> None:
    """Raises ValueError unless all named tensors have the same static shape."""
    shapes = {name: tuple(value.shape) for name, value in named.items()}
    if len(set(shapes.values())) > 1:
        listed = ", ".join(f"{name}={shape}" for name, shape in shapes.items())
        raise ValueError(
            f"{', '.join(f'`{n}`' for n in named)} must have one shape. Received: {listed}"
        )


_MOST_COMPARED = 100_000
"""Most characters of choices to compare a wrong name with; this many take about a second."""


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Returns `. Did you mean X?` for the closest choice, or an empty string.

    >>> did_you_mean("noisy_rat", ["noisy_rate", "window"])
    '. Did you mean noisy_rate?'
    >>> did_you_mean("item_id", ["PERIOD", "ITEM_ID"])
    '. Did you mean ITEM_ID?'
    """
    choices = list(choices)
    near = [choice for choice in choices if choice.casefold() == name.casefold()]
    if not near and sum(map(len, choices)) <= _MOST_COMPARED:
        near = difflib.get_close_matches(name, choices, n=1)
    return f". Did you mean {shown(near[0], 60)}?" if near else ""


def printable(text: str) -> str:
    r"""Returns the text on one line, unprintable characters escaped, URLs without secrets.

    >>> printable("two\nlines\x1b[31m"), printable("https://me:word@host")
    ('two\\nlines\\x1b[31m', 'https://***@host')
    """
    text = redacted(text)
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


MOST_SHOWN = 200
"""Maximum number of characters that a message shows of a cell, a name or a line."""


def shown(text: object, most: int = MOST_SHOWN) -> str:
    r"""Returns text for one line of a message: escaped control characters, truncated if long.

    >>> shown("two\nlines\x1b[31m"), shown("x" * 300, 4)
    ('two\\nlines\\x1b[31m', 'xxx…')
    """
    line = printable(str(text)[: 2 * most])
    return line if len(line) <= most else f"{line[: most - 1]}…"


def quoted(value: object, most: int = MOST_SHOWN) -> str:
    r"""Returns the `repr` of a value for a message, like `shown`.

    >>> quoted("it's"), quoted(10 * "long ", 12), quoted(None)
    ('"it\'s"', "'long long …", 'None')
    """
    return shown(repr(value), most)


def printable_lines(text: str) -> str:
    r"""Escapes all characters that do not print, except line breaks.

    >>> printable_lines("a table\nof two lines\x1b[2J")
    'a table\nof two lines\\x1b[2J'
    """
    return "\n".join(map(printable, text.split("\n")))


MOST_IN_A_CELL = 1000
"""Maximum number of characters in a cell of a report, which may contain several names of users."""


def in_markdown(text: object, most: int = MOST_IN_A_CELL) -> str:
    r"""Escapes text for a cell or a line of a Markdown report: no markup, links or line breaks.

    >>> in_markdown("a|b\n<script>"), in_markdown("![x](http://x)"), in_markdown(r"a\|b")
    ('a\\|b &lt;script>', '![x]\\(http://x)', 'a\\\\\\|b')
    """
    line = shown(re.sub(r"[\r\n]+", " ", str(text)), most)
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace("](", r"]\(")
    return re.sub(r"(\\*)\|", lambda found: 2 * found[1] + r"\|", line)


def in_html(text: object, most: int = MOST_IN_A_CELL) -> str:
    r"""Escapes text for an element or an attribute of an HTML report.

    >>> in_html("a\n<b c='d'>")
    'a &lt;b c=&#x27;d&#x27;&gt;'
    """
    return html.escape(shown(re.sub(r"[\r\n]+", " ", str(text)), most))


def in_spreadsheet(text: str) -> str:
    """Escapes text for a cell of a CSV report: a leading quote keeps it from being a formula.

    >>> in_spreadsheet("=HYPERLINK(A1)"), in_spreadsheet("mmnet")
    ("'=HYPERLINK(A1)", 'mmnet')
    """
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
