"""A fork server whose forks print each line of their input with a number they count."""

import sys

from mmnet.experiments.fork_server import serve

NUMBERS = [10]
"""What was made before the fork; a fork changes its own."""


def work():
    """Counts; ends with the number."""
    for line in sys.stdin:
        NUMBERS[0] += 1
        print("noted", line.strip(), file=sys.stderr, flush=True)
        print(NUMBERS[0], line.strip(), flush=True)
    return NUMBERS[0]


if __name__ == "__main__":
    print("imported", sys.argv[2], file=sys.stderr, flush=True)
    if sys.argv[2] == "broken":
        sys.exit(7)
    sys.exit(serve(int(sys.argv[1]), work))
