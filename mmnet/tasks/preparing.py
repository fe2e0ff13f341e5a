"""Tables in, a dataset directory out; contents in, vectors out."""

from __future__ import annotations

import functools
from pathlib import Path

from mmnet.checks import InputError, quoted
from mmnet.config import (
    EncodeConfig,
    PrepareConfig,
    TableFlags,
    TrainConfig,
)
from mmnet.console import Progress
from mmnet.data import content, input_tables, kept_counts, pipeline, store, table_files, tables
from mmnet.data import dataset as datasets
from mmnet.data.arrays import new_array
from mmnet.data.content import Encoders
from mmnet.data.dataset import Dataset, Fitted
from mmnet.data.dialects import text_options
from mmnet.data.ids import item_ids, without_repeats
from mmnet.serving import parent
from mmnet.tasks.shown import (
    console,
    print_ledger,
    print_remarks,
    print_rules,
    target_remarks,
)


def prepare(flags: PrepareConfig) -> None:
    """Tables in, a dataset directory out."""
    if not flags.dataset_dir:
        raise InputError("--dataset_dir not given; name the directory to write")
    earlier = parent.read(flags.warm_start).fitted if flags.warm_start else None
    dataset = dataset_of_tables(flags, Path(flags.dataset_dir), earlier)
    print_ledger(dataset)
    print_remarks(target_remarks(dataset, "train", "validation"))  # test stays closed
    console.print(f"dataset: {flags.dataset_dir}")


def dataset_of_tables(
    flags: PrepareConfig | TrainConfig,
    directory: Path,
    earlier: Fitted | None = None,
    *,
    refit: bool = False,
) -> Dataset:
    """Prepare a dataset directory from the tables, or reuse it if it is complete and unchanged.

    Args:
        flags: flags of the tables and of the examples.
        directory: the dataset directory.
        earlier: see `pipeline.prepare`.
        refit: likewise.

    Raises:
        InputError: another process is making it.
    """
    with datasets.STORE.only_one(directory), Progress("reading the tables") as progress:
        table_flags, task_flags = input_tables.table_flags(flags)
        encoders = Encoders(table_flags)
        try:
            found = input_tables.load_tables(
                table_flags, task_flags, directory, grouped_by=task_flags.split_group
            )
        except InputError as error:
            error.of_tables = bool(error.ledger)  # rows of events were judged
            raise
        fingerprint, hashes = input_tables.fingerprint(
            found, table_flags, task_flags, encoders, earlier
        )
        fingerprint += "-refit" if refit else ""

        def fill(folder: Path) -> store.About:
            progress.advance(title="making the dataset")
            allocate = functools.partial(new_array, folder)
            try:
                made = pipeline.prepare(
                    *(found, table_flags, task_flags, encoders, allocate),
                    earlier=earlier,
                    refit=refit,
                )
            except InputError as error:
                error.of_tables = bool(flags.items)  # those of a source have a known layout
                raise
            made.inputs = hashes
            return datasets.write(made, folder)

        dataset = datasets.STORE.unchanged(directory, fingerprint)
        if dataset is None:
            dataset = datasets.STORE.write(directory, fingerprint, fill)
        else:
            console.print(f"reusing the unchanged dataset in {directory}")
        kept_counts.keep(found.kept, directory)
        return dataset


def encode(flags: EncodeConfig) -> None:
    """An items table in; its texts and images as vectors in the cache, and as Parquet."""
    if not flags.items:
        raise InputError("--items not given; name the items table")
    encoders = Encoders(flags)
    if not encoders.columns:
        raise InputError(
            "nothing to encode; give --texts with --text_encoder=hub, or --images with "
            "--image_encoder"
        )
    columns = [flags.item_column, *flags.texts, *flags.images]
    named = {name: f"{kind}s" for name, kind in encoders.columns}
    for name in named:
        if flags.output and (Path(name).name != name or "\0" in name):
            raise InputError(
                f"column {quoted(name)} cannot be the name of a file in --output; rename it"
            )
    said = text_options(flags.text_set, "items")
    tables.check_header(flags.items, "items", {flags.item_column: "item_column"} | named, said)
    items = tables.read(flags.items, "items", columns=columns, said=said)
    print_rules(table_files.rules(flags.items, items.files))
    names = TableFlags(item_column=flags.item_column)
    if flags.repeats == "drop":
        kept, rule = without_repeats(items, names)
        items = kept.read()
        print_rules([rule])
    ids = item_ids(items, names).part(slice(0, len(items)))
    for encoded in encoders.encode(items):
        console.print(f"{encoded.column.name}: {encoded.hits:,} found, {encoded.encoded:,} encoded")
        print_rules([encoded.rule])
        if flags.output:
            path = content.write(encoded, ids, flags.item_column, flags.output)
            console.print(f"  {path}")
    if flags.prune:
        for kind, dropped in encoders.prune(items).items():
            console.print(f"{kind} cache: {dropped:,} vectors dropped")
