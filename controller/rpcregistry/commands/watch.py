"""``rpcregistry watch``: a line for each change of a service, until interrupted."""

import sys
from collections.abc import Collection, Sequence
from datetime import datetime

import msgspec

from rpcregistry.commands.follow import follow
from rpcregistry.commands.printing import cannot_look, say
from rpcregistry.commands.reading import services_named
from rpcregistry.errors import Failure
from rpcregistry.kube.client import Kube
from rpcregistry.model import RpcService
from rpcregistry.plan.overview import changes, row
from rpcregistry.telemetry.logging import printable


class Line(msgspec.Struct, frozen=True):
    """One change: *what* has addresses that came (``+``) or went (``-``), and the new reason of Synced."""

    time: str
    service: str
    namespaces: tuple[str, ...]
    ready: str
    what: tuple[str, ...]


def watch_services(kube: Kube, namespaces: Sequence[str], names: Collection[str], *, output: str) -> int:
    """Print each change of *names* (all, if none) as ``text`` or ``json``, until interrupted.

    Return 2 if we could not look.  A name that is none's may be somebody's later.
    """
    try:
        services_named(kube, namespaces, names)
    except Failure as failure:
        return cannot_look(failure)
    where = f"namespace {' '.join(namespaces)}" if namespaces else "all namespaces"
    sys.stderr.write(f"watching RpcServices in {where}; Ctrl-C ends it\n")

    def changed(before: Sequence[RpcService], after: Sequence[RpcService]) -> None:
        what = tuple(changes(before, after))
        if what:
            found = row(after or before)
            now = datetime.now().astimezone().isoformat(timespec="milliseconds")
            ready = f"{found.ready}/{found.total}" if after else "-"
            line = Line(now, found.service, found.namespaces, ready, what)
            say(msgspec.json.encode(line).decode() + "\n" if output == "json" else _text(line))

    follow(kube, namespaces, names, changed)
    return 0


def _text(line: Line) -> str:
    fields = (line.time, line.service, ",".join(line.namespaces), line.ready, " ".join(line.what))
    return printable("  ".join(fields)) + "\n"
