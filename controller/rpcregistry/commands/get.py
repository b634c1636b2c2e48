"""``rpcregistry get``: one row a service, its namespaces and parts folded in."""

import sys
from collections.abc import Collection, Sequence

from rpcregistry.commands.follow import follow
from rpcregistry.commands.printing import age, cannot_look, encoded, say, table
from rpcregistry.commands.reading import services_named
from rpcregistry.errors import Failure
from rpcregistry.kube.client import Kube
from rpcregistry.model import RpcService
from rpcregistry.plan.overview import Row, of_name, row, rows, state_of

HEADERS = ("SERVICE", "NAMESPACE", "READY", "SYNCED", "REASON", "AGE")
WIDE = (*HEADERS, "ORIGIN", "OBJECTS", "MESSAGE", "PATHS")


def get_services(
    kube: Kube,
    namespaces: Sequence[str],
    names: Collection[str],
    *,
    states: Collection[str],
    output: str,
    watching: bool,
) -> int:
    """Print *names* (all, if none) whose state is in *states* (any, if none), as *output* says.

    Return 0; 1 if a name is none's; 2 if we could not look.  *watching*: print changed rows until
    interrupted.
    """
    try:
        services, unknown = services_named(kube, namespaces, names)
    except Failure as failure:
        return cannot_look(failure)
    found = rows(services)
    if names:
        wanted = {service.service_name for name in names for service in of_name(services, name)}
        found = [one for one in found if one.service in wanted]
    if states:
        found = [one for one in found if state_of(one) in states]
    say(printed(found, output))
    if not services and not names and output in ("table", "wide"):
        where = f"namespace {' '.join(namespaces)}" if namespaces else "any namespace"
        sys.stderr.write(f"no RpcServices in {where}{'' if not namespaces else ' (-A looks in all)'}\n")
    if watching and not unknown:

        def changed(_: Sequence[RpcService], after: Sequence[RpcService]) -> None:
            if after and (not states or state_of(row(after)) in states):
                say(printed([row(after)], output, headers=False))

        follow(kube, namespaces, names, changed)
    return 1 if unknown else 0


def printed(found: Sequence[Row], output: str, *, headers: bool = True) -> str:
    """Rows as ``table``, ``wide``, ``json``, ``yaml`` or ``name``."""
    match output:
        case "json" | "yaml":
            return encoded({"services": found}, output)
        case "name":
            return "".join(f"{one.service}\n" for one in found)
    if not found:
        return ""
    lines = [_cells(one, wide=output == "wide") for one in found]
    text = table(WIDE if output == "wide" else HEADERS, lines)
    return text if headers else text.partition("\n")[2]


def _cells(one: Row, *, wide: bool) -> list[str]:
    ready = f"{one.ready}/{one.total}" + (f" +{one.held} held" if one.held else "")
    synced = "Unknown" if one.synced is None else str(one.synced)
    cells = [one.service, ",".join(one.namespaces), ready, synced, one.reason, age(one.created)]
    if wide:
        cells += [",".join(one.origins), str(len(one.objects)), one.message, ",".join(one.paths)]
    return cells
