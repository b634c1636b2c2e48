"""The invariants of every plan, as code.

A plan that breaks one is a fault of this program: we do not write it.

For the steps that make one service right in one layout (``check``), wherever they are cut off:

1. *Ours alone.*  A step touches the service's own path and its ledger entry, nothing else.  If each endpoint
   has a znode, the service's path means those children of its directory that carry our mark and are not
   ephemeral.  A plan creates directories, and never changes or deletes them.  Of the cluster that we take
   over from, it deletes children and the entry, nothing else.
2. *Once.*  No step is empty, and no path is in a plan twice.  So no operation makes the version stale that
   another one expects, and none deletes what a later one needs.  A directory is created before its children.
3. *Together.*  A znode that stands for a service changes in one step with its entry.
4. *Additions first.*  After a step that removes an endpoint, no step adds or changes one.  If an endpoint's
   znode gets another name, one step replaces it; if names ``overlap``, an old one outlives the plan, unless
   its address is the new one's.
5. *Claimed.*  Steps add, change and remove endpoints only while an entry names the service, and add or change
   them only under our own entry.  The first step creates an entry; the last one deletes it, with the last of
   its endpoints.  Until then it keeps its namespaces.

For all operations in one transaction, 2 (``check_transaction``): services and layouts share no path.

For the operations that make the RpcServices of one key right (``check_objects``):

6. *Ours alone.*  They are of that key, and delete only generated RpcServices.  7. *Once.*  They write an
object once, and delete it once it lists nothing; they put a row into one object.  8. *Additions first.*
Creations come first, then what adds a row, then what only removes rows, then deletions.
   If two objects exchange rows, no order serves both.  ``writes.Writes`` then makes each keep what the
   other does not list yet, and ``lost`` reports a violation of that.
"""

from collections.abc import Iterable, Iterator, Sequence

from rpcregistry.layouts import Layout
from rpcregistry.layouts.forms import Child, PerEndpoint, PerService
from rpcregistry.model import RpcServiceStatus, ServiceKey
from rpcregistry.plan import rpcservices
from rpcregistry.plan.ledger import decode_ledger, ledger_path
from rpcregistry.plan.ops import Create, Delete, Op, Set, Step
from rpcregistry.plan.outcome import ObservedZnodes
from rpcregistry.plan.publication import Place, PublicationSettings

Slot = str | None  # the endpoint of a child; None: not our cluster's
Places = frozenset[Place]


class Broken(AssertionError):
    """A plan breaks an invariant: write nothing of it, and report that.  Other plans are not affected."""

    def __init__(self, subject: str, violation: str) -> None:
        super().__init__(
            f"{subject}: {violation}; nothing of this plan is written. "
            "That is a fault of rpcregistry, please report it"
        )


def check(
    layout: Layout,
    service_name: str,
    settings: PublicationSettings,
    observed: ObservedZnodes,
    steps: Sequence[Step],
) -> None:
    """Raise ``Broken`` if *steps*, planned on what was *observed*, break an invariant."""
    if steps:
        for violation in violations(layout, service_name, settings, observed, steps):
            raise Broken(layout.path(service_name), violation)


def check_transaction(ops: Sequence[Op]) -> None:
    """Raise ``Broken`` if *ops* cannot be one transaction."""
    for violation in clashes(ops):
        raise Broken("transaction", violation)


def check_objects(key: ServiceKey, ops: Sequence[rpcservices.Op]) -> None:
    """Raise ``Broken`` if *ops*, planned for *key*, break an invariant."""
    if ops:
        for violation in object_violations(key, ops):
            raise Broken(f"{key.namespace}/{key.service_name}", violation)


# znodes


def violations(
    layout: Layout,
    service_name: str,
    settings: PublicationSettings,
    observed: ObservedZnodes,
    steps: Sequence[Step],
) -> Iterator[str]:
    """What *steps* break, in words."""
    yield from clashes([op for step in steps for op in step])
    if not all(steps):
        yield "a step is empty"
    match layout.form:
        case PerService():
            entry = ledger_path(layout, service_name, settings.cluster_id)
            yield from _of_one_znode(layout.path(service_name), entry, observed, steps)
        case PerEndpoint() as form:
            yield from _OneEach(form, layout, service_name, settings, observed, steps).violations()


