"""An items table in; its texts and images as vectors of frozen encoders out, each computed once.

python -m mmnet.encode --items=items.csv --texts=title --text_encoder=hub --text_handle=bert

Training and scoring encode what they need themselves, through the same cache; this driver fills
the cache ahead of them, writes vectors for other programs, and prunes.
"""

import sys

from mmnet import config, driver

if __name__ == "__main__":
    sys.exit(driver.run(config.EncodeConfig, __doc__, "encode", sys.argv[1:]))
