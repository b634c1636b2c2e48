"""The LocalService controller's Services: one for each LocalService on each node that matches."""

from collections.abc import Callable, Collection, Container, Iterable, Mapping
from typing import Any

import structlog

from rpcregistry.errors import Conflict, Rejected, Retry
from rpcregistry.manifests import LOCALSERVICES, NODES, SERVICES
from rpcregistry.model import KubeService, LocalService, Node, NodeServiceKey, ObjectKey, Pod, Problem
from rpcregistry.names import digest, node_service_name
from rpcregistry.plan import nodeservices as planning
from rpcregistry.plan.conditions import held_by
from rpcregistry.plan.pods import is_listed
from rpcregistry.reconcile.guard import Decision, Guard, Snapshot, log_released
from rpcregistry.reconcile.held import HeldOnLease, WithoutObject
from rpcregistry.reconcile.memory import Past
from rpcregistry.reconcile.nodeturns import NodeTurns
from rpcregistry.reconcile.ports import Change, Clock, Kube, Source
from rpcregistry.reconcile.problems import Problems, Waiting
from rpcregistry.reconcile.refusals import Backoffs, require_kept
from rpcregistry.reconcile.silences import Silences

log = structlog.get_logger(__name__)

OF_LOCAL = "local service"  # index of Services: the ObjectKey of the LocalService that controls them
FOR_NODE = "node"  # index of Services: NodeServiceKey


# An object that is missing: ("Node", its name) or ("LocalService", its uid).
Missing = tuple[str, str]


def service_indexes() -> Mapping[str, Callable[[KubeService], Iterable[ObjectKey | NodeServiceKey]]]:
    """The indexes that the Service store needs."""
    return {
        OF_LOCAL: lambda service: [key.owner for key in controlled(service)],
        FOR_NODE: controlled,
    }


def controlled(service: KubeService) -> list[NodeServiceKey]:
    """The key of a node Service, if *service* is one."""
    controller = service.controller
    if controller is None or controller.kind != LOCALSERVICES.kind:
        return []
    return [NodeServiceKey(service.namespace, controller.name, service.node_name)]


