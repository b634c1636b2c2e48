"""``python -m hack.clients build|golden [NAME…]``: build the watchers; record what the clients write.

It reports a watcher that cannot be built, and builds the others; the tests decide whether they need it.
"""

import sys
from collections.abc import Callable, Sequence

from hack.clients import build, golden
from hack.local.binaries import Unavailable


def main(arguments: Sequence[str]) -> int:
    """Return the exit code."""
    work: Callable[[str], object]
    match arguments:
        case ["build", *names]:
            work, names = build.command, names or list(build.ALL)
        case ["golden", *names]:
            work, names = golden.record, names or list(golden.RECORDINGS)
        case _:
            sys.stderr.write(f"{__doc__}\n")
            return 2
    for name in names:
        try:
            work(name)
        except Unavailable as error:
            sys.stderr.write(f"{error}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
