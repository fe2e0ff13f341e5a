"""What users read in mmnet, and the glossary of plain English that it follows.

`python -m tests.english --seed=0` prints 40 messages and docstrings, drawn by the seed.
"""

import argparse
import ast
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Text:
    """One text, its place and its kind: message, flag, docstring, string, heading or page."""

    path: str
    line: int
    kind: str
    text: str


@dataclass(frozen=True)
class Phrase:
    """A phrase to avoid, what to write instead, and examples that must and must not be found."""

    avoid: str
    write: str
    pattern: str
    wrong: tuple[str, ...]
    right: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ("message", "flag", "docstring", "string", "heading", "page")


GLOSSARY = (
    Phrase(
        "road",
        "pipeline",
        r"(?<!\ba )\broads?\b",
        ("the whole road of the data", "two roads to a score"),
        ("a photo of a road", "a broad column"),
    ),
    Phrase(
        "luck",
        "sampling error, chance",
        r"(?<!good )\bluck\b",
        ("a difference that is luck", "by luck"),
        ("good luck", "a lucky number"),
    ),
    Phrase(
        "floor",
        "simple baseline",
        r"\b(?:the|a|simple|its|every|no|this|each|best|rules?|under|over|of) floors?\b"
        r"(?! of [a-z] ?[/÷])",
        ("the floor is the historical average", "below every floor", "simple floors"),
        ("np.floor of the hour", "the floor of n / k"),
    ),
    Phrase(
        "told, tell",
        "reported",
        r"\b(?:is|are|was|were|be|been|as) told\b(?! apart)|\btells? (?:of|how|what|which|who)\b"
        r"|\btold (?:by|of|in|to|at|which|what|how|once)\b",
        ("the error is told with its row", "told by the clicks before", "tells which rows differ"),
        ("rows that cannot be told apart", "a foretold end"),
    ),
    Phrase(
        "says",
        "reports, states",
        r"\bsay(?:s|ing)? (?:so|which|what|how|where|who|whether|of)\b",
        ("the log says so", "a column says which", "it says of each row"),
        ("the paper says: no", "a letter says nothing about other tables"),
    ),
    Phrase(
        "beside",
        "alongside, next to, compared with",
        r"\bbeside\b(?! the point)",
        ("the table beside simple rules", "written beside the file"),
        ("that is beside the point", "besides, it is slow"),
    ),
    Phrase(
        "made anew",
        "rebuilt, recomputed",
        r"\banew\b",
        ("remove it, it is made anew", "read anew"),
        ("a new file",),
    ),
    Phrase(
        "is no X",
        "is not an X",
        r"(?<!there )(?<!that )\b(?:is|are|was) no (?!(?:longer|more|less|fewer|better|worse|"
        r"larger|smaller|different|later|earlier|greater|faster|slower|use|need)\b)[a-z]",
        ("'x' is no number", "which is no column of the table"),
        ("there is no file", "it is no longer read", "is no more than 3", "is not a number"),
    ),
    Phrase(
        "goes on",
        "resumes, continues",
        r"\bgo(?:es|ing)? on(?: with| from| where|[.,;:]| after|$)",
        ("the run goes on where it stopped", "training goes on."),
        ("time goes on the x axis", "it goes one step"),
    ),
    Phrase(
        "stands",
        "is",
        r"\b(?:stands?|stood|standing) (?:in|on|at|here|there|beside|under|before|after|where|once|"
        r"twice|as)\b(?! for\b)",
        ("item 'a' stands here a second time", "what stands in the file"),
        ("it stands in for a missing value", "s stands for shares", "a standard error"),
    ),
    Phrase(
        "lies",
        "is",
        r"\b(?:files?|tables?|folders?|director(?:y|ies)|models?|run|it|they|copy|cache|assets) "
        r"lies? (?:in|under|on|at|here|there|where)\b(?! \[)",
        ("the files lie in one directory", "it lies under runs/"),
        ("the rate lies in [0, 1]", "it lies in [0, 1]", "the mean lies between them"),
    ),
    Phrase(
        "takes",
        "accepts",
        r"\btakes? (?:no|only|either|any|one of|as many)\b(?! \d)",
        ("the flag takes no value", "takes either a file or a directory"),
        ("takes only 3 s", "takes 5 s", "takes part"),
    ),
    Phrase(
        "gives",
        "returns, produces",
        r"\A(?:Gives|Give)\b|\bgives? back\b",
        ("Gives the rates.", "the call gives back a table"),
        ("that gives the model time", "what the rule gives up"),
    ),
    Phrase(
        "what came",
        "the value received",
        r"\bwhat came\b",
        ("names the rule and what came",),
        ("what became of it",),
    ),
    Phrase(
        "nobody",
        "no item",
        r"\bnobody(?:'s)?\b(?! (?:has|else|reads|needs|clicked|knows))",
        ("the rows of nobody", "nobody's history"),
        ("a column that nobody reads",),
    ),
    Phrase(
        "an item who",
        "an item that, which item",
        r"\b(?:items?|rows?|models?|files?) who(?:se own)?\b",
        ("items who have no clicks",),
        ("users who clicked", "items whose age is known"),
    ),
    Phrase(
        "told apart",
        "distinguished",
        r"(?<!can be )(?<!cannot be )(?<!not be )\btold apart\b|\btells (?:\w+ ){1,2}apart\b",
        ("two files are told apart by name", "what tells them apart"),
        ("rows that cannot be told apart", "no two rows can be told apart"),
    ),
    Phrase(
        "rows do not differ",
        "rows cannot be told apart at the 5 % level",
        r"\bletters? (?:do|does) not differ\b",
        ("rows that share a letter do not differ",),
        ("the files do not differ",),
    ),
    Phrase(
        "the file has not",
        "the file does not have",
        r"\b(?:has|have|had) not(?=[.,;:)]|$)",
        ("a header line, which the file has not; delete it",),
        ("it has not changed", "whether or not it has, note"),
    ),
    Phrase(
        "there is none",
        "none exists, no X was found",
        r"(?<!if )\bthere (?:is|are|was|were) none\b",
        ("the recipe, or defaults where there is none",),
        ("there is no file", "leave it out if there is none"),
    ),
    Phrase(
        "wants",
        "requires",
        r"(?<!I )(?<!one )(?<!user )(?<!who )\bwants\b",
        ("the tables are not as the contract wants them",),
        ("a user wants scores", "I want to"),
    ),
    Phrase(
        "means nothing",
        "is meaningless, is undefined",
        r"\bmeans? nothing\b",
        ("thresholds mean nothing on them",),
        ("a mean of nothing but zeros",),
    ),
    Phrase(
        "none of its kind",
        "of the wrong kind",
        r"\bnone of its kind\b",
        ("a value that is none of its kind",),
        ("none of its columns",),
    ),
    Phrase(
        "not there",
        "missing",
        r"\b(?:is|are|was|were) not there\b",
        ("the files are not there",),
        ("there is no file there",),
    ),
    Phrase(
        "learn by heart",
        "memorize",
        r"\bby heart\b",
        ("the network learns items by heart",),
    ),
    Phrase(
        "in the place of",
        "instead of",
        r"\bin the place of\b",
        ("a GRU in the place of the modules",),
        ("in place of the table",),
    ),
    Phrase(
        "as far as it is there",
        "if it exists, where known",
        r"\bas far as (?:they|it|there) (?:is|are)\b",
        ("figures, as far as they are there",),
        ("as far as memory allows",),
    ),
    Phrase(
        "a fragment",
        "a sentence with a subject, a noun phrase or an imperative",
        r"\A(?:Of|Who|Whom|Whose|What|Whether)\b(?![^.]*\?)",
        ("Of the learning rate; cosine falls to 0.", "Whether the run is over.", "What it bears"),
        ("What is a period?", "Whatever it is", "Offsets of the rows", "one of the rows"),
        kinds=("message", "flag", "docstring", "heading"),
    ),
    Phrase(
        "a docstring that begins with How, Where or Which",
        "a noun phrase or an imperative",
        r"\A(?:How|Where|Which|When|Why)\b",
        ("How the rates are scaled.", "Where a run reads its dataset."),
        ("However it is read", "Whichever comes first"),
        kinds=("docstring",),
    ),
)

