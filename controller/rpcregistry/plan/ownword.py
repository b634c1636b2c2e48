"""Which of an RpcService's rows are by our own word, where others have written its status."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from rpcregistry.model import Endpoint, RpcService
from rpcregistry.plan.publication import Place, place, places


def is_right(service: RpcService, wanted: Mapping[Place, Endpoint]) -> bool:
    """Whether every row of *service* is a *wanted* one."""
    return all(wanted.get(place(row)) == row for row in service.status.endpoints)


def taken_out(
    service: RpcService,
    remembered: Iterable[Endpoint],
    wanted: Mapping[Place, Endpoint],
    relied: Iterable[RpcService],
) -> set[Place]:
    """The wanted endpoints that others took out of *service*, and none of the others of *relied* lists.

    *remembered*: the rows of *service* by our own word.
    """
    others = (other for other in relied if other.uid != service.uid)
    listed = {place(row) for each in (service, *others) for row in each.status.endpoints}
    return places(remembered) & wanted.keys() - listed


def named_by_others(services: Iterable[RpcService], remembered: Mapping[str, Sequence[Endpoint]]) -> set[str]:
    """The pods that foreign rows name.  We publish what such a pod shows, never what its row says.

    *remembered*: by uid, the rows by our own word of the objects that others have written.
    """
    names: set[str] = set()
    for service in services:
        if service.uid in remembered:
            ours = places(remembered[service.uid])
            names |= {row.pod_name for row in service.status.endpoints if place(row) not in ours}
    return names


def is_altered(wrote: Iterable[Endpoint], answered: Iterable[Endpoint]) -> bool:
    """Whether the rows that the server *answered* lead clients elsewhere than those that we *wrote*."""

    def addresses(rows: Iterable[Endpoint]) -> Mapping[Place, tuple[str, tuple[str, ...], bool]]:
        return {place(row): (row.ip, row.ips, row.ready) for row in rows}

    return addresses(wrote) != addresses(answered)


def outdated(
    relied: Iterable[RpcService],
    wanted: Mapping[Place, Endpoint],
    has_ended: Callable[[RpcService, Endpoint], bool],
) -> tuple[frozenset[Place], frozenset[Place]]:
    """The endpoints of *relied* whose pods ended, and those that are not Ready any more.

    *has_ended*: whether a pod that is not *wanted* shows that; one that is merely absent shows nothing.
    """
    rows = [(service, row) for service in relied for row in service.status.endpoints]
    obsolete = {place(row) for service, row in rows if place(row) not in wanted and has_ended(service, row)}
    unready = {place(row) for _, row in rows if row.ready and not wanted.get(place(row), row).ready}
    return frozenset(obsolete), frozenset(unready)