def clashes(ops: Iterable[Op]) -> Iterator[str]:
    """2: operations of *ops* that repeat, or are in the wrong order."""
    seen: set[str] = set()
    opened: set[str] = set()  # directories of what was written
    deleted: set[str] = set()
    for op in ops:
        path = op.path
        directory = path.rpartition("/")[0]
        if path in seen:
            yield f"{path} is written twice"
        if directory in deleted:
            yield f"{path} is written after {directory} was deleted"
        if path in opened and isinstance(op, Create):
            yield f"{path} is created after what lies in it"
        if isinstance(op, Delete):
            deleted.add(path)
        seen.add(path)
        opened.add(directory)


def _of_one_znode(path: str, entry: str, observed: ObservedZnodes, steps: Sequence[Step]) -> Iterator[str]:
    """1, 3 and 5, in a layout with one znode a service."""
    if len(steps) > 1:
        yield f"{path} and its ledger entry change in {len(steps)} steps"
    claimed = observed.ledger is not None
    for step in steps:
        for op in step:
            if op.path == entry:
                claimed = claimed or isinstance(op, Create)
            elif op.path != path:
                yield f"{op.path} is not its own"
            elif not claimed:
                yield f"{path} is written, and no ledger entry names it"


class _OneEach:
    """1, 4 and 5, in a layout with one znode an endpoint: in one pass over the steps."""

    def __init__(
        self,
        form: PerEndpoint,
        layout: Layout,
        service_name: str,
        settings: PublicationSettings,
        observed: ObservedZnodes,
        steps: Sequence[Step],
    ) -> None:
        self._form = form
        self._layout, self._service_name = layout, service_name
        self._cluster, self._from_cluster = settings.cluster_id, settings.from_cluster
        self._observed = observed
        self._steps = steps
        self._within = layout.directory(service_name) + "/"
        self._entry = ledger_path(layout, service_name, self._cluster)
        self._previous = ledger_path(layout, service_name, self._from_cluster) if self._from_cluster else ""
        # As the steps go on:
        self._claimed = observed.ledger is not None
        self._brought: set[Slot] = set()
        self._removed = ""  # a removed endpoint without a replacement

    def violations(self) -> Iterator[str]:
        """What the steps break, in words."""
        for number, step in enumerate(self._steps):
            first, last = number == 0, number == len(self._steps) - 1
            slots: dict[type[Op], set[Slot]] = {Create: set(), Set: set(), Delete: set()}
            for op in step:
                if self._is_child(op.path):
                    name = op.path[len(self._within) :]
                    slot = self._slot(name, self._cluster)
                    slots[type(op)].add(slot)
                    wrong = self._wrong_with_child(op, name, slot)
                else:
                    wrong = self._wrong_with_other(op, first, last)
                if wrong:
                    yield f"{op.path} {wrong}"
            wrong = self._wrong_order(step, slots[Create], slots[Set], slots[Delete])
            if wrong:
                yield f"{step[0].path} {wrong}"
            if slots[Delete] and not slots[Create]:
                self._removed = step[0].path

    def _wrong_with_child(self, op: Op, name: str, slot: Slot) -> str:
        inherits = isinstance(op, Delete) and self._observed.previous is not None
        if not (self._claimed or inherits):
            return "is written, and no ledger entry names it"
        if slot is None and not (inherits and self._slot(name, self._from_cluster)):
            return "does not carry our mark"
        znode = self._observed.children.get(name)
        return "is an RPC server's own" if znode is not None and znode.ephemeral else ""

    def _is_child(self, path: str) -> bool:
        if self._form.directory.varies:
            return self._layout.is_child(self._service_name, path)
        return path.rpartition("/")[0] + "/" == self._within

    def _slot(self, name: str, cluster: str) -> Slot:
        return self._form.slot_of(self._service_name, name, cluster)

    def _wrong_with_other(self, op: Op, first: bool, last: bool) -> str:
        if op.path == self._entry:
            self._claimed = self._claimed or isinstance(op, Create)
            return self._wrong_with_entry(op, first, last)
        if op.path == self._previous and isinstance(op, Delete):
            return self._wrong_end(last, self._from_cluster)
        if not self._layout.is_directory(self._service_name, op.path):
            return "is not its own"
        return "" if isinstance(op, Create) else "is a directory, which is only ever created"

    def _wrong_with_entry(self, op: Op, first: bool, last: bool) -> str:
        match op:
            case Create() if not first:
                return "comes after the first step"
            case Set(data=data) if not last and self._forgets(data):
                return "forgets a namespace before the last step"
            case Set() if not (first or last):
                return "changes between the first step and the last"
            case Delete():
                return self._wrong_end(last, self._cluster)
        return ""

    def _forgets(self, data: bytes) -> bool:
        """Whether *data* lacks a namespace of the observed entry."""
        before = self._observed.ledger
        kept = decode_ledger(data).namespaces
        return before is not None and not set(decode_ledger(before.data).namespaces) <= set(kept)

    def _wrong_end(self, last: bool, cluster: str) -> str:
        """What is wrong with the end of a cluster's claim."""
        deleted = {op.path for step in self._steps for op in step if isinstance(op, Delete)}
        for name, znode in self._observed.children.items():
            is_theirs = not znode.ephemeral and self._slot(name, cluster) is not None
            if is_theirs and self._within + name not in deleted:
                return f"goes, and {name} stays"
        return "" if last else "goes before the last step"

    def _wrong_order(self, step: Step, come: set[Slot], change: set[Slot], go: set[Slot]) -> str:
        """What is wrong with the order in which the steps add, change and remove endpoints."""
        self._brought |= come
        if self._removed and (come or change):
            return f"comes or changes after {self._removed} went"
        if come and go and (len(come | go) > 1 or (self._form.overlap and self._moves(step))):
            return "goes in the step in which another endpoint, or the name to overlap with it, comes"
        if go and not come and go & self._brought:
            return "goes after the step in which its new name came"
        return ""

    def _moves(self, step: Step) -> bool:
        """Whether an address that clients read in *step* changes."""
        come, go = [], []
        for op in step:
            name = op.path.removeprefix(self._within)
            if isinstance(op, Create) and self._is_child(op.path):
                come.append(Child(name, op.data))
            elif isinstance(op, Delete) and name in self._observed.children:
                go.append(Child(name, self._observed.children[name].data))
        return not all(self._form.is_one_address(new, old) for new in come for old in go)


