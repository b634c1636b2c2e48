"""One verb on one kind is refused for a while, in every way in which that is done, beside each change.

Each cell of the table has a namespace of its own: what is refused there is refused nowhere else.  While it
is refused, nothing dead stays published, what lives is missing only where an addition was refused, and
something that kubectl shows says so; afterwards all is right.  The judge sees in ZooKeeper's log that nobody
came back from the dead meanwhile, and that nobody who lived was withdrawn.
"""

import itertools
import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest
from kubernetes import client

from hack.local.cluster import ADMIN_TOKEN, free_ports
from tests.cluster.waiting import eventually
from tests.faults.harness import invariants, processes, refused, zklog
from tests.faults.harness.evidence import Change, Evidence, Log, Request
from tests.faults.harness.ground import Ground
from tests.faults.harness.kubelet import Replica, ask
from tests.faults.harness.refused import HOWS, IMPOSSIBLE, KINDS, NEVER, VERBS, WRITES, Api, Refusal
from tests.faults.harness.stand import BASE, LEASE, USER, Stand
from tests.faults.harness.tenant import CHANGES, Cell, Tenant
from tests.faults.harness.timeline import Want, timeline
from tests.faults.harness.violations import LEASES, own_writes

T = TypeVar("T")
R = TypeVar("R")
MINUTE = 90.0  # seconds: a generous one
LONG = 180.0  # seconds: a refused write waits for a minute before it is tried again
RECOVERY = 120.0
SHARED = ("leases", "events")  # no tenant's: refused one after the other


def of_tenants() -> list[Cell]:
    """All cells of kinds that are tenants'."""
    return [cell for cell in cells() if cell.kind not in SHARED]


def cells() -> list[Cell]:
    """All that can be."""
    return [
        Cell(verb, kind, how, change)
        for verb, kind in WRITES
        for how in HOWS
        for change in CHANGES
        if (verb, kind, how) not in IMPOSSIBLE
    ]


def test_the_table_is_complete():
    """No cell is absent without a reason."""
    product = set(itertools.product(VERBS, KINDS))
    assert WRITES.keys() | NEVER.keys() == product
    assert not WRITES.keys() & NEVER.keys()
    assert IMPOSSIBLE.keys() <= set(itertools.product(VERBS, KINDS, HOWS))
    possible = {(*write, how) for write in WRITES for how in HOWS} - IMPOSSIBLE.keys()
    assert len(set(cells())) == len(possible) * len(CHANGES)


# In the gate every verb on every kind is refused once, in each way, beside each change.
GATE = [
    Cell("create", "rpcservices", "quota", "scale past 100"),
    Cell("update of status", "rpcservices", "webhook down", "rollout"),
    Cell("delete", "rpcservices", "403 by RBAC", "delete"),
    Cell("patch", "rpcservices", "admission policy", "delete"),
    Cell("create", "services", "admission policy", "namespace ends"),
    Cell("delete", "services", "webhook down", "delete"),
    Cell("patch", "services", "403 by RBAC", "namespace ends"),
    Cell("patch", "pods", "webhook slow", "delete"),
]
GATE_SHARED = [
    ("create", "leases", "quota"),
    ("patch", "leases", "403 by RBAC"),
    ("create", "events", "admission policy"),
]


def test_the_gate_has_every_verb_on_every_kind_and_every_refusal():
    assert {(cell.verb, cell.kind) for cell in GATE} | {found[:2] for found in GATE_SHARED} == WRITES.keys()
    assert {cell.how for cell in GATE} == set(HOWS)
    assert {cell.change for cell in GATE} == set(CHANGES)
    assert {*GATE} <= {*cells()}


