"""python -m tests.fuzz --kind=drivers --count=300 --seed=1000."""

import sys

from tests.fuzz.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
