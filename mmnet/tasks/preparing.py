"""Tables in, a dataset directory out; contents in, vectors out."""

from __future__ import annotations

import contextlib
from pathlib import Path

from mmnet.checks import InputError
from mmnet.config import (
    EncodeConfig,
    PrepareConfig,
    TrainConfig,
)
from mmnet.data import content, input_tables, pipeline, tables
from mmnet.data import dataset as datasets
from mmnet.data.columns import strings
from mmnet.data.content import Encoders
from mmnet.data.dataset import Dataset
from mmnet.files import only_one, recover_directory
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
    dataset = dataset_of_tables(flags, Path(flags.dataset_dir))
    print_ledger(dataset)
    print_remarks(target_remarks(dataset, "train", "validation"))  # test stays closed
    console.print(f"dataset: {flags.dataset_dir}")


def dataset_of_tables(flags: PrepareConfig | TrainConfig, directory: Path) -> Dataset:
    """Makes a dataset directory of the tables, unless it was made of these and is whole.

    Raises:
        InputError: another process is making it.
    """
    place = directory.resolve()
    with only_one(
        place.parent / f".{place.name}.lock",
        f"--dataset_dir={directory} is being made by another process; wait for it, or choose "
        "another",
        remove=True,
    ):
        recover_directory(place)
        return _made_dataset(flags, directory)


def _made_dataset(flags: PrepareConfig | TrainConfig, directory: Path) -> Dataset:
    table_flags, task_flags = input_tables.table_flags(flags)
    encoders = Encoders(table_flags)
    found = input_tables.load_tables(table_flags, task_flags, directory)
    fingerprint, hashes = input_tables.fingerprint(found, table_flags, task_flags, encoders)
    if datasets.fingerprint_of(directory) == fingerprint:
        with contextlib.suppress(InputError):  # it is damaged: made anew below
            dataset = datasets.load(directory)
            console.print(f"reusing the unchanged dataset in {directory}")
            return dataset

    def make(new: datasets.NewDirectory) -> Dataset:
        dataset = pipeline.prepare(found, table_flags, task_flags, encoders, new.array)
        dataset.fingerprint, dataset.inputs = fingerprint, hashes
        return dataset

    return datasets.load(datasets.create(directory, make))


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
    tables.check_header(flags.items, "items", {flags.item_column: "item_column"} | named)
    items = tables.read(flags.items, "items", text_columns=columns)
    ids = strings(items, flags.item_column, "item_column")
    for encoded in encoders.encode(items):
        console.print(f"{encoded.column.name}: {encoded.hits:,} found, {encoded.encoded:,} encoded")
        print_rules([encoded.rule])
        if flags.output:
            path = content.write(encoded, ids, flags.item_column, flags.output)
            console.print(f"  {path}")
    if flags.prune:
        for kind, dropped in encoders.prune(items).items():
            console.print(f"{kind} cache: {dropped:,} vectors dropped")