class Family:
    """A controller that serves all namespaces of *ground* with default flags, and tenants, one a cell."""

    def __init__(self, ground: Ground, stand: Stand, cells: Sequence[Cell]) -> None:
        self.ground = ground
        self.stand = stand
        self.api = Api(ground.cluster.server, ground.cluster.ca_file, ADMIN_TOKEN)
        self.each(cells, lambda cell: ground.make_namespace(cell.id))
        roles = [refused.role(refused.ROLE, self._rules, cell.id) for cell in cells]
        self.apply(list(itertools.chain(*roles)))
        self.tenants = [Tenant(stand.serve(cell.id), cell, number) for number, cell in enumerate(cells, 1)]
        (self._nobody,) = free_ports(1)
        self._hangs = socket.create_server(("127.0.0.1", 0), backlog=1024)  # nobody accepts
        self.refusals = list(map(self._refusal, self.tenants))

    @property
    def _rules(self) -> list[refused.Manifest]:
        return refused.rules(*refused.TENANT)

    def _refusal(self, tenant: Tenant) -> Refusal:
        cell = tenant.cell
        namespace, role, rules = tenant.namespace, refused.ROLE, self._rules
        if cell.kind == "leases":
            namespace, role, rules = self.stand.namespaces[0], LEASE, refused.rules(LEASE, kind="Role")
        return Refusal(
            WRITES[cell.verb, cell.kind],
            cell.how,
            namespace,
            role,
            rules,
            nobody=self._nobody,
            hangs=self._hangs.getsockname()[1],
        )

    def apply(self, manifests: Sequence[refused.Manifest]) -> None:
        self._kubectl("apply", manifests)

    def _kubectl(self, verb: str, manifests: Sequence[refused.Manifest], *flags: str) -> None:
        listed = {"apiVersion": "v1", "kind": "List", "items": manifests}
        if manifests:
            self.ground.cluster.kubectl(verb, *flags, "-f", "-", input=json.dumps(listed))

    def set_up(self) -> None:
        """Make all that is there before, and wait until it is right."""
        self.each(self.tenants, Tenant.set_up)
        self.wait_for(Tenant.unfinished, LONG)

    def begin(self) -> None:
        """Begin to refuse; return once each write is."""
        distinct = self._distinct()
        eventually(lambda: all(self.each(distinct, self._is_granted)))  # what follows would show nothing
        self.apply([manifest for refusal in distinct for manifest in refusal.begins()])
        eventually(lambda: not any(self.each(distinct, self._is_granted)))
        if distinct[0].write is WRITES["create", "leases"]:
            leases = client.CoordinationV1Api(self.ground.api)
            leases.delete_namespaced_lease(LEASE, distinct[0].namespace)

    def end(self) -> None:
        """Refuse nothing any more; a namespace that ends needs no rights back."""
        self._end_others()
        over = {tenant.namespace for tenant in self.tenants if tenant.cell.change == "namespace ends"}
        kept = [refusal for refusal in self._distinct() if refusal.namespace not in over]
        self.apply([manifest for refusal in kept for manifest in refusal.restores()])

    def _end_others(self) -> None:
        """End all that is ended by deleting what it began with."""
        gone = [refusal.begins() for refusal in self._distinct() if not refusal.restores()]
        self._kubectl("delete", list(itertools.chain(*gone)), "--ignore-not-found")

    def _distinct(self) -> list[Refusal]:
        """Each refusal once: one of a Lease is every tenant's."""
        return list({refusal.name: refusal for refusal in self.refusals}.values())

    def _is_granted(self, refusal: Refusal) -> bool:
        return refusal.write.attempt(self.api, refusal.namespace)

    def wait_for(self, look: Callable[[Tenant], Sequence[str]], timeout: float = MINUTE) -> None:
        """Wait until *look* finds nothing in any namespace; else say what it found, and where."""
        found: dict[str, Sequence[str]] = {}

        def nothing() -> bool:
            nonlocal found
            seen = zip(self.tenants, self.each(self.tenants, look), strict=True)
            found = {tenant.namespace: lines for tenant, lines in seen if lines}
            return not found

        try:
            eventually(nothing, timeout)
        except AssertionError:
            lines = [f"{name}: {line}" for name, there in found.items() for line in there]
            raise AssertionError("\n".join(["in vain was waited that this ends:", *lines])) from None

    def each(self, items: Sequence[T], do: Callable[[T], R]) -> list[R]:
        """Do something with all of them, some at a time."""
        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(do, items))

    def clean_up(self) -> None:
        """Leave nothing: the next one's controller serves all namespaces."""
        self._hangs.close()
        self._end_others()
        names = {tenant.namespace for tenant in self.tenants}
        for name in names:
            self.ground.core.delete_collection_namespaced_pod(name, grace_period_seconds=0)
        self._kubectl("delete", self._namespaces(names), "--ignore-not-found", "--wait=false")
        eventually(lambda: names.isdisjoint(self._there()), LONG)

    def _there(self) -> set[str]:
        return {str(found.metadata.name) for found in self.ground.core.list_namespace().items}

    def _namespaces(self, names: set[str]) -> list[refused.Manifest]:
        return [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in names]


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """A cluster whose nodes are the tests', and in which the controller writes only where a Role lets it."""
    with Ground(tmp_path_factory.mktemp("one-verb"), nodes=0) as made:
        everywhere = [
            {**rule, "verbs": [verb for verb in rule["verbs"] if verb in refused.READS]}
            for rule in refused.rules(*refused.TENANT)
        ]
        manifests = refused.role("rpcregistry-reads", [rule for rule in everywhere if rule["verbs"]])
        made.cluster.kubectl(
            "apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
        )
        made.cluster.kubectl("delete", "clusterrolebinding", *refused.TENANT)
        yield made


