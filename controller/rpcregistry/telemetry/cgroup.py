"""What the kernel lets this container use."""

from collections.abc import Sequence
from math import inf
from pathlib import Path

# Of cgroups v2 and v1, as a container sees its own.
MEMORY = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def memory_limit(files: Sequence[Path] = MEMORY) -> float:
    """The most memory in bytes, by the first of *files* that says it; infinity: any, or unknown."""
    for file in files:
        try:
            text = file.read_text().strip()
            return inf if text == "max" else float(text)
        except (OSError, ValueError):
            continue
    return inf