# RpcServices


def object_violations(key: ServiceKey, ops: Sequence[rpcservices.Op]) -> Iterator[str]:
    """What *ops* break, in words."""
    lists: dict[str, Places] = {}  # by object: the rows written
    deleted: set[str] = set()
    listed: set[Place] = set()
    phase = 0
    for op in ops:
        name, before, after = _effect(op)
        earlier, phase = phase, _phase(op, before, after)
        if not _is_of(key, op):
            yield f"{name} is not of this service"
        if phase < earlier:
            yield f"{name} is written after what takes more away"
        if name in deleted or (name in lists and not isinstance(op, rpcservices.Delete)):
            yield f"{name} is written twice"
        match op:
            case rpcservices.Delete(service):
                deleted.add(name)
                if lists.get(name, before):
                    yield f"{name} is deleted with rows in it"
                if not service.generated:
                    yield f"{name} is deleted, and a person's"
            case _:
                lists[name] = after
                if len(after) < len(op.status.endpoints) or not listed.isdisjoint(after):
                    yield f"{name} is to list what another one lists, too"
                listed |= after


def lost(ops: Iterable[rpcservices.Op], made: Iterable[rpcservices.Op]) -> Iterator[str]:
    """Where *made*, the written operations of the plan *ops*, breaks the first two bounds of ``Writes``."""
    homes: dict[Place, str] = {}  # the object that is to list each
    lists: dict[str, Places] = {}
    for op in ops:
        name, lists[name], after = _effect(op)
        homes |= dict.fromkeys(after, name)
    for op in made:
        name, _, after = _effect(op)
        before, lists[name] = lists.get(name, frozenset()), after
        if isinstance(op, rpcservices.Delete) and before:
            yield f"{name} is deleted with rows in it"
        for place in before - after:
            if place in homes and place not in lists[homes[place]]:
                yield f"{place} leaves {name} before {homes[place]} lists it"


def _effect(op: rpcservices.Op) -> tuple[str, Places, Places]:
    """The object that *op* writes, its rows when the plan was made, and its rows afterwards."""
    match op:
        case rpcservices.Create(_, name, _, status):
            return name, frozenset(), _places(status)
        case rpcservices.SetStatus(service, status):
            return service.name, _places(service.status), _places(status)
        case rpcservices.Delete(service):
            return service.name, _places(service.status), frozenset()


def _places(status: RpcServiceStatus) -> Places:
    return frozenset([(row.pod_uid, row.port) for row in status.endpoints])


def _is_of(key: ServiceKey, op: rpcservices.Op) -> bool:
    found = op if isinstance(op, rpcservices.Create) else op.service
    return found.service_name == key.service_name and found.namespace == key.namespace


def _phase(op: rpcservices.Op, before: Places, after: Places) -> int:
    match op:
        case rpcservices.Create():
            return 0
        case rpcservices.SetStatus():
            return 2 if after <= before else 1
        case rpcservices.Delete():
            return 3
