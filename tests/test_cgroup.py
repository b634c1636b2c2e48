"""The memory limit, as the kernel's files have it."""

from math import inf
from pathlib import Path

import pytest

from rpcregistry.telemetry.cgroup import memory_limit


@pytest.mark.parametrize(
    ("texts", "limit"),
    [
        pytest.param(["1073741824\n", None], 1 << 30, id="a limit"),
        pytest.param(["max\n", "5\n"], inf, id="no limit"),
        pytest.param([None, "9223372036854771712\n"], inf, id="cgroups v1, without a limit"),
        pytest.param(["?\n", None], inf, id="unknown"),
    ],
)
def test_the_memory_limit_is_what_the_first_file_says(tmp_path: Path, texts: list[str | None], limit: float):
    files = [tmp_path / str(number) for number, _ in enumerate(texts)]
    for file, text in zip(files, texts, strict=True):
        if text is not None:
            file.write_text(text)
    assert memory_limit(files) == limit
