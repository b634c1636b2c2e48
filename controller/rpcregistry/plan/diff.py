"""Writes as the lines of a diff, for people: ``+`` what would be made, ``~`` changed, ``-`` removed."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from rpcregistry.plan.ops import Create, Delete, Op, Set

OURS = "/rpcregistry/"  # the ledger: it follows from the rest
LONGEST = 160  # characters of a znode's data


class Line(msgspec.Struct, frozen=True):
    """*what* would be made (``+``), changed (``~``) or removed (``-``), and in short how it would be."""

    sign: str
    what: str
    how: str = ""

    def __str__(self) -> str:
        return f"{self.sign} {self.what}{'  ' if self.how else ''}{self.how}"


def of_znode(op: Op) -> Line | None:
    """The line of an operation on a znode; None if it is no write, or one of the ledger.

    >>> str(of_znode(Create("/rpc_v2/echo", b"{}")))
    '+ /rpc_v2/echo  {}'
    """
    match op:
        case Create(path, data) if not path.startswith(OURS):
            return Line("+", path, _short(data))
        case Set(path, data, _) if not path.startswith(OURS):
            return Line("~", path, _short(data))
        case Delete(path, _) if not path.startswith(OURS):
            return Line("-", path)
    return None


def _short(data: bytes) -> str:
    text = data.decode(errors="replace")
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(data):,} bytes)"


def of_object(sign: str, kind: str, name: str, body: Mapping[str, Any] | None = None) -> Line:
    """The line of a write of a Kubernetes object; *body*: what is written of it.

    >>> status = {"endpoints": [{"ip": "10.0.0.1"}], "ready": "1/1"}
    >>> str(of_object("~", "RpcService", "a/b", {"status": status}))
    '~ RpcService a/b  status: 1/1 Ready, 10.0.0.1'
    """
    return Line(sign, f"{kind} {name}", "; ".join(_parts(body or {})))


def _parts(body: Mapping[str, Any]) -> Iterable[str]:
    status, metadata = body.get("status") or {}, body.get("metadata") or {}
    if "endpoints" in status:
        addresses = [row["ip"] for row in status["endpoints"]]
        more = f" and {len(addresses) - 5} more" if len(addresses) > 5 else ""
        yield f"status: {status['ready']} Ready, {' '.join(addresses[:5]) or 'no endpoint'}{more}"
    elif "nodes" in status:
        yield f"status: {status['readyNodes']}/{status['nodes']} nodes Ready"
    for condition in () if "endpoints" in status else status.get("conditions") or ():
        if condition["type"] == "Synced":
            yield f"Synced {condition['status']}, {condition['reason']}"
    for field in ("labels", "annotations"):
        for key, value in (metadata.get(field) or {}).items():
            yield f"{field.removesuffix('s')} {key}" + (" removed" if value is None else f"={value}")


def summary(lines: Iterable[Line]) -> str:
    """How much would be written.

    >>> summary([Line("+", "/a"), Line("+", "/b"), Line("-", "/c")])
    '2 to make, 0 to change, 1 to remove'
    """
    count = Counter(line.sign for line in lines)
    return f"{count['+']:,} to make, {count['~']:,} to change, {count['-']:,} to remove"
