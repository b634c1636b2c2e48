"""What all RpcServices of one name publish together: they are one service to RPC clients."""

from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from enum import Enum

import msgspec

from rpcregistry.model import UNREPORTED, Endpoint, Problem, RpcService

# A row's identity, in whichever object it is listed: pod uid and port.
Place = tuple[str, int | None]


def place(row: Endpoint) -> Place:
    """The identity of a row's endpoint."""
    return row.pod_uid, row.port


def places(rows: Iterable[Endpoint]) -> set[Place]:
    """Which endpoints *rows* are about."""
    return {place(row) for row in rows}


class CrossNamespace(Enum):
    """What one service name in several namespaces means: one service, or that of the first namespace only."""

    UNION = "union"
    DENY = "deny"


class Policy(Enum):
    """Which changes are written: all, or those that take nothing away."""

    SYNC = "sync"
    UPSERT_ONLY = "upsert-only"

    @property
    def removes(self) -> bool:
        """Whether to write pure removals, too."""
        return self is Policy.SYNC


class Adopt(Enum):
    """Whether znodes that no ledger entry names are taken over."""

    UNOWNED = "unowned"
    NEVER = "never"


class PublicationSettings(msgspec.Struct, frozen=True):
    """*from_cluster*: the id of a former cluster whose paths this one takes over, or ``""``."""

    cluster_id: str
    cross_namespace: CrossNamespace = CrossNamespace.UNION
    policy: Policy = Policy.SYNC
    adopt: Adopt = Adopt.UNOWNED
    max_znode_bytes: int = 512 * 1024
    from_cluster: str = ""

    @property
    def clusters(self) -> tuple[str, ...]:
        """The ids of the clusters whose paths are ours to change."""
        return tuple(dict.fromkeys(filter(None, (self.cluster_id, self.from_cluster))))


class Unlisted(msgspec.Struct, frozen=True):
    """What statuses do not say: what they lack because the API server refused a write, and why rows are held.

    *endpoints*: those that no status lists and one should.  *services*: the uids of the RpcServices that
    should list them.  *obsolete* and *unready*: listed endpoints that their pods show to have ended, or not
    to be Ready.  *refusals*: what to report, by namespace.  *endless*: why listed endpoints are held without
    time limit, or ``""``.
    """

    endpoints: tuple[Endpoint, ...] = ()
    services: Collection[str] = ()
    obsolete: frozenset[Place] = frozenset()
    unready: frozenset[Place] = frozenset()
    refusals: Mapping[str, Problem] = {}
    endless: str = ""


ALL_LISTED = Unlisted()


class Publication(msgspec.Struct, frozen=True):
    """What the RpcServices of one name publish together.

    *services*: how many of them take part.  *refused*: those that do not, by uid.  *frozen*: something about
    the name is unknown, so the registry keeps what it has published.  *unlisted*: endpoints that no
    RpcService lists because a write was refused; the registry keeps those of them that it has published.
    *unwritten*: what to report of refused statuses, by namespace.  *endless*: why endpoints are held without
    time limit, or ``""``.
    """

    endpoints: tuple[Endpoint, ...] = ()
    namespaces: tuple[str, ...] = ()
    config: tuple[str, ...] | None = None
    services: int = 0
    refused: Mapping[str, Problem] = {}
    frozen: bool = False
    unlisted: tuple[Endpoint, ...] = ()
    unwritten: Mapping[str, Problem] = {}
    endless: str = ""


def publication(
    services: Collection[RpcService],
    frozen: bool,
    settings: PublicationSettings,
    holder: str = "",
    unlisted: Unlisted = ALL_LISTED,
) -> Publication:
    """What *services*, all RpcServices of one name, publish together.

    *holder*: the namespace that owns the name while its RpcService is missing, unconfirmed.
    """
    ordered = sorted(
        (_as_shown(service, unlisted) for service in services),
        key=lambda service: (service.generated, *service.age),
    )
    refused: dict[str, Problem] = {}
    if settings.cross_namespace is CrossNamespace.DENY and ordered:
        home = holder or ordered[0].namespace
        problem = Problem(
            "OwnedElsewhere", f"namespace {home} has this service name (--cross-namespace=deny)"
        )
        refused = {service.uid: problem for service in ordered if service.namespace != home}
        ordered = [service for service in ordered if service.namespace == home]
    declared = [service.spec for service in ordered if not service.generated]
    threshold = next((spec.protect_threshold for spec in declared if spec.protect_threshold), 0)
    everything = _switched_on(ordered)
    endpoints = {
        service.uid: published(service.status.endpoints, service.uid in everything) for service in ordered
    }
    if _protected([row for service in ordered for row in service.status.endpoints], threshold):
        endpoints = {
            service.uid: tuple(
                row for row in service.status.endpoints if service.uid in everything or _started(row)
            )
            for service in ordered
        }
    return Publication(
        endpoints=tuple(row for rows in endpoints.values() for row in rows),
        namespaces=tuple(sorted({service.namespace for service in ordered if endpoints[service.uid]})),
        config=next((spec.config for spec in declared if spec.config is not None), None),
        services=len(ordered),
        refused=refused,
        frozen=frozen
        or any(service.unreadable for service in ordered)
        or not all(service.known or service.uid in unlisted.services for service in ordered),
        unlisted=published(unlisted.endpoints, any(s.spec.publish_not_ready_addresses for s in ordered)),
        unwritten=unlisted.refusals,
        endless=unlisted.endless,
    )


def without_additions(wanted: Publication) -> Publication:
    """*wanted*, where nothing can be added: keep what is published of it, remove all else."""
    return msgspec.structs.replace(wanted, endpoints=(), unlisted=(*wanted.endpoints, *wanted.unlisted))


def _as_shown(service: RpcService, unlisted: Unlisted) -> RpcService:
    """*service* as its pods show it: without obsolete rows, and with unready ones marked so."""
    if not (unlisted.obsolete or unlisted.unready):
        return service
    rows = tuple(
        msgspec.structs.replace(row, ready=row.ready and place(row) not in unlisted.unready)
        for row in service.status.endpoints
        if place(row) not in unlisted.obsolete
    )
    return msgspec.structs.replace(service, status=msgspec.structs.replace(service.status, endpoints=rows))


def published(rows: Iterable[Endpoint], everything: bool) -> tuple[Endpoint, ...]:
    """The rows to publish: the Ready ones, or all."""
    return tuple(row for row in rows if everything or row.ready)


def _switched_on(services: Sequence[RpcService]) -> Container[str]:
    """The uids of RpcServices that publish not-Ready addresses; a part follows its head."""
    heads = {service.uid for service in services if service.spec.publish_not_ready_addresses}
    return heads | {service.uid for service in services if service.is_part and service.owner_uid in heads}


def _protected(rows: Sequence[Endpoint], threshold: int) -> bool:
    """Whether fewer than *threshold* percent are Ready, so that clients are better off with all.

    Pending pods, whose containers have not all started once, do not count: a cold start is no failure.
    """
    counted = list(filter(_started, rows))
    return sum(row.ready for row in counted) * 100 < threshold * len(counted)


def _started(row: Endpoint) -> bool:
    return row.ready or row.phase in ("", "Running", UNREPORTED)  # a row that says nothing means the usual
