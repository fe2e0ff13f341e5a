"""Credentials in URLs: read from environment variables, and never shown or stored.

A URL of a flag may hold `${NAME}`, which stands for an environment variable and is replaced only
where the URL is used. A password or a signature that is written out in a URL works too, but is
replaced by `***` wherever the URL is shown or stored.
"""

from __future__ import annotations

import os
import re
import urllib.parse
from collections.abc import Iterator

HIDDEN = "***"

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>`]*")
_USER = re.compile(r"([^/?#@]*|[^/?#@:]*:(?!\d+(?:/|$))[^?#@]*)@")
"""The user and password before the host. A password may have a slash; a port is not a password."""
_FILES = ("duckdb", "sqlite", "file")
"""Schemes that are followed by a path, in which an @ is a character like any other."""
_HARMLESS = {
    *("threads", "memory_limit", "max_memory", "temp_directory", "access_mode"),
    *("region", "endpoint", "use_ssl", "schema", "database", "warehouse", "catalog"),
    *("format", "tf-hub-format", "versionid", "sslmode", "charset", "timeout"),
    *("x-amz-algorithm", "x-amz-date", "x-amz-expires", "x-amz-signedheaders"),
}
"""Parameters of a URL that are shown; a value of any other may be a secret."""
_HARMFUL = re.compile("secret|passw|pwd|token|key|credential|auth|sas|sig|private", re.IGNORECASE)
_SHORTEST = 4
"""Characters from which on a secret is looked for in texts outside its URL."""

_known: set[str] = set()


def redacted(text: str) -> str:
    """The text without the passwords, signatures and unknown parameters of the URLs in it.

    >>> redacted("reading https://me:word@host/log.csv?X-Amz-Signature=ab12&region=eu failed")
    'reading https://***@host/log.csv?X-Amz-Signature=***&region=eu failed'
    >>> redacted("postgres://${DB_USER}:${DB_PASSWORD}@host/logs")
    'postgres://${DB_USER}:${DB_PASSWORD}@host/logs'
    """
    if "://" in text:
        text = _URL.sub(lambda found: "".join(part for part, _ in _parts(found[0])), text)
    for secret in _known:
        text = text.replace(secret, HIDDEN)
    return text


def remember(text: str) -> None:
    """Notes the secrets of a URL, so that `redacted` finds them also where the URL is not whole."""
    if "://" not in text:
        return
    before = ""
    for shown, secret in _parts(text):
        if shown != secret and (before.endswith("://") or _HARMFUL.search(before)):
            _, _, password = secret.partition(":") if before.endswith("://") else ("", "", secret)
            written = {password or secret}
            written |= {urllib.parse.unquote_plus(one) for one in written}
            _known.update(one for one in written if len(one) >= _SHORTEST and HIDDEN not in one)
        before = shown


def expanded(text: str) -> str:
    """The text with the values of the environment variables that it names as `${NAME}`.

    Raises:
        LookupError: a variable is not set; the error's argument is its name.

    >>> os.environ["EXAMPLE_PLACE"] = "bucket"
    >>> expanded("s3://${EXAMPLE_PLACE}/log.parquet")
    's3://bucket/log.parquet'
    """
    found = _REFERENCE.sub(lambda name: _variable(name[1]), text)
    remember(found)
    return found


def _variable(name: str) -> str:
    if not (value := os.environ.get(name, "")):
        raise LookupError(name)
    return value


def _parts(url: str) -> Iterator[tuple[str, str]]:
    """The parts of a URL, in order: as they may be shown, and as they are."""
    scheme, _, rest = url.partition("://")
    yield f"{scheme}://", f"{scheme}://"
    user = None if scheme.lower() in _FILES else _USER.match(rest)
    if user:
        yield (user[1] if _only_references(user[1]) else HIDDEN), user[1]
        rest = rest[user.end() - 1 :]
    place, mark, query = rest.partition("?")
    yield place + mark, place + mark
    for part in re.split(r"([&;#])", query) if mark else ():
        yield from _parameter(part)


def _parameter(part: str) -> Iterator[tuple[str, str]]:
    name, sign, value = part.partition("=")
    if part in ("", "&", ";", "#"):
        yield part, part
    elif not sign:
        yield HIDDEN, part
    else:
        yield name + sign, name + sign
        plain = name.lower() in _HARMLESS or (
            name.startswith("spark.") and not _HARMFUL.search(name)
        )
        yield (value if plain or _only_references(value) else HIDDEN), value


def _only_references(text: str) -> bool:
    """Whether nothing but names of variables is written out, or `USER:${NAME}`."""
    left = _REFERENCE.sub("", text)
    return left in ("", ":") or (":" in text and bool(_REFERENCE.fullmatch(text.split(":", 1)[1])))
