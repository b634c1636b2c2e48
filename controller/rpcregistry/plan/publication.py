"""What all RpcServices of one name publish together: they are one service to RPC clients."""

from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from enum import Enum

import msgspec

from rpcregistry.model import Endpoint, Problem, RpcService


class CrossNamespace(Enum):
    """What the same service name in several namespaces means: one service of all, or of the first only."""

    UNION = "union"
    DENY = "deny"


class Policy(Enum):
    """Which changes are written: all, or those that take nothing away."""

    SYNC = "sync"
    UPSERT_ONLY = "upsert-only"

    @property
    def removes(self) -> bool:
        """Whether what only takes away is written, too."""
        return self is Policy.SYNC


class Adopt(Enum):
    """Whether znodes that no ledger entry names are taken over."""

    UNOWNED = "unowned"
    NEVER = "never"


class PublicationSettings(msgspec.Struct, frozen=True):
    """*from_cluster*: the id of a cluster that is no more, whose paths this one takes over, or ``""``."""

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
    """What statuses lack, since a write was refused: *endpoints*, and the *services* to list them, by uid."""

    endpoints: tuple[Endpoint, ...] = ()
    services: Collection[str] = ()


ALL_LISTED = Unlisted()


class Publication(msgspec.Struct, frozen=True):
    """What the RpcServices of one name publish together.

    *services*: how many of them take part; *refused*: those that do not, by uid.  *frozen*: something
    about the name is unknown, so what is published already stays.  *unlisted*: what pods show and no
    RpcService could be made to list; of that, too, what is published already stays.
    """

    endpoints: tuple[Endpoint, ...] = ()
    namespaces: tuple[str, ...] = ()
    config: tuple[str, ...] | None = None
    services: int = 0
    refused: Mapping[str, Problem] = {}
    frozen: bool = False
    unlisted: tuple[Endpoint, ...] = ()


def publication(
    services: Collection[RpcService],
    frozen: bool,
    settings: PublicationSettings,
    holder: str = "",
    unlisted: Unlisted = ALL_LISTED,
) -> Publication:
    """What *services*, all RpcServices of one name, publish together.

    *holder*: the namespace that has the name, where its RpcService is missing and may come back.
    """
    ordered = sorted(services, key=lambda service: (service.generated, *service.age))
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
        frozen=frozen or not all(service.known or service.uid in unlisted.services for service in ordered),
        unlisted=published(unlisted.endpoints, any(s.spec.publish_not_ready_addresses for s in ordered)),
    )


def published(rows: Iterable[Endpoint], everything: bool) -> tuple[Endpoint, ...]:
    """The rows that clients may be sent to: the Ready ones, or all."""
    return tuple(row for row in rows if everything or row.ready)


def _switched_on(services: Sequence[RpcService]) -> Container[str]:
    """The uids of those that publish not-Ready addresses; a part does as its head does."""
    heads = {service.uid for service in services if service.spec.publish_not_ready_addresses}
    return heads | {service.uid for service in services if service.is_part and service.owner_uid in heads}


def _protected(rows: Sequence[Endpoint], threshold: int) -> bool:
    """Whether so few are Ready that clients are better off with all.

    Pods whose containers have not all started once (phase Pending) do not count: a cold start is
    no failure.
    """
    counted = list(filter(_started, rows))
    return sum(row.ready for row in counted) * 100 < threshold * len(counted)


def _started(row: Endpoint) -> bool:
    return row.ready or row.phase == "Running"