_CODE = re.compile(r"```.*?```|``.*?``|`[^`\n]*(?:\n[^`\n]+)?`|^ *(?:>>>|\.\.\.) .*?$", re.S | re.M)
_CALLS = re.compile(r"(?:Error|Unusable|NotText|Interrupted|refusal|print|status|warn)$")


def find(text: str, kind: str = "message") -> Iterator[tuple[int, Phrase]]:
    """Each use of a phrase to avoid, with its line in `text`, counted from 0; code is skipped."""
    prose = _CODE.sub(lambda code: "x" + "\n" * code.group().count("\n"), text)
    prose = re.sub(r"\n[ >*-]+", "\n", prose)
    for phrase in GLOSSARY:
        if kind in phrase.kinds:
            # A phrase may be broken over two lines.
            for match in re.finditer(phrase.pattern.replace(" ", r"\s"), prose, re.I | re.M):
                yield prose.count("\n", 0, match.start()), phrase


def python_texts(path: Path) -> Iterator[Text]:
    """Public docstrings, flag texts, messages and all other strings of two words or more."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    name, kinds, skipped = path.relative_to(ROOT).as_posix(), {}, set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if (text := ast.get_docstring(node)) is not None:
                skipped.add(node.body[0].value)
                if isinstance(node, ast.Module) or not node.name.startswith("_"):
                    yield Text(name, node.body[0].lineno, "docstring", text)
        elif isinstance(node, ast.Expr) and _literal(node.value):
            kinds[node.value] = "docstring"  # of the constant above it
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            kind = "flag" if called == "Field" else "message" if _CALLS.search(called) else None
            if kind:
                arguments = (*node.args, *(keyword.value for keyword in node.keywords))
                kinds |= {part: kind for root in arguments for part in ast.walk(root)}
        elif isinstance(node, ast.JoinedStr):
            skipped.update(node.values)
    for node in ast.walk(tree):
        text = _literal(node)
        if text and node not in skipped and " " in text.strip():
            yield Text(name, node.lineno, kinds.get(node, "string"), text)


def _literal(node: ast.AST) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(_literal(value) or "…" for value in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def page_texts(path: Path) -> Iterator[Text]:
    """The headings of a page of Markdown, and the page as a whole."""
    name, text = path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
    yield Text(name, 1, "page", text)
    for number, line in enumerate(text.splitlines(), 1):
        if heading := re.match(r"#+ (.+)", line):
            yield Text(name, number, "heading", heading.group(1))


def texts() -> Iterator[Text]:
    """All that users read: the package, README, docs/ and the pages of experiments/."""
    for path in sorted((ROOT / "mmnet").rglob("*.py")):
        yield from python_texts(path)
    for folder in ("docs", "experiments"):
        for path in sorted((ROOT / folder).rglob("*.md")):
            yield from page_texts(path)
    yield from page_texts(ROOT / "README.md")


def main() -> None:
    """Print 40 messages and docstrings, drawn by `--seed`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seed", type=int, default=0)
    drawable = [text for text in texts() if text.kind in ("message", "docstring")]
    for text in random.Random(parser.parse_args().seed).sample(drawable, 40):
        print(f"{text.path}:{text.line} {text.kind}: {' '.join(text.text.split())}")


if __name__ == "__main__":
    main()
