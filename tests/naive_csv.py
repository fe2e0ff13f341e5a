"""A reader of CSV that takes one character at a time, to compare the fast one with."""

import contextlib
import csv
import io

ENDS = ("\n", "\r\n", "\r")


class Wrong(Exception):
    """A file is not written so; with the line and whether a record has another width."""

    def __init__(self, line, ragged=False):
        super().__init__(line)
        self.line, self.ragged = line, ragged


def read_one_way(text, quote, *, separator=",", lenient=False):
    """Reads a text one character at a time.

    Args:
        text: of the file.
        quote: doubled, backslash or none.
        separator: between values.
        lenient: whether a quotation mark after the first character of an unquoted value is a
            letter.

    Returns:
        First line and fields of every record, the line where the first quoted value with a line
        break opens, and the first line where a backslash before a mark is no letter.

    Raises:
        Wrong: the text is not written so.
    """
    records, fields, field = [], [], ""
    state, line, begun, breaks, escapes, opened = "start", 1, 1, None, None, 0
    enclosed = None
    place = 0
    if text and text[-1] not in ENDS:
        text += "\n"
    while place < len(text):
        one = "\r\n" if text.startswith("\r\n", place) else text[place]
        run = len(text[place:]) - len(text[place:].lstrip("\\"))
        if state == "quoted":
            if quote == "backslash" and run:
                escaped = text[place + run : place + run + 1] == '"'
                if escaped:
                    escapes = escapes or line
                if escaped and run % 2:
                    field += "\\" * (run // 2) + '"'
                    place += run + 1
                else:
                    field += "\\" * (run // 2 if escaped else run)
                    place += run
                continue
            if one != '"':
                if one in ENDS:
                    breaks = breaks or opened
                    line += 1
                field += one
            elif quote == "doubled" and text[place + 1 : place + 2] == '"':
                field += '"'
                place += 1
            else:
                state = "closed"
        elif one in (separator, *ENDS):
            fields.append(field)
            field, state = "", "start"
            if one in ENDS:
                if fields != [""] or enclosed == "now":
                    if records and len(fields) != len(records[0][1]):
                        raise Wrong(begun, ragged=True)
                    records.append((begun, fields))
                enclosed = None
                line += 1
                fields, begun = [], line
        elif state == "closed":
            raise Wrong(line)
        elif one == '"' and quote != "none" and state == "start":
            state, opened, enclosed = "quoted", line, "now"
        elif one == '"' and quote == "doubled" and not lenient:
            raise Wrong(line)
        elif quote == "backslash" and run:
            # Outside of quotes backslashes are letters, and so is a mark that one escapes.
            escaped = text[place + run : place + run + 1] == '"' and run % 2 == 1
            field += text[place : place + run + escaped]
            place += run + escaped
            state = "plain"
            continue
        elif one == '"' and quote == "backslash":
            raise Wrong(line)
        else:
            field += one
            state = "plain"
        place += len(one)
    if state == "quoted":
        raise Wrong(opened)
    return records, breaks, escapes


def all_ways(text, separator=","):
    found = {}
    for name, quote, lenient in [
        ("doubled", "doubled", False),
        ("backslash", "backslash", False),
        ("none", "none", False),
        ("lenient", "doubled", True),
    ]:
        try:
            found[name] = read_one_way(text, quote, separator=separator, lenient=lenient)
        except Wrong as wrong:
            found[name] = wrong
    return found


def expected(text, separator=","):
    """The quoting that the rules of `dialects` find, or the line that is refused."""
    ways = all_ways(text, separator)
    doubled, backslash, none, lenient = ways.values()
    fails = {name: isinstance(way, Wrong) for name, way in ways.items()}
    if '"' not in text:
        return "doubled"
    escapes = None if fails["backslash"] else backslash[2]
    if not fails["doubled"]:
        if escapes:
            return escapes
        if doubled[1] and not fails["none"]:
            return doubled[1]
        return "doubled"
    if escapes:
        return "backslash"
    if fails["none"]:
        return "doubled" if doubled.ragged or not fails["lenient"] else doubled.line
    if fails["lenient"]:
        (_, header), *_ = none[0]
        bare = [name for name in header if '"' in name]
        with contextlib.suppress(IndexError):
            if bare and header_of(text, separator) != header:
                return doubled.line
        return "none"
    for (line, fields), (_, letters) in zip(lenient[0], none[0], strict=True):
        if fields != letters:
            return line
    return "none"


def header_of(text, separator):
    """The first record as the lenient reader has it, whatever follows."""
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    return next((row for row in rows if row), [])


def open_at_the_end(text):
    """Whether one more line would be part of the last value, if no record has another width."""
    with contextlib.suppress(Wrong):
        read_one_way(text, "doubled")
        return False
    try:
        read_one_way(text, "doubled")
    except Wrong as wrong:
        if wrong.ragged:
            return False  # refused where it is read
    rows = list(csv.reader(io.StringIO(text + "\n\0", newline="")))
    return rows[-1] != ["\0"]
