"""Writes the pages that are made of the code and of records: flags, options, and tables of cards.

    python docs/generate.py

`tests/test_docs.py` fails where a page is no longer what this program would write.
"""

from __future__ import annotations

import inspect
import json
import re
import typing
from pathlib import Path

from mmnet import config, flags, models
from mmnet.mma4ctr import config as clicks

ROOT = Path(__file__).parents[1]
DRIVERS = {
    "inspect": config.InspectConfig,
    "prepare": config.PrepareConfig,
    "encode": config.EncodeConfig,
    "train": config.TrainConfig,
    "evaluate": config.EvaluateConfig,
    "predict": config.PredictConfig,
    "drift": config.DriftConfig,
    "nightly": config.NightlyConfig,
    "experiment": config.ExperimentConfig,
    "mma4ctr.prepare": clicks.PrepareConfig,
    "mma4ctr.train": clicks.TrainConfig,
    "mma4ctr.evaluate": clicks.EvaluateConfig,
    "mma4ctr.predict": clicks.PredictConfig,
    "mma4ctr.experiment": clicks.ExperimentConfig,
}
"""Every command, in the order in which one needs them, and its flags."""
HEADER = "<!-- Written by docs/generate.py; edit the code instead. -->\n"
RUNS = (
    ("Github-Ranking", "github_ranking/results"),
    ("Github-Ranking, as published", "github_ranking/results_paper"),
    ("Github-Ranking, split by item", "github_ranking/results_by_item"),
    ("KuaiRand-Pure, long views", "kuairand/results"),
    ("KuaiRand-Pure, clicks", "kuairand/results_ctr"),
    ("KuaiRand-Pure, likes", "kuairand/results_like_rate"),
    ("KuaiRand-Pure, finished plays", "kuairand/results_complete_rate"),
    ("Simulated, the paper's size", "full_size/results"),
)
"""Single runs with a record of their own: title and folder."""


def pages() -> dict[Path, str]:
    """Every page that this program writes, and what is in it."""
    cards = ROOT / "docs/cards.md"
    return {
        ROOT / "docs/flags.md": flags_page(),
        ROOT / "docs/options.md": options_page(),
        cards: filled(cards.read_text(encoding="utf-8"), {"data": data(), "models": runs()}),
    }


def table(*rows: tuple[str, ...]) -> str:
    """Rows of cells as a table of Markdown, the first of them its header."""
    rows = (rows[0], ("---",) * len(rows[0]), *rows[1:])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def cell(text: str) -> str:
    """Text inside a table."""
    return " ".join(text.split()).replace("|", r"\|")


def value(default: object) -> str:
    """A default as one writes it on the command line."""
    if isinstance(default, tuple):
        default = ",".join(map(value, default)).replace("`", "")
    shown = str(default).lower() if isinstance(default, bool) or default is None else str(default)
    return f"`{cell(shown)}`" if shown else ""


# ----------------------------------------------------------------------------------- flags


def groups() -> dict[type[flags.Flags], list[str]]:
    """Each group of flags and the commands that have it, a command's own flags last."""
    found: dict[type[flags.Flags], list[str]] = {}
    for command, owner in DRIVERS.items():
        for group in flags._groups(owner):
            if own_fields(group):
                found.setdefault(group, []).append(command)
    drivers = set(DRIVERS.values())
    return dict(sorted(found.items(), key=lambda item: item[0] in drivers))


def own_fields(group: type[flags.Flags]) -> list[str]:
    """Flags that a group declares itself."""
    return [name for name in group.model_fields if name in vars(group).get("__annotations__", ())]


def flags_page() -> str:
    """Every flag of every command, by the group that declares it."""
    parts = [
        HEADER,
        "# Flags\n",
        "Every flag of every command, from the code. `--help` of a command shows the flags that "
        "most runs need, which are marked with • here; `--helpfull` shows all of them. Flags may "
        "be in a file, one per line: `--flagfile=FILE`. A flag that several commands have means "
        "the same in all of them; a command with another default has the flag in its own table.\n",
    ]
    drivers = {owner: name for name, owner in DRIVERS.items()}
    for group, commands in groups().items():
        if group in drivers:
            heading, note = f"Only `{drivers[group]}`", ""
        else:
            heading = re.split(r"[.:]", cell(inspect.getdoc(group) or ""))[0]
            note = f"Commands: {', '.join(f'`{name}`' for name in commands)}.\n"
        essential = vars(group).get("ESSENTIAL")
        rows = [("flag", "default", "meaning")]
        for name in own_fields(group):
            field = group.model_fields[name]
            mark = " •" if essential is None or name in essential else ""
            text = cell(f"{field.description}{flags._choices(field)}")
            if "repeatable" in field.metadata and "repeatable" not in text:
                text += " Repeatable."
            rows.append((f"`--{name}`{mark}", value(field.default), text))
        parts += [f"## {heading}\n", *([note] if note else []), table(*rows)]
    return "\n".join(parts)


