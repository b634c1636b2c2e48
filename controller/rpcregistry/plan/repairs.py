"""When to repair what others changed: at once, and with growing back-off if they change it again."""

from collections.abc import Collection

import msgspec

PERIOD = 60.0  # seconds
AT_ONCE = 10  # within a period
LONGEST_PAUSE = 30.0


class Repair(msgspec.Struct, frozen=True, gc=False):
    """A znode of *service* in *layout* that was put back; *done*: what others had done to it."""

    service: str
    layout: str
    done: str


def lately(times: Collection[float], now: float) -> int:
    """How many of *times* are within the period before *now*."""
    return sum(now - at < PERIOD for at in times)


def rewrite_pause(rewritten: Collection[float], now: float) -> float:
    """The seconds to wait before we rewrite a status that others keep writing.

    >>> [rewrite_pause([0.0] * times, 0.25) for times in (0, 1, 2, 3, 8)]
    [0.0, 0.75, 1.75, 3.75, 29.75]
    """
    times = lately(rewritten, now)
    return max(0.0, max(rewritten) + min(LONGEST_PAUSE, 2.0 ** min(times - 1, 5)) - now) if times else 0.0


def pause(repairs: Collection[float], now: float) -> float:
    """The seconds to wait before the next repair of a service that was repaired at the times *repairs*.

    >>> [pause([0.0] * repairs, 1.0) for repairs in (0, 9, 10, 12, 50)]
    [0.0, 0.0, 1.0, 4.0, 30.0]
    """
    more = lately(repairs, now) - AT_ONCE
    return 0.0 if more < 0 else min(LONGEST_PAUSE, 2.0 ** min(more, 5))
