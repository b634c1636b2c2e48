"""Znodes as each client's own library writes them: the recordings of ``tests/golden``, at other addresses."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parents[1] / "golden"
RECORDED = "10.0.0.1"  # the address in every recording


def recording(layout: str) -> Mapping[str, Any]:
    """What the layout's own client wrote."""
    return dict(json.loads((GOLDEN / layout / "written.json").read_text()))


def instance(layout: str, address: str) -> tuple[str, bytes]:
    """The recorded znode of an instance, path and data, as it is for another *address*.

    A name that does not hold the address gets its last number appended: some clients want digits there.
    """
    (recorded,) = [znode for znode in recording(layout)["znodes"] if znode["ephemeral"]]
    path = recorded["path"].replace(RECORDED, address)
    if RECORDED not in recorded["path"]:
        path += address.rpartition(".")[2]
    return path, recorded["data"].replace(RECORDED, address).encode("latin-1")
