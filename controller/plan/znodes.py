"""Which writes make ZooKeeper equal to what the RpcServices list.

Planned per service name: all RpcServices of one name, in whatever namespace, are one service to RPC
clients.  The *ledger* is our own record, one entry a service path, written in the same transaction
as the path: a znode that it does not name is not ours to withdraw.
"""

from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from urllib.parse import quote, unquote

import msgspec

from controller.layouts import kube2zk
from controller.model import Condition, Endpoint, Problem, RpcService
from controller.names import is_service_name

OWNED = "/rpcregistry/owned"
FENCES = "/rpcregistry/fence"


class Znode(msgspec.Struct, frozen=True):
    """A znode as it was read: its bytes, the version of them, how many children, ephemeral or not."""

    data: bytes
    version: int
    children: int = 0
    ephemeral: bool = False


class Create(msgspec.Struct, frozen=True):
    """Create a PERSISTENT znode; its parents are there."""

    path: str
    data: bytes


class Set(msgspec.Struct, frozen=True):
    """Replace the bytes of a znode that has *version*."""

    path: str
    data: bytes
    version: int


class Delete(msgspec.Struct, frozen=True):
    """Delete a znode that has *version* and no children."""

    path: str
    version: int


class Check(msgspec.Struct, frozen=True):
    """Pass only while the znode has *version*: how a transaction is fenced."""

    path: str
    version: int


Op = Create | Set | Delete | Check


class Layout(msgspec.Struct, frozen=True):
    """A layout in use: its name and the path under which it writes."""

    name: str
    base: str

    def path(self, service_name: str) -> str:
        """The service's path."""
        return f"{self.base.rstrip('/')}/{service_name}"

    @property
    def ledger_root(self) -> str:
        """Where the layout's ledger entries lie."""
        return f"{OWNED}/{self.name}"

    def ledger_path(self, path: str) -> str:
        """Where the ledger's entry of a service path lies."""
        return f"{self.ledger_root}/{quote(path, safe='')}"

    def service_name(self, ledger_entry: str) -> str | None:
        """Whose entry a child of ``ledger_root`` is; None for a service of another base path.

        >>> Layout("kube2zk", "/rpc_v2").service_name("%2Frpc_v2%2Fecho")
        'echo'
        """
        base, _, name = unquote(ledger_entry).rpartition("/")
        return name if base == self.base.rstrip("/") else None