def play(ground: Ground, directory: Path, cells: Sequence[Cell]) -> None:
    """Have all cells happen at once, each in a namespace of its own, and judge what was witnessed."""
    lease = f"lease-of-{cells[0].id}"
    ground.make_namespace(lease)
    with Stand(ground, [lease], directory, everywhere=True) as stand:
        family = Family(ground, stand, cells)
        try:
            began, ended = _play(family)
            evidence = stand.close()
        except BaseException:
            for replica in stand.replicas:
                print(replica.text())
            raise
        finally:
            family.clean_up()
    judge(evidence, family, began, ended)


def _play(family: Family) -> tuple[float, float]:
    """Return from when to when something was refused."""
    stand = family.stand
    replica = stand.start()
    eventually(replica.leads)
    family.set_up()
    with stand.fault("refused", recovery=RECOVERY):
        family.begin()
        began = time.time()
        family.each(family.tenants, Tenant.change)
        family.wait_for(wrong)
        family.wait_for(lambda tenant: [] if told(tenant, replica) else ["nothing is told"])
        family.each(family.tenants, Tenant.end)
        family.wait_for(wrong)
        ended = time.time()
        family.end()
    family.each(family.tenants, Tenant.let_go)
    family.wait_for(Tenant.unfinished, LONG)
    return began, ended


def wrong(tenant: Tenant) -> list[str]:
    # Without a Lease nobody leads, and who does not lead takes nothing away, either.
    return tenant.wrong(nobody_writes=tenant.cell.kind == "leases")


# Whoever cannot write a condition or an Event has only its metrics to say so.
METRICS: Mapping[tuple[str, str], Callable[[Mapping[str, float]], bool]] = {
    ("create", "leases"): lambda shown: shown.get("rpcregistry_leader") == 0,
    ("patch", "leases"): lambda shown: shown.get("rpcregistry_leader") == 0,
    ("create", "events"): lambda shown: bool(
        shown.get("rpcregistry_events_dropped_total") or shown.get("rpcregistry_events_waiting")
    ),
    ("patch", "rpcservices"): lambda shown: bool(
        shown.get('rpcregistry_keys_refused{controller="registry"}')
    ),
}


def told(tenant: Tenant, replica: Replica) -> bool:
    """Whether a condition, an Event in the namespace or a metric says what is refused."""
    shows = METRICS.get((tenant.cell.verb, tenant.cell.kind))
    return shows(metrics(replica)) if shows else bool(tenant.told())


def metrics(replica: Replica) -> dict[str, float]:
    """What ``/metrics`` shows."""
    lines = ask(replica.port, "/metrics")[1].splitlines()
    samples = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in samples}


# judging


