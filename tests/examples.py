"""The examples of README and the pages of docs/: found, checked, and run on small tables."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
RESULTS = sorted((ROOT / "experiments").rglob("*.md"))
MARK = re.compile(r"<!-- (parsed only|not run): (.+?) -->")
OTHER_PROGRAMS = ("python3 -m venv", ". ", "python -m pytest", "mkdocs ")
"""Beginnings of commands that are not mmnet's."""


@dataclass(frozen=True)
class Block:
    """A fenced example.

    Attributes:
        page: path from the repository's root.
        line: of the fence.
        language: bash, python, and so on.
        text: between the fences.
        mark: "parsed only", "not run" or "".
        reason: of the mark.
    """

    page: str
    line: int
    language: str
    text: str
    mark: str
    reason: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(*languages: str, pages: list[Path] = PAGES) -> list[Block]:
    """All examples in the given languages, page by page."""
    found = []
    for page in pages:
        lines = page.read_text(encoding="utf-8").splitlines()
        name, start = page.relative_to(ROOT).as_posix(), None
        for number, line in enumerate(lines, 1):
            if line.startswith("```") and start is None:
                start, language = number, line[3:].strip()
            elif line.startswith("```"):
                mark = MARK.fullmatch(lines[start - 2]) if start > 1 else None
                text = "\n".join(lines[start : number - 1])
                said = mark.groups() if mark else ("", "")
                if language in languages:
                    found.append(Block(name, start, language, text, *said))
                start = None
    return found


def commands(block: Block) -> Iterator[tuple[str, list[str]]]:
    """The commands of a bash block: a name, such as mma4ctr.train, and arguments.

    Commands of other programs have no name, and their text is the only argument.
    """
    for line in block.text.replace("\\\n", " ").splitlines():
        for text in re.split(r" && ", re.sub(r"(^|\s)#\s.*$", "", line).strip()):
            text = re.sub(r"\s+", " ", text).removeprefix("time ").strip()
            if not text:
                continue
            found = re.match(r"(?:python -m mmnet\.|mmnet )((?:mma4ctr[. ])?[a-z]+)( .*|)$", text)
            if found:
                yield found[1].replace(" ", "."), shlex.split(found[2])
            else:
                yield "", [text]


def flags_named(text: str) -> set[str]:
    """Names of the flags in the code of a page: `--flag`, `--flag=value`."""
    code = re.findall(r"`[^`\n]+`", text) + re.findall(r"^```.*?^```", text, re.M | re.S)
    return {flag for part in code for flag in re.findall(r"(?<![\w-])--([a-z][\w-]*)", part)}


def write_flagfiles(directory: Path) -> None:
    """Writes the flagfiles that examples name, which are not part of the repository."""
    for name in ("flags.txt", "my_log.txt"):
        text = "--counts=counts.parquet\n--items=items.csv\n--taxonomies=category\n"
        (directory / name).write_text(text)
    (directory / "experiments").symlink_to(ROOT / "experiments")


def write_tables(directory: Path) -> None:
    """Writes the tables that examples name: 150 items on 20 days, some 60 events of each."""
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(0)
    items, days = 150, 20
    names = [f"i{number}" for number in range(items)]
    table = pd.DataFrame({"item_id": names})
    table["category"] = rng.choice(["cats", "music", "news"], items)
    table["tags"] = rng.choice(["live;piano", "live", "daily;politics", ""], items)
    table["author"] = rng.choice([f"a{number}" for number in range(9)], items)
    table["duration"] = rng.integers(10, 300, items)
    table["title"] = rng.choice(["a kitten", "a new song", "the market today"], items)
    table["uploaded"] = "2024-05-01"
    table.to_csv(directory / "items.csv", index=False)

    level = rng.beta(2, 30, items)
    clicks = rng.poisson(90, (items, days)) + 1
    periods = np.tile(np.datetime64("2024-05-01") + np.arange(days), items)
    counts = {"item_id": np.repeat(names, days), "period": periods, "clicks": clicks.ravel()}
    counts["shares"] = rng.binomial(clicks, level[:, None]).ravel()
    pd.DataFrame(counts).to_parquet(directory / "counts.parquet")

    repeated = np.repeat(np.arange(items * days), clicks.ravel())
    start = periods[repeated].astype("datetime64[s]").astype(np.int64)
    events = pd.DataFrame({"item_id": counts["item_id"][repeated]})
    events["timestamp"] = start + rng.integers(0, 50_000, len(events))
    events["length_ms"] = 10_000
    events["play_ms"] = rng.integers(0, 11_000, len(events))
    events["liked"] = rng.random(len(events)) < 0.1
    events["is_ad"] = rng.random(len(events)) < 0.05
    events["event"] = rng.choice(["view", "share", "forward"], len(events), p=[0.9, 0.06, 0.04])
    (directory / "logs").mkdir()
    events.to_parquet(directory / "logs" / "part-0.parquet")
    events.to_parquet(directory / "plays.parquet")
    pairs = pd.DataFrame({"user_id": [0, 1, 2, 10**6], "item_id": [0, 1, 10**6, 2]})
    pairs.to_parquet(directory / "pairs.parquet")
