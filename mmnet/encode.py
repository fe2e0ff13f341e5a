"""Encode the texts and images of an items table with frozen encoders, each of them once.

python -m mmnet.encode --items=items.csv --texts=title --text_encoder=hub --text_handle=bert

Training and scoring encode what they need themselves, through the same cache. This driver fills the
cache in advance, writes vectors for other programs, and removes unused vectors from the cache.
"""

import sys

from mmnet import config, driver

if __name__ == "__main__":
    sys.exit(driver.run(config.EncodeConfig, __doc__, "encode", sys.argv[1:]))
