"""What an item looks, sounds and reads like: raw modalities from files, tables from raw ones.

Each source says what its items have; see `sources`.

Token ids are read as numbers, position by position, padded with zeros to the longest, and reduced
by principal components: as published, and no better than it sounds (see BUILD_NOTES.md).
"""

from mmnet.mma4ctr.data.modalities.raw import Catalogue, Raw
from mmnet.mma4ctr.data.modalities.reduction import Reduction, music_width, table, tables

__all__ = [
    "Catalogue",
    "Raw",
    "Reduction",
    "music_width",
    "table",
    "tables",
]