class NodeServiceReconciler:
    """Makes the Service of one LocalService on one node what it should be.

    Any thread calls ``note_…`` with a change, and asks ``…_keys`` what to reconcile; one thread at a time
    reconciles a key.  *report* is called with each LocalService whose problems changed.
    """

    def __init__(
        self,
        *,
        kube: Kube,
        read: Callable[[ObjectKey], KubeService | None],
        locals_: Source[LocalService],
        nodes: Source[Node],
        services: Source[KubeService],
        pods: Source[Pod],
        node_label: str,
        clock: Clock,
        confirm: float,
        past: Past,
        enqueue: Callable[[Iterable[NodeServiceKey]], None],
        report: Callable[[ObjectKey], None],
        lease: HeldOnLease,
    ) -> None:
        self._kube = kube
        self._read = read
        self._locals = locals_
        self._nodes = nodes
        self._services = services
        self._pods = pods
        self._node_label = node_label
        self._enqueue = enqueue
        self._report = report
        self._backoffs: Backoffs[NodeServiceKey, planning.Op] = Backoffs(planning.write_of, clock)
        self._problems = Problems()
        self._waiting = Waiting()  # for the deletion of another's Service
        self._lease = lease
        self._turns = NodeTurns(clock.monotonic)
        self.silences: Silences[Missing] = Silences(clock, lease)
        self.guard: Guard[Missing] = Guard(
            "nodes",
            look=self._look,
            decided=self._decided,
            past=past,
            confirm=confirm,
            clock=clock.monotonic,
        )

    # what changes mean

    def note_local(self, change: Change[LocalService]) -> None:
        """Note that a LocalService was deleted, or has a new word that may release a hold."""
        old, new = change.old, change.new
        if old and new and new.released != old.released:
            self.guard.wake()
        if old and (new.uid != old.uid if new else not change.listed):
            self.guard.confirm((LOCALSERVICES.kind, old.uid))

    def local_keys(self, change: Change[LocalService]) -> set[NodeServiceKey]:
        """The keys that a LocalService's change touches; a change of its status touches none."""
        old, new = change.old, change.new
        if old and new and (old.uid, old.spec, old.deleting) == (new.uid, new.spec, new.deleting):
            return set()
        return {key for local in (old, new) if local for key in self._keys_of(local)}

    def note_node(self, change: Change[Node]) -> None:
        """Note that a Node exists, or turned (not) Ready, or was deleted.

        A deletion counts at once if no pods run there that its Services lead to.
        """
        self._turns.note(change)
        if change.new:
            self.guard.forget((NODES.kind, change.new.name))
        elif change.old and not change.listed and change.old.name not in self._in_use():
            self.guard.confirm((NODES.kind, change.old.name))
        if self.guard.held:
            self.guard.wake()  # a common silence may begin or end

    def note_pod(self, change: Change[Pod]) -> None:
        """Wake the guard if a pod ended on a node whose Services are held."""
        has_ended = change.new is None or not is_listed(change.new)
        if has_ended and change.old and (NODES.kind, change.old.node_name) in self.guard.held:
            self.guard.wake()

    def _in_use(self) -> set[str]:
        """The nodes on which pods run that a LocalService selects: these have the label."""
        pods = (pod for pod in self._pods.store.values() if self._node_label in pod.labels)
        return {pod.node_name for pod in pods if is_listed(pod)}

    def node_keys(self, change: Change[Node]) -> set[NodeServiceKey]:
        """The keys that a Node's change touches: those for which it matched before or does now."""
        node = change.new or change.old
        if node is None or (change.old and change.new and change.old.labels == change.new.labels):
            return set()
        return {
            NodeServiceKey(local.namespace, local.name, node.name)
            for local in self._locals.store.values()
            if local.matches(change.old) or local.matches(change.new)
        }

    def service_keys(self, change: Change[KubeService]) -> set[NodeServiceKey]:
        """The keys that a Service's change touches: its own, or those that wait for its name."""
        keys = {key for service in (change.old, change.new) if service for key in controlled(service)}
        service = change.new or change.old
        return keys | self._waiting.on(service.key) if service else keys

    def every_key(self) -> set[NodeServiceKey]:
        """All keys: of each LocalService on each node that matches, and of every node Service."""
        keys = {key for local in self._locals.store.values() for key in self._keys_of(local)}
        return keys | self._controlled()

    def _controlled(self) -> set[NodeServiceKey]:
        return {key for service in self._services.store.values() for key in controlled(service)}

    def _keys_of(self, local: LocalService) -> set[NodeServiceKey]:
        keys = {
            NodeServiceKey(local.namespace, local.name, node.name)
            for node in self._nodes.store.values()
            if local.matches(node)
        }
        for service in self._services.store.indexed(OF_LOCAL, local.key):
            keys.update(controlled(service))
        return keys

    def problems(self, local: ObjectKey) -> Mapping[str, Problem]:
        """The problems of a LocalService's Services, by node."""
        return self._problems.of(local)

    def held(self, local: LocalService) -> set[str]:
        """The absent nodes whose Service is held until their absence is confirmed.

        If *local* says that some are held, these are all that may be: after a start, the guard has not
        looked yet.
        """
        nodes = {service.node_name for service in self._services.store.indexed(OF_LOCAL, local.key)}
        held, confirmed = self.guard.held, self.guard.confirmed
        if held_by(local):
            return {
                node
                for node in nodes
                if not self._exists((NODES.kind, node)) and (NODES.kind, node) not in confirmed
            }
        return {node for node in nodes if (NODES.kind, node) in held}

    def why_endless(self, local: LocalService) -> str:
        """Why Services of *local* are held without time limit, or ``""`` if none is."""
        return self.silences.why((NODES.kind, node) for node in self.held(local))

    def forget_withdrawn(self) -> None:
        """Drop the confirmations of objects on which no Service depends any more, and such Nodes."""
        depends_on = {of for service in self._services.store.values() for of in _depends_on(service)}
        self.guard.retain_only(depends_on)
        self._turns.retain_only({name for kind, name in depends_on if kind == NODES.kind})

    # reconciling

    def reconcile(self, key: NodeServiceKey) -> bool:
        """Make observed equal desired for *key*; return whether anything was written.

        A refused write costs only what it would add: all else is written, then this raises ``Partial``.
        """
        local = self._locals.store.get(key.owner)
        outcome = planning.Outcome()
        name = ObjectKey(key.namespace, node_service_name(key.local_service, key.node))
        if local and not local.deleting:
            outcome = planning.plan(local, key.node, self._observe(key, local, name), self._node_label)
            if outcome.problem:
                self._waiting.begin(name, key)
                # Plan again: the other Service may have been deleted just before this key began to wait.
                outcome = planning.plan(local, key.node, self._observe(key, local, name), self._node_label)
        if not outcome.problem:
            self._waiting.end(name, key)
        orphans = self._orphans(key, outcome.ops, local)
        attempt = self._backoffs.of(key)
        for orphan in orphans:
            attempt.make(orphan, self._apply)
        for op in outcome.ops:
            # Additions stand first: an old Service stays until its replacement exists.
            less = planning.without_additions(op)
            if attempt.make(op, self._apply, less) and not isinstance(op, planning.Delete):
                break
        refusal = attempt.reported
        if refusal or not attempt.first:
            problem = Problem(_reason(refusal), str(refusal)) if refusal else None
            self._note(key, outcome.problem or problem)
        attempt.finish()
        return bool(outcome.ops or orphans)

    def _observe(
        self, key: NodeServiceKey, local: LocalService, name: ObjectKey
    ) -> planning.ObservedNodeService:
        ours = [
            service
            for service in self._services.store.indexed(FOR_NODE, key)
            if service.controller and service.controller.uid == local.uid
        ]
        return planning.ObservedNodeService(
            node=self._nodes.store.get(ObjectKey("", key.node)),
            named=self._services.store.get(name),
            ours=ours,
            absence_confirmed=not ours or self._is_confirmed((NODES.kind, key.node)),
        )

    def _orphans(
        self, key: NodeServiceKey, ops: Collection[planning.Op], local: LocalService | None
    ) -> list[planning.Delete]:
        """The deletions of Services whose LocalService was deleted.

        The garbage collector deletes them, too, but learns of a new kind half a minute late.
        """
        taken_over = {op.service.uid for op in ops if not isinstance(op, planning.Create)}
        return [
            planning.Delete(service)
            for service in self._services.store.indexed(FOR_NODE, key)
            if service.controller
            and (local is None or service.controller.uid != local.uid)
            and service.uid not in taken_over
            and not service.deleting
            and self._is_confirmed((LOCALSERVICES.kind, service.controller.uid))
        ]

    def _is_confirmed(self, subject: Missing) -> bool:
        """Whether the absence of *subject* is confirmed; if it is absent, wake the guard to confirm it."""
        if subject in self.guard.confirmed:
            return True
        if subject not in self.guard.held and not self._exists(subject):
            self.guard.wake()
        return False

    def _exists(self, subject: Missing) -> bool:
        match subject:
            case (NODES.kind, name):
                return self._nodes.store.get(ObjectKey("", name)) is not None
            case (_, uid):
                return any(local.uid == uid for local in self._locals.store.values())

    def _note(self, key: NodeServiceKey, problem: Problem | None) -> None:
        if self._problems.set(key, problem) if problem else self._problems.clear(key):
            self._report(key.owner)

    def _apply(self, op: planning.Op) -> None:
        match op:
            case planning.Create(manifest):
                self._create(manifest)
            case planning.Patch(service, patch):
                log.info("patch", service=str(service.key), fields=planning.fields_of(patch))
                written = self._kube.patch(SERVICES, service.key, patch)
                self._services.observe(written)
                require_kept(self._kube, f"patch Service {service.key}", planning.unkept(op, written))
            case planning.Replace(service, manifest):
                log.info("replace", service=str(service.key))
                # Try the new Service before the deletion, so that a refusal does not cost the old one.
                trial = self._kube.create(SERVICES, service.namespace, _renamed(manifest), trial=True)
                require_kept(
                    self._kube, f"create Service {service.key}", planning.unkept_for_good(manifest, trial)
                )
                self._kube.delete(SERVICES, service.key, service.uid, service.resource_version)
                self._create(manifest)
            case planning.Delete(service):
                log.info("delete", service=str(service.key))
                self._kube.delete(SERVICES, service.key, service.uid, service.resource_version)

    def _create(self, manifest: Mapping[str, Any]) -> None:
        key = ObjectKey(manifest["metadata"]["namespace"], manifest["metadata"]["name"])
        log.info("create", service=str(key))
        try:
            self._services.observe(self._kube.create(SERVICES, key.namespace, manifest))
        except Conflict:
            # The watch is behind: the name belongs to another's Service, or to ours whose answer was lost.
            found = self._read(key)
            if found:
                self._services.observe(found)
            if found and self._services.lacks(found):
                self._services.second_look()
            raise

    # absences

    def _look(self, confirmed: Collection[Missing]) -> Snapshot[Missing]:
        weights: dict[Missing, int] = {}
        owners: dict[Missing, set[ObjectKey]] = {}
        known = {(LOCALSERVICES.kind, local.uid) for local in self._locals.store.values()}
        known |= {(NODES.kind, node.name) for node in self._nodes.store.values()}
        total = 0
        for service in self._services.store.values():
            for subject in _depends_on(service):
                total += subject[0] == LOCALSERVICES.kind
                if subject not in known and subject not in confirmed:
                    weights[subject] = weights.get(subject, 0) + 1
                    owners.setdefault(subject, set()).add(controlled(service)[0].owner)
        in_use = self._in_use()
        if not weights:
            self._observe_nodes(self._nodes.store.values(), in_use)
            return Snapshot({}, 0, again=self.silences.ends)
        locals_, nodes = self._locals.second_look(), self._nodes.second_look()
        self._turns.note_read(nodes)
        self._observe_nodes(nodes, in_use)
        present = {(LOCALSERVICES.kind, local.uid) for local in locals_}
        present |= {(NODES.kind, node.name) for node in nodes}
        absent = {subject: weight for subject, weight in weights.items() if subject not in present}
        begins = {
            (kind, name): self.silences.wait_begins(self._turns.at(name))
            for kind, name in absent
            if kind == NODES.kind and name in in_use
        }
        for subject in self._seen_to_go(absent.keys() - begins.keys()):
            del absent[subject]
            self.guard.confirm(subject)
            self._enqueue(NodeServiceKey(key.namespace, key.name, subject[1]) for key in owners[subject])
        words = {subject: self._words(owners[subject]) for subject in absent}
        return Snapshot(absent, total, words=words, begins=begins, again=self.silences.ends)

    def _observe_nodes(self, nodes: Iterable[Node], in_use: Container[str]) -> None:
        """Note which of the nodes *in_use* are Ready now."""
        holds = bool(self.guard.held) or any(map(held_by, self._locals.store.values()))
        self.silences.observe({node.name: node.ready for node in nodes if node.name in in_use}, holds)

    def _seen_to_go(self, subjects: Collection[Missing]) -> list[Missing]:
        """Those of *subjects* that are Nodes whose deletion a watch event showed."""
        names = {name for kind, name in subjects if kind == NODES.kind}
        return [(NODES.kind, name) for name in self._turns.deleted_among(names, by_event=True)]

    def _words(self, owners: Collection[ObjectKey]) -> dict[str, str]:
        """The release annotations of the LocalServices *owners*, and the Lease's word for them."""
        found = [local for local in map(self._locals.store.get, owners) if local]
        names = {key.name for key in owners} | {local.service_name for local in found}
        return {**self._lease.words(names), **{local.uid: local.released for local in found}}

    def _decided(self, decision: Decision[Missing]) -> None:
        self._show_held()
        # A hold that has a time limit no more, or has one again, is told anew.
        changed = self.silences.decided(self.guard.held).union(decision.changed)
        if not changed:
            return
        touched: set[NodeServiceKey] = set()
        released: set[NodeServiceKey] = set()
        for service in self._services.store.values():
            subjects = set(_depends_on(service))
            if not subjects.isdisjoint(changed):
                touched.update(controlled(service))
            if not subjects.isdisjoint(decision.released):
                released.update(controlled(service))
        if released:
            log_released((str(key.owner) for key in released), len(released))
        for key in touched:
            self._report(key.owner)
        self._enqueue(touched)

    def _show_held(self) -> None:
        """Have the Lease name the missing LocalServices whose Services are held."""
        held = self.guard.held
        missing: dict[str, WithoutObject] = {}
        if any(kind == LOCALSERVICES.kind for kind, _ in held):
            for service in self._services.store.values():
                for subject, key in zip(_depends_on(service)[:1], controlled(service), strict=False):
                    if subject in held:
                        count = missing[key.local_service].count if key.local_service in missing else 0
                        missing[key.local_service] = WithoutObject(count + 1, held[subject].until)
        self._lease.show(LOCALSERVICES.kind, missing)


def _depends_on(service: KubeService) -> list[Missing]:
    """The LocalService and the Node that a node Service depends on."""
    if not service.controller or not controlled(service):
        return []
    return [(LOCALSERVICES.kind, service.controller.uid), (NODES.kind, service.node_name)]


def _reason(failure: Rejected | Retry) -> str:
    return "QuotaExceeded" if "exceeded quota" in str(failure) else "Refused"


def _renamed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest under an unused name, for a trial."""
    metadata = manifest["metadata"]
    name = f"{metadata['name'][:54].rstrip('-')}-{digest(metadata['name'])}"
    return {**manifest, "metadata": {**metadata, "name": name}}