class Ledger(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A ledger entry.

    *cluster*: whose path it is; *namespaces*: whose RpcServices list endpoints there; *config*: the
    kube2zk layout's lines, kept while the path is withdrawn; *withdrawn_at*: since when, RFC 3339.
    """

    cluster: str
    namespaces: tuple[str, ...] = ()
    config: tuple[str, ...] | None = None
    withdrawn_at: str = ""

    def encode(self) -> bytes:
        """The entry's bytes: compact JSON."""
        return msgspec.json.encode(self)


def decode_ledger(data: bytes) -> Ledger:
    """A ledger entry from its bytes; what cannot be read belongs to nobody we know, so not to us."""
    try:
        return msgspec.json.decode(data, type=Ledger)
    except msgspec.MsgspecError:
        return Ledger(cluster="(an unreadable ledger entry)")


class Settings(msgspec.Struct, frozen=True):
    """*policy*: ``sync`` or ``upsert-only``; *adopt*: ``unowned`` or ``never``; *max_znode_bytes*."""

    cluster_id: str
    cross_namespace: str = "union"
    policy: str = "sync"
    adopt: str = "unowned"
    max_znode_bytes: int = 512 * 1024


class Publication(msgspec.Struct, frozen=True):
    """What the RpcServices of one name publish together.

    *refused*: the RpcServices that do not take part, by uid.  *frozen*: something about the name
    is unknown, so what is published already stays.
    """

    endpoints: tuple[Endpoint, ...] = ()
    namespaces: tuple[str, ...] = ()
    config: tuple[str, ...] | None = None
    refused: Mapping[str, Problem] = {}
    frozen: bool = False


class Outcome(msgspec.Struct, frozen=True):
    """What to write; *refusal*: why the path is not (fully) ours to write; *notes*: what to tell."""

    ops: tuple[Op, ...] = ()
    refusal: Problem | None = None
    notes: tuple[Problem, ...] = ()


def publication(
    services: Collection[RpcService], frozen: bool, settings: Settings, holder: str = ""
) -> Publication:
    """What *services*, all RpcServices of one name, publish together.

    *holder*: the namespace that has the name, where its RpcService is missing and may come back.
    """
    ordered = sorted(services, key=lambda service: (service.generated, *service.age))
    refused: dict[str, Problem] = {}
    if settings.cross_namespace == "deny" and ordered:
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
        refused=refused,
        frozen=frozen or not all(service.known for service in ordered),
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


class Observed(msgspec.Struct, frozen=True):
    """The service's znode and its ledger entry as they were read."""

    znode: Znode | None
    ledger: Znode | None


def plan(
    layout: Layout,
    service_name: str,
    wanted: Publication,
    observed: Observed,
    settings: Settings,
    now: str,
    grace_over: bool = False,
) -> Outcome:
    """The writes that make one service path equal to *wanted*; all of them or none.

    *grace_over*: the ledger's entry was withdrawn longer ago than the ownership grace.
    """
    if not is_service_name(service_name):
        return Outcome(refusal=Problem("InvalidName", "the service name cannot be a znode's name"))
    path = layout.path(service_name)
    ledger = decode_ledger(observed.ledger.data) if observed.ledger else None
    refusal = _refusal(observed, ledger, settings, grace_over)
    if refusal:
        return Outcome(refusal=refusal if wanted.endpoints else None)
    if wanted.endpoints:
        return _publish(layout, path, wanted, observed, ledger, settings)
    if ledger is None or wanted.frozen or settings.policy == "upsert-only":
        return Outcome()
    if ledger.withdrawn_at:
        return Outcome((Delete(layout.ledger_path(path), _version(observed.ledger)),) if grace_over else ())
    return _withdraw(layout, path, ledger, observed, now)


def _refusal(
    observed: Observed, ledger: Ledger | None, settings: Settings, grace_over: bool
) -> Problem | None:
    """Why the path is somebody else's."""
    if ledger and ledger.cluster != settings.cluster_id and not (grace_over and ledger.withdrawn_at):
        return Problem("OwnedElsewhere", f"the ledger says the path belongs to cluster {ledger.cluster}")
    if observed.znode and observed.znode.ephemeral:
        return Problem("OwnedElsewhere", "an RPC server registered itself there with an ephemeral znode")
    if observed.znode and ledger is None and settings.adopt == "never":
        return Problem("OwnedElsewhere", "the znode was there before (--adopt=never)")
    return None


def _publish(
    layout: Layout,
    path: str,
    wanted: Publication,
    observed: Observed,
    ledger: Ledger | None,
    settings: Settings,
) -> Outcome:
    znode = observed.znode
    content, notes = kube2zk.render(
        wanted.endpoints,
        wanted.config,
        znode.data if znode else None,
        ledger.config if ledger else None,
        keep_servers=wanted.frozen,
    )
    data = kube2zk.encode(content)
    if len(data) > settings.max_znode_bytes:
        size = f"{len(data)} bytes, more than --max-znode-bytes={settings.max_znode_bytes}"
        return Outcome(refusal=Problem("TooLarge", f"{path} would take {size}; its last content stays"))
    names = wanted.namespaces if not (wanted.frozen and ledger) else {*wanted.namespaces, *ledger.namespaces}
    entry = Ledger(settings.cluster_id, tuple(sorted(names)), content.config).encode()
    ops = (*_write(layout.ledger_path(path), entry, observed.ledger), *_write(path, data, znode))
    return Outcome(ops, notes=notes)


def _write(path: str, data: bytes, observed: Znode | None) -> tuple[Op, ...]:
    if observed is None:
        return (Create(path, data),)
    return () if observed.data == data else (Set(path, data, observed.version),)


def _withdraw(layout: Layout, path: str, ledger: Ledger, observed: Observed, now: str) -> Outcome:
    """Remove the znode, or empty it where others have put children under it."""
    held = kube2zk.parse(observed.znode.data) if observed.znode else None
    config = held.config if held and held.config is not None else ledger.config
    entry = Ledger(ledger.cluster, config=config, withdrawn_at=now).encode()
    ops: list[Op] = [Set(layout.ledger_path(path), entry, _version(observed.ledger))]
    if observed.znode and observed.znode.children:
        content = msgspec.structs.replace(held or kube2zk.Content(config), servers=())
        ops += _write(path, kube2zk.encode(content), observed.znode)
    elif observed.znode:
        ops.append(Delete(path, observed.znode.version))
    return Outcome(tuple(ops))


def _version(znode: Znode | None) -> int:
    return znode.version if znode else 0


def synced(service: RpcService, wanted: Publication, outcomes: Iterable[Outcome]) -> Condition:
    """The Synced condition of an RpcService once *outcomes*, one a layout, were written."""
    refusals = [wanted.refused.get(service.uid), *(outcome.refusal for outcome in outcomes)]
    refusal = next(filter(None, refusals), None)
    held = sum(row.held for row in service.status.endpoints)
    if refusal:
        return Condition(type="Synced", status="False", reason=refusal.reason, message=refusal.message)
    if held:
        message = (
            f"{held} listed pods are absent and stay published until that is confirmed; "
            "`rpcregistry release` withdraws them now"
        )
        return Condition(type="Synced", status="False", reason="Held", message=message)
    return Condition(
        type="Synced", status="True", reason="Synced", message="the registry holds what the status lists"
    )


def unavailable(seconds: float) -> Condition:
    """The Synced condition of an RpcService whose own change could not be written for so long."""
    message = (
        f"a change has waited for ZooKeeper for more than {seconds:.0f} s; it holds what was written before"
    )
    return Condition(type="Synced", status="False", reason="RegistryUnavailable", message=message)