# --------------------------------------------------------------------------------- options


def described(owner: type) -> dict[str, str]:
    """Option -> its description, from the section "Attributes" of a docstring."""
    text = (inspect.getdoc(owner) or "").partition("Attributes:\n")[2]
    found: dict[str, str] = {}
    for names, meaning in re.findall(r"^    ([\w, \n]+?): (.+?)(?=^    \w|\Z)", text, re.M | re.S):
        for name in re.split(r",\s+", names):
            found[name] = cell(meaning)
    return found


def kind(annotation: object) -> str:
    """A type as readers know it."""
    members = typing.get_args(annotation)
    if typing.get_origin(annotation) is typing.Literal:
        return " or ".join(f"`{member}`" for member in members)
    if typing.get_origin(annotation) is tuple:
        return "comma-separated numbers"
    if members:
        return " or ".join(kind(member) for member in members)
    names = {"str": "text", "int": "whole number", "float": "number", "bool": "`true` or `false`"}
    name = getattr(annotation, "__name__", str(annotation))
    return {"NoneType": "`none`", **names}.get(name, name)


def options_page() -> str:
    """The options of every model, by the group that declares them."""
    found: dict[type, list[str]] = {}
    for model, builder in models.REGISTRY.items():
        for owner in builder.options.__mro__:
            if vars(owner).get("__annotations__") and issubclass(owner, models.Options):
                found.setdefault(owner, []).append(model)
    parts = [
        HEADER,
        "# Options of the models\n",
        "Options are set by `--set=name=value`, and in Python by arguments of the same name. "
        "Those with a flag of their own are set by that flag: "
        f"{', '.join(f'`--{name}`' for name in sorted(with_flags()))}. A default in a table below "
        "that lists one model is that model's own.\n",
    ]
    for owner, names in sorted(found.items(), key=lambda item: -len(item[1])):
        meanings = described(owner)
        rows = [("option", "value", "default", "meaning")]
        for name in vars(owner)["__annotations__"]:
            if name not in ("model_config",):
                field = owner.model_fields[name]
                cells = (kind(field.annotation), value(field.default), meanings.get(name, ""))
                rows.append((f"`{name}`", *cells))
        title = (inspect.getdoc(owner) or "").splitlines()[0].rstrip(".")
        title = f"`{names[0]}`" if len(names) == 1 else title.partition("; see")[0]
        note = [] if len(names) == 1 else [f"Models: {', '.join(f'`{n}`' for n in names)}.\n"]
        parts += [f"## {title}\n", *note, table(*rows)]
    return "\n".join(parts)


def with_flags() -> set[str]:
    """Options that are flags too."""
    options = {name for one in models.REGISTRY.values() for name in one.options.model_fields}
    return (options & set(config.ModelFlags.model_fields)) | {"seed"}


# ----------------------------------------------------------------------------------- cards


def filled(page: str, sections: dict[str, str]) -> str:
    """A page with the text between its marks replaced."""
    for name, text in sections.items():
        begin, end = f"<!-- generated: {name} -->\n", "<!-- end -->"
        before, found, rest = page.partition(begin)
        if not found:
            raise ValueError(f"the page lacks {begin!r}")
        page = f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}"
    return page


def record(folder: str) -> dict:
    """The record of a run."""
    path = ROOT / "experiments" / folder / "record.json"
    return json.loads(path.read_text(encoding="utf-8"))


def data() -> str:
    """Files, rows and dates of the logs of single runs."""
    rows = [("run", "files (SHA-256, first 12)", "counts", "train / validation / test rows")]
    for title, folder in RUNS:
        one = record(folder)
        files = "<br>".join(f"`{name}` {sha[:12]}" for name, sha in one["inputs"].items())
        rules = one["rows_per_rule"]
        counts = rules.get("counts: not before the item's release", "")
        examples = [number for rule, number in rules.items() if rule.startswith("examples: ")]
        sizes = " / ".join(f"{number:,}" for number in examples)
        rows.append((f"[{title}](../experiments/{folder}/table.md)", files, f"{counts:,}", sizes))
    return table(*rows)


def runs() -> str:
    """Sizes, cost and errors of single runs."""
    rows = [("run", "parameters", "training", "memory", "MSE normal / cold-start / noisy", "P@5 %")]
    for title, folder in RUNS:
        one = record(folder)
        scenarios = [one["metrics"][name] for name in ("normal", "cold_start", "noisy")]
        rows.append(
            (
                f"[{title}](../experiments/{folder}/table.md)",
                f"{one['parameters']:,}",
                f"{one['stage_seconds']['train']:.0f} s",
                f"{one['peak_memory_bytes'] / 2**30:.1f} GiB",
                " / ".join(f"{metrics['mse']:.2f}" for metrics in scenarios),
                " / ".join(f"{metrics['precision_at_5']:.3f}" for metrics in scenarios),
            )
        )
    return table(*rows)


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
