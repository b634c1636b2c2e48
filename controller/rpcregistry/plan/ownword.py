"""Which of an RpcService's rows are by our own word, where others have written its status."""

from collections.abc import Collection, Container, Iterable, Mapping, Sequence

from rpcregistry.model import Endpoint, Pod, RpcService
from rpcregistry.plan.pods import is_listed
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
    relied: Collection[RpcService],
    wanted: Mapping[Place, Endpoint],
    pods: Mapping[str, Pod | None],
    confirmed: Container[str],
    judged: Container[str],
) -> tuple[frozenset[Place], frozenset[Place]]:
    """The endpoints of *relied* whose pods ended or moved, and those that are not Ready any more.

    *pods*: by name, all that *relied* lists; a pod that is merely absent shows nothing.  *confirmed*: the
    uids of pods that no longer exist.  *judged*: the uids of the objects that exist and can be read, so that
    *wanted* has all that they select.
    """
    heads = {service.uid: service for service in relied}

    def has_ended(service: RpcService, row: Endpoint) -> bool:
        pod = pods.get(row.pod_name)
        if row.pod_uid in confirmed or pod is None:
            return row.pod_uid in confirmed
        return pod.uid != row.pod_uid or not is_listed(pod) or not may_select(service)

    def may_select(service: RpcService) -> bool:
        """Whether *service* listed pods that do not name the service, and nobody can ask it any more."""
        uid = service.owner_uid if service.is_part else service.uid
        head = heads.get(uid)
        return uid not in judged and (head is None or head.spec.selector is not None)

    rows = [(service, row) for service in relied for row in service.status.endpoints]
    obsolete = {
        place(row)
        for service, row in rows
        if (_has_moved(row, wanted[place(row)]) if place(row) in wanted else has_ended(service, row))
    }
    unready = {place(row) for _, row in rows if row.ready and not wanted.get(place(row), row).ready}
    return frozenset(obsolete), frozenset(unready)


def _has_moved(row: Endpoint, shown: Endpoint) -> bool:
    """Whether the pod of *row* has another address by now."""
    return row.ip not in (shown.ip, *shown.ips)
