"""What the kernel lets this container use."""

from collections.abc import Sequence
from math import inf
from pathlib import Path

# Of cgroups v2 and v1, as a container sees its own.
MEMORY = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
ANY = 2.0**60  # cgroups v1 say a number as large as this where there is no limit


def memory_limit(files: Sequence[Path] = MEMORY) -> float:
    """The most memory in bytes, by the first of *files* that says it; infinity: any, or unknown."""
    for file in files:
        try:
            text = file.read_text().strip()
            return inf if text == "max" or float(text) >= ANY else float(text)
        except (OSError, ValueError):
            continue
    return inf
