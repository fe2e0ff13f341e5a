"""What an item looks, sounds and reads like: raw modalities from files, tables from raw ones.

| modality | WeChat | TikTok |
|---|---|---|
| visual | words read off the pictures (`ocr`, else `ocr_char`) | 128 numbers |
| acoustic | characters of the speech (`asr_char`, else `asr`); singer; song | 128 numbers |
| textual | words of the description (else its characters); keywords; tags | word ids of the title |

Token ids are read as numbers, position by position, padded with zeros to the longest, and reduced
by principal components: as published, and no better than it sounds (see BUILD_NOTES.md).
"""

from mmnet.mma4ctr.data.modalities.feeds import wechat
from mmnet.mma4ctr.data.modalities.json_lines import tiktok_features
from mmnet.mma4ctr.data.modalities.raw import Catalogue, Raw
from mmnet.mma4ctr.data.modalities.reduction import Reduction, music_width, table, tables

__all__ = [
    "Catalogue",
    "Raw",
    "Reduction",
    "music_width",
    "table",
    "tables",
    "tiktok_features",
    "wechat",
]
