import re

from mmnet import schema
from mmnet.config import TableFlags


def test_the_flags_name_the_contracts_columns_by_default():
    flags = TableFlags()
    named = (flags.item_column, flags.period_column, flags.denominator, flags.numerator)
    assert tuple(column.name for column in schema.COUNTS) == named


def test_the_items_table_has_a_flag_for_every_kind_of_column():
    kinds = {column.name for column in schema.ITEMS} - {"item_id"}
    flags = {
        name
        for name, field in TableFlags.model_fields.items()
        if re.search(r"\b[Ii]tems columns?\b", field.description)
    }
    assert kinds == flags