def judge(evidence: Evidence, family: Family, began: float, ended: float) -> None:
    """Raise one error that lists what went wrong from *began* to *ended*, when all was refused, and after."""
    wrong = [str(violation) for violation in processes.stays_bounded(evidence)]
    wrong += [f"the table has no {verb} of {resource}" for verb, resource in sorted(unknown_writes(evidence))]
    for tenant, refusal in zip(family.tenants, family.refusals, strict=True):
        part = part_of(evidence, tenant)
        wrong += [f"{tenant.namespace}: {found}" for found in invariants.violations(part)]
        if tenant.cell.kind != "leases":
            wrong += [
                f"{tenant.namespace}: {address} is published, and dead" for address in stayed(part, ended)
            ]
        if not any(
            was_refused(request, refusal) for request in evidence.requests if began <= request.at <= ended
        ):
            wrong.append(f"{tenant.namespace}: nothing was refused, so nothing was tried")
    assert not wrong, "\n".join(wrong)


def unknown_writes(evidence: Evidence) -> set[tuple[str, str]]:
    """What the controller wrote of the family's kinds, and the table says that it never does."""
    made = {(request.verb, request.resource) for request in own_writes(evidence)}
    known = {(write.verb, write.audited) for write in WRITES.values()}
    return {(verb, resource) for verb, resource in made - known if resource.partition(".")[0] in KINDS}


def was_refused(request: Request, refusal: Refusal) -> bool:
    """Whether the controller made the write, in vain."""
    write = refusal.write
    made = (request.user, request.namespace) == (USER, refusal.namespace)
    made = made and (request.resource, request.verb) == (write.audited, write.verb)
    return made and request.code >= 400 and request.code not in (404, 409)


def stayed(part: Evidence, at: float) -> list[str]:
    """The addresses of nobody that ZooKeeper's log has at a time."""
    times = timeline(part)
    return [
        str(address)
        for address in times.addresses
        if times.is_shown(address, at) and times.span(address, at).want is Want.NOT
    ]


def part_of(evidence: Evidence, tenant: Tenant) -> Evidence:
    """What concerns one tenant: so much less is to be gone through."""

    def counts(path: str) -> bool:
        below = zklog.is_below(path, BASE) and path != BASE
        return not below or any(zklog.is_below(path, f"{BASE}/{service}") for service in tenant.services)

    def is_of(change: Change) -> bool:
        meta = change.object["metadata"]
        owner = meta["name"] if change.object["kind"] == "Namespace" else meta.get("namespace")
        return owner in (None, tenant.namespace)

    logs = []
    for log in evidence.logs:
        transactions = []
        for transaction in log.transactions:
            ops = tuple(op for op in transaction.ops if not hasattr(op, "path") or counts(op.path))
            if ops:
                transactions.append(replace(transaction, ops=ops))
        logs.append(Log({path: data for path, data in log.start.items() if counts(path)}, transactions))
    return replace(
        evidence,
        logs=logs,
        history=[change for change in evidence.history if is_of(change)],
        requests=[
            r for r in evidence.requests if r.namespace in ("", tenant.namespace) or r.resource == LEASES
        ],
        flags={"namespace": (tenant.namespace,)},
    )


@pytest.mark.full
def test_every_verb_on_every_kind(ground: Ground, tmp_path: Path):
    play(ground, tmp_path, GATE)


@pytest.mark.deep
@pytest.mark.parametrize("change", CHANGES)
def test_all_cells_of_a_change(ground: Ground, tmp_path: Path, change: str):
    play(ground, tmp_path, [cell for cell in of_tenants() if cell.change == change])


@pytest.mark.full
@pytest.mark.parametrize(
    ("verb", "kind", "how"),
    [
        pytest.param(*found, id="-".join(found).replace(" ", "-"))
        for found in sorted({cell[:3] for cell in cells() if cell.kind in SHARED})
    ],
)
def test_leases_and_events(ground: Ground, tmp_path: Path, verb: str, kind: str, how: str):
    play(ground, tmp_path, [Cell(verb, kind, how, change) for change in CHANGES])
