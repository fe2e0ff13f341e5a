"""Modalities of items (images, sound, text): raw ones from files, and tables made from them.

Each source defines the modalities of its items; see `sources`.

Token ids are read as numbers, position by position, padded with zeros to the longest, and reduced
by principal components: as published, although it is a crude encoding (see BUILD_NOTES.md).
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
