"""Command-line flags as pydantic models: each field is one flag.

`parse` turns a command line, flagfiles included, into a `Flags` object, and every mistake in it
into one sentence; `to_flagfile` writes the flags back. `config` declares the flags themselves.
"""

from __future__ import annotations

import csv
import inspect
import io
import os
import re
import textwrap
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pydantic
from absl import flags as absl_flags
from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

from mmnet import credentials
from mmnet.checks import InputError, did_you_mean, quoted
from mmnet.deprecations import Deprecated

Columns = Annotated[tuple[str, ...], "comma-separated"]
Numbers = Annotated[tuple[int, ...], "comma-separated"]
Repeated = Annotated[tuple[str, ...], "repeatable"]

PACKAGE = Path(__file__).parent


class Flags(BaseModel):
    """A group of flags, or all flags of a driver.

    A driver inherits the groups that it needs, and redeclares a field to change its default. The
    first line of a group's docstring is its heading in `--help`.

    Attributes:
        ESSENTIAL: the group's fields that `--help` shows; None shows all. `--helpfull` always does.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, defer_build=True)

    ESSENTIAL: ClassVar[tuple[str, ...] | None] = None

    @pydantic.field_validator("*")
    @classmethod
    def _is_one_line(cls, value: Any) -> Any:
        """Refuses text that a flagfile would not give back as it was."""
        for text in value if isinstance(value, tuple) else (value,):
            if isinstance(text, str):
                if len(text.splitlines()) > 1 or text != text.rstrip() or "\0" in text:
                    raise ValueError(
                        "must be one line that does not end with a blank; rename the column or file"
                    )
                credentials.remember(text)
        return value

    @pydantic.model_serializer(mode="wrap", when_used="json")
    def _without_secrets(self, dump: pydantic.SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The flags as they are stored."""
        gone = left_out(self)
        return {name: without_secrets(v) for name, v in dump(self).items() if name not in gone}

    @classmethod
    def beneath(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the flags that were given, with the values that they imply for other flags."""
        return dict(given)

    def check(self) -> None:
        """Raises `InputError` if flags contradict each other."""


class LogFlags(Flags):
    """Output of every command."""

    ESSENTIAL: ClassVar[tuple[str, ...] | None] = ()

    log_format: Literal["text", "json"] = Field(
        "text",
        description="Format of printed lines. json writes one JSON object per message to the "
        "standard error, with time, level, driver and message, for log collectors.",
    )


def log_format(arguments: Sequence[str]) -> str:
    """Reads `--log_format` of command-line arguments, which may be wrong in every other flag.

    >>> log_format(["--epochs=3", "--log_format=json"])
    'json'
    """
    values = _FlagValues()
    define(LogFlags, values)
    try:
        values(["mmnet", *arguments], known_only=True)
    except (absl_flags.Error, ValueError):  # `parse` explains it
        return "text"
    return str(values["log_format"].value)


def define(config: type[BaseModel], values: absl_flags.FlagValues) -> None:
    """Defines one absl flag per field of `config` in `values`."""
    for name, field in config.model_fields.items():
        _define_one(name, field, values)


def _define_one(name: str, field: FieldInfo, values: absl_flags.FlagValues) -> None:
    default, text = field.default, field.description or ""
    kind: Any = field.annotation
    how: dict[str, Any] = {"flag_values": values}
    if "repeatable" in field.metadata:
        absl_flags.DEFINE_multi_string(name, list(default), text, **how)
    elif "comma-separated" in field.metadata:
        absl_flags.DEFINE_list(name, [str(value) for value in default], text, **how)
    elif "optional value" in field.metadata:
        flag = absl_flags.Flag(absl_flags.ArgumentParser(), None, name, default, text)
        flag.boolean = True  # without a value, absl gives such a flag the text "true"
        absl_flags.DEFINE_flag(flag, values)
    elif typing.get_origin(kind) is Literal:
        absl_flags.DEFINE_enum(name, default, list(typing.get_args(kind)), text, **how)
    elif kind is bool:
        absl_flags.DEFINE_bool(name, default, text, **how)
    else:  # numbers too: pydantic parses them, and its messages are better than absl's
        absl_flags.DEFINE_string(name, str(default), text, **how)


def find(name: str, beside: str = "") -> str:
    """Finds a flagfile, or a folder of flagfiles.

    The name is looked up in the working directory, then next to the flagfile that mentions it, and
    then in the package, which has the row flagfiles (`experiments/rows`). A name that is not found
    is returned unchanged.
    """
    places = [Path(name), *([Path(beside).parent / name] if beside else []), PACKAGE / name]
    return str(next(filter(os.path.exists, places), name))  # where `Path.exists` may raise


def portable(path: Path) -> Path:
    """Returns a path inside the package as the name by which `find` finds it on any machine."""
    return path.relative_to(PACKAGE) if path.is_relative_to(PACKAGE) else path


class _FlagValues(absl_flags.FlagValues):
    """Flag values of absl that look up flagfiles by `find`, not only in the working directory."""

    def _get_flag_file_lines(self, filename: str, parsed_file_stack: Any = None) -> list[str]:
        if filename:
            filename = find(filename, parsed_file_stack[-1] if parsed_file_stack else "")
        try:
            return super()._get_flag_file_lines(filename, parsed_file_stack)
        except UnicodeDecodeError:
            raise InputError(
                f"--flagfile={filename}: not a UTF-8 text file; save it with UTF-8 encoding"
            ) from None


_NO_FLAGFILE = r".*Unable to open flagfile: \[Errno \d+\] (.*): '(.*)'"


def _sentence(error: absl_flags.Error) -> str:
    text = str(error).replace("\n", " ")
    text = re.sub(_NO_FLAGFILE, r"--flagfile=\2: \1", text)
    text = re.sub(r": \('Non-boolean .*", ": must be true or false", text)
    return re.sub(r"^(ERROR:: |flag (?=--))", "", text)


Parsed = typing.TypeVar("Parsed", bound=BaseModel)


def parse(config: type[Parsed], arguments: Sequence[str]) -> Parsed:
    """Parses command-line arguments, without the program's name, into a config.

    `model_fields_set` of the result names the flags that were given.

    Raises:
        InputError: an unknown flag, a value out of range, or a flagfile that does not exist.

    >>> class Task(Flags):
    ...     window: int = 6
    ...     taxonomies: Columns = ()
    >>> parse(Task, ["--window=3", "--taxonomies=category,tags"])
    Task(window=3, taxonomies=('category', 'tags'))
    >>> parse(Task, ["--windw=3"])
    Traceback (most recent call last):
    ...
    mmnet.checks.InputError: unknown flag --windw. Did you mean window?
    """
    given = read(config, arguments)
    if not issubclass(config, Flags):
        return build(config, given)
    found = build(config, config.beneath(given))
    found.check()
    return found


def read(config: type[BaseModel], arguments: Sequence[str]) -> dict[str, Any]:
    """Reads the flags that command-line arguments set, without validating their values.

    Raises:
        InputError: an unknown flag, or a flagfile that does not exist.
    """
    values = _FlagValues()
    define(config, values)
    define(LogFlags, values)  # of the driver, which has read it, and not part of a config
    try:
        rest = values(["mmnet", *arguments])[1:]
    except absl_flags.UnrecognizedFlagError as error:
        near = did_you_mean(error.flagname, config.model_fields)
        raise InputError(f"unknown flag --{error.flagname}{near}") from None
    except absl_flags.Error as error:
        raise InputError(_sentence(error)) from None
    except InputError:
        raise
    except ValueError as error:  # a value was given to --noflag
        raise InputError(f"{error}; write settings as --flag=value") from None
    if rest:
        raise InputError(f"unexpected argument {rest[0]!r}; write settings as --flag=value")
    given = [name for name in config.model_fields if values[name].present]
    for name in given:
        for one in config.model_fields[name].metadata:
            if isinstance(one, Deprecated):
                one.warn(f"--{name}")
    return {name: getattr(values, name) for name in given}


def build(config: type[Parsed], given: dict[str, Any]) -> Parsed:
    """Validates values into a config.

    Raises:
        InputError: a value is wrong; one sentence about the first one.
    """
    try:
        return config.model_validate(given)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"][:1])
        rule = first["msg"].removeprefix("Value error, ")
        rule = rule[0].lower() + rule[1:]
        raise InputError(f"--{name}: {rule}. Received: {quoted(first['input'])}") from None


def to_flagfile(config: BaseModel, *, leave_out: Collection[str]) -> str:
    """Writes every flag but those left out, with defaults resolved, one per line for `parse`."""
    lines, leave_out = [], {*leave_out, *left_out(config)}
    for name, field in type(config).model_fields.items():
        if name in leave_out:
            continue
        value = without_secrets(getattr(config, name))
        if "repeatable" in field.metadata:
            lines += [f"--{name}={each}" for each in value]
        elif "comma-separated" in field.metadata:
            lines.append(f"--{name}={_joined(value)}")
        elif isinstance(value, bool):
            lines.append(f"--{name}={str(value).lower()}")
        else:
            lines.append(f"--{name}={value}")
    return "\n".join(lines) + "\n"


def without_secrets(value: Any) -> Any:
    """A flag's value as it is stored: text, or a sequence of them, with its URLs redacted."""
    if isinstance(value, str):
        return credentials.redacted(value)
    if isinstance(value, (tuple, list)):
        return type(value)(map(without_secrets, value))
    return value


def expanded(url: str, flag: str) -> str:
    """A URL with the values of the environment variables that it names as `${NAME}`.

    Args:
        url: that a flag holds.
        flag: its name.

    Raises:
        InputError: a variable is not set, or the URL is one whose credentials were left out.
    """
    try:
        found = credentials.expanded(url)
    except LookupError as error:
        raise InputError(
            f"--{flag}={url}: the environment variable {error.args[0]} is not set; export it"
        ) from None
    if "://" in found and credentials.HIDDEN in found:
        raise InputError(
            f"--{flag}={url}: the credentials of this URL are not stored; give --{flag} again, "
            "with ${NAME} in place of each, which reads them from environment variables"
        )
    return found


def as_before(flags: BaseModel) -> set[str]:
    """Returns the flags marked "added later" that have their default value.

    A dataset that was prepared before a flag existed equals one prepared with its default.
    Fingerprints and directory names therefore leave such a flag out, so that they stay valid.
    """
    return {
        name
        for name, field in type(flags).model_fields.items()
        if "added later" in field.metadata and getattr(flags, name) == field.default
    }


def left_out(flags: BaseModel) -> set[str]:
    """Returns the flags marked "left out if empty" that are: files are as before they existed."""
    return {
        name
        for name, field in type(flags).model_fields.items()
        if "left out if empty" in field.metadata and not getattr(flags, name)
    }


def as_text(value: Any) -> str:
    """Returns the value of a flag for a message; a tuple of numbers as the flag has it.

    >>> as_text((1, 2)), as_text("a"), as_text(3)
    ('1,2', 'a', '3')
    """
    numbers = isinstance(value, tuple) and all(isinstance(one, int) for one in value)
    return _joined(value) if numbers and value else str(value)


def _joined(values: Sequence[Any]) -> str:
    """Joins values by commas, with quotes around a value that contains a comma."""
    text = io.StringIO()
    shown = [int(v) if isinstance(v, float) and v.is_integer() else v for v in values]
    csv.writer(text, lineterminator="").writerow(shown)
    return text.getvalue()


def named_options(
    function: Callable[..., Any], settings: Iterable[str], flag: str
) -> dict[str, Any]:
    """Parses `name=value` settings against a function's keyword-only arguments.

    Values are read by the arguments' annotations; a comma separates the parts of a tuple, `none`
    is None where the annotation allows it, and a later setting wins.

    Raises:
        InputError: an unknown name, a value of the wrong type.

    >>> def model(spec, *, units: int = 64, filters: tuple[int, ...] | None = None): ...
    >>> named_options(model, ["units=32", "filters=8,4"], "set")
    {'units': 32, 'filters': (8, 4)}
    """
    hints = typing.get_type_hints(function)
    kinds = {
        name: hints[name]
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    return options(kinds, function.__name__, settings, flag)


def options(
    kinds: Mapping[str, Any], owner: str, settings: Iterable[str], flag: str
) -> dict[str, Any]:
    """Parses `name=value` settings of options whose types are known; see `named_options`.

    Args:
        kinds: option -> its type.
        owner: name of what has these options, for messages.
        settings: `name=value` each; a later one wins.
        flag: name of the flag that gave them, for messages.
    """
    found = {}
    for setting in settings:
        name, sign, text = setting.partition("=")
        if not sign:
            raise InputError(f"--{flag} must be NAME=VALUE. Received: {setting!r}")
        if name not in kinds:
            raise InputError(
                f"--{flag}={setting}: {owner} has no option {name!r}"
                f"{did_you_mean(name, kinds)} (available: {', '.join(kinds) or 'none'})"
            )
        kind, members = kinds[name], typing.get_args(kinds[name])
        value: Any = text
        if type(None) in members and text.lower() == "none":
            value = None
        elif any(typing.get_origin(member) is tuple for member in (kind, *members)):
            value = [part.strip() for part in text.split(",") if part.strip()]
        try:
            found[name] = pydantic.TypeAdapter(kind).validate_python(value)
        except pydantic.ValidationError as error:
            rule = error.errors()[0]["msg"]
            raise InputError(f"--{flag}={setting}: {rule[0].lower()}{rule[1:]}") from None
    return found


def usage(config: type[Flags], summary: str, *, full: bool) -> str:
    """Returns the text of `--help`: the summary, then the flags by group.

    Args:
        config: all flags of a driver.
        summary: first lines of the text.
        full: whether to show every flag, or only the essential ones of each inherited group.
    """
    lines, seen, hidden = [summary.strip(), ""], set[str](), 0
    for group in _groups(config):
        inherited = [set(getattr(base, "model_fields", ())) for base in group.__bases__]
        names = [name for name in group.model_fields if name not in seen.union(*inherited)]
        seen.update(names)
        essential = vars(group).get("ESSENTIAL")
        shown = names if full or essential is None else [n for n in names if n in essential]
        hidden += len(names) - len(shown)
        if shown:
            lines += [(group.__doc__ or "").splitlines()[0]]
            fields = group.model_fields | config.model_fields  # a driver's own defaults count
            lines += [_described(name, fields[name]) for name in shown]
            lines.append("")
    if hidden:
        lines.append(f"--helpfull shows {hidden} more flags.")
    lines.append(
        "--flagfile=FILE reads flags from a file, one per line; flagfiles may include others."
    )
    return "\n".join(lines)


def _described(name: str, field: FieldInfo) -> str:
    default = field.default
    if isinstance(default, tuple):
        default = ",".join(str(value) for value in default)
    elif isinstance(default, bool):
        default = str(default).lower()
    lines = textwrap.wrap(f"{field.description}{_choices(field)}", 92, break_on_hyphens=False)
    return "\n      ".join([f"  --{name}={default}", *lines])


def _groups(config: type[Flags]) -> list[type[Flags]]:
    """Returns the classes that declare flags, the driver's own first and bases last."""
    bases = [base for parent in config.__bases__ for base in parent.__mro__]
    own = (base for base in bases if issubclass(base, Flags) and base is not Flags)
    return [config, *own, LogFlags]


def _choices(field: FieldInfo) -> str:
    kind = field.annotation
    if typing.get_origin(kind) not in (Literal, types.UnionType):
        return ""
    return f" One of: {', '.join(str(value) for value in typing.get_args(kind))}."
