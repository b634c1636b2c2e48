"""Layouts with one znode an endpoint: which children the service's directory should have.

The plan never deletes the directory, nor children that are not ours.  If an endpoint's znode changes its
name, one step replaces it, so no client sees it missing.  Of all others, the plan adds the new ones first and
defers the removals until clients had the time to see them.  It also defers the old names of endpoints whose
clients would see one step as two (``overlap``).

A child under a former name whose data has the endpoint's address stays, and changes in place.

The claim in the ledger is written before the first child and removed after the last.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from urllib.parse import unquote

import msgspec

from rpcregistry.layouts import Layout
from rpcregistry.layouts.directories import upwards
from rpcregistry.layouts.forms import Child, PerEndpoint
from rpcregistry.model import Endpoint, Problem
from rpcregistry.plan.ledger import Ledger, decode_ledger, ledger_path
from rpcregistry.plan.ops import Create, Delete, Op, Step, Znode, write
from rpcregistry.plan.outcome import ObservedZnodes, Outcome
from rpcregistry.plan.publication import Publication, PublicationSettings

# Java clients drop the connection over a list of children of 1 MiB, in which a name takes 4 bytes more.
LARGEST_LISTING = 900 * 1024
OVERHEAD = 4


class Changes(msgspec.Struct, frozen=True):
    """Names of children.

    *replaced*: each new name with the old ones whose place it takes.  *superseded*: older names of endpoints
    that another child holds by now.  *removed*: names without a desired endpoint.
    """

    added: Sequence[str]
    replaced: Mapping[str, Sequence[str]]
    superseded: Sequence[str]
    removed: Sequence[str]


class OneEach(msgspec.Struct, frozen=True, dict=True):
    """A service in such a layout; *due*: names whose removal an earlier plan deferred; *spared*: slots."""

    form: PerEndpoint
    layout: Layout
    service_name: str
    wanted: Publication
    observed: ObservedZnodes
    settings: PublicationSettings
    due: Collection[str]
    spared: Collection[str] = ()

    def plan(self) -> Outcome:
        """Return the steps and what they leave for the next plan.  Any prefix of the steps is safe."""
        observed = self.observed
        # 1. Compute the desired children; return early if none can be written, or none need be.
        desired, kept, refusal = self.desired()
        if observed.znode and observed.znode.ephemeral:
            message = "the service's directory is an RPC server's ephemeral znode, which cannot have children"
            return Outcome(refusal=Problem("OwnedElsewhere", message) if self.wanted.endpoints else None)
        claimed = observed.ledger or observed.previous
        if not desired and not claimed:
            # Make the directory early: clients watch it from the start.  If no endpoint fits, it is litter.
            early = () if refusal else self.directories(desired)
            return Outcome((early,) if early else (), refusal)
        # 2. Compare.  If clients cannot list so many names, removing still helps, adding does not.
        changes = self.changes(desired, kept)
        if changes.added and self.listing(desired) > LARGEST_LISTING:
            message = f"{self.directory}: the names in it would take more than {LARGEST_LISTING} bytes"
            refusal = Problem("TooLarge", message)
            changes = msgspec.structs.replace(changes, added=())
        # 3. Defer by one batch window: removals beside additions, so that clients see new endpoints first,
        #    and names that overlap.  Defer a removal once only, or a busy service would keep dead endpoints.
        leaving = (*changes.superseded, *changes.removed)
        deferred = [name for name in leaving if changes.added and name not in self.due]
        deferred += [
            name
            for new, names in changes.replaced.items()
            for name in names
            if self.overlaps(Child(new, desired[new]), name)
        ]
        going = set(leaving).difference(deferred)
        # 4. Change the ledger entry once in a plan: extend it now, or end it once all it names is removed.
        claim = self.claim(desired)
        end = () if deferred or claim else self.end(desired, going)
        steps = [
            (
                *self.directories(desired),
                *claim,
            ),  # first: a crash must not leave endpoints without a ledger entry
            *((Create(self.path(name), desired[name]),) for name in changes.added),  # before any removal
            *(self.replacement(name, desired[name], old) for name, old in changes.replaced.items()),
            *(self.repair(name, data) for name, data in desired.items()),  # what changed in place
            *((self.delete(name),) for name in changes.superseded if name in going),
        ]
        removals = [
            *((self.delete(name),) for name in changes.removed if name in going),
            end,  # after the last endpoint: the ledger withdraws only what it names
        ]
        # 5. Requeue to remove what was deferred, or to end an entry that this plan had to extend.
        requeue = bool(deferred or (claim and self.end(desired, going)))
        return Outcome(
            tuple(filter(None, steps)),
            refusal,
            deferred=tuple(deferred),
            requeue=requeue,
            removals=tuple(filter(None, removals)),
        )

    # desired

    def desired(self) -> tuple[Mapping[str, bytes], Collection[str], Problem | None]:
        """Return the desired children, those to leave alone, and why some endpoints have no child."""
        desired: dict[str, bytes] = {}
        kept: set[str] = set()
        refusals: list[Problem] = []
        limit = self.settings.max_znode_bytes
        for endpoint in self.wanted.endpoints:
            match self.place(endpoint):
                case Problem() as problem:
                    refusals.append(problem)
                case Child(name, data) if len(data) > limit:
                    size = f"{len(data)} bytes, more than --max-znode-bytes={limit}"
                    refusals.append(
                        Problem("TooLarge", f"the znode of {endpoint.pod_name} would take {size}")
                    )
                    kept |= self.lasting(endpoint, Child(name, data))
                case Child(name, _) if self.observed.children.get(name, _NONE).ephemeral:
                    message = (
                        f"{self.path(name)} is an RPC server's own, ephemeral znode, which is left alone"
                    )
                    refusals.append(Problem("OwnedElsewhere", message))
                case Child(name, data):
                    desired[name] = data
        for endpoint in self.wanted.unlisted:
            child = self.place(endpoint)
            if isinstance(child, Child):
                kept |= self.lasting(endpoint, child)
        kept.update(name for slot in self.spared for name in self.by_slot.get(slot, ()))
        return dict(sorted(desired.items())), kept, _summed_up(refusals)

    def lasting(self, endpoint: Endpoint, child: Child) -> set[str]:
        """The names under which *endpoint* stays although it cannot be written as *child*.

        A name of a former address is none; but a layout that spells no address in name or data cannot tell.
        """
        there = {name: self.observed.children[name] for name in self.by_slot.get(self.slot(child.name), ())}
        if not _spells(endpoint.ip, child.name, child.data):
            return set(there)
        return {name for name, znode in there.items() if _spells(endpoint.ip, name, znode.data)}

    def place(self, endpoint: Endpoint) -> Child | Problem:
        """The endpoint's child: under its former name, if that one is there and has its address."""
        placed = self.form.place(self.service_name, endpoint, self.settings.cluster_id)
        if self.form.former is None or isinstance(placed, Problem) or placed.name in self.observed.children:
            return placed
        if self.slot(placed.name) not in self.by_slot:
            return placed
        former = self.form.place_before(self.service_name, endpoint, self.settings.cluster_id)
        there = self.observed.children.get(former.name, _NONE) if former else _NONE
        if (
            former
            and not there.ephemeral
            and self.form.is_one_address(former, Child(former.name, there.data))
        ):
            return former
        return placed

    def changes(self, desired: Mapping[str, bytes], kept: Collection[str]) -> Changes:
        """Compare *desired* with the observed children."""
        leaving: dict[str | None, list[str]] = {}
        for name in sorted(self.ours - desired.keys()):
            leaving.setdefault(self.slot(name), []).append(name)
        new = [name for name in desired if name not in self.observed.children]
        replaced = {name: leaving.pop(self.slot(name)) for name in new if self.slot(name) in leaving}
        # Only the previous cluster's ledger entry allows us to remove its children.
        taken_over = self.inherited if self.observed.previous and self.takes_over(desired) else set()
        slots = {self.slot(name) for name in desired}
        frozen = self.wanted.frozen
        if not frozen:
            leaving = {slot: [n for n in names if n not in kept] for slot, names in leaving.items()}
        superseded = [name for slot, names in leaving.items() if slot in slots for name in names]
        removed = [name for slot, names in leaving.items() if slot not in slots for name in names]
        return Changes(
            added=[name for name in new if name not in replaced],
            replaced=replaced,
            superseded=sorted(superseded),
            removed=[] if frozen else sorted({*taken_over, *removed}),
        )

    def takes_over(self, desired: Mapping[str, bytes]) -> bool:
        """Whether to remove what the previous cluster left: not before something replaces it."""
        return bool(desired) or not self.wanted.services

    # observed

    @cached_property
    def directory(self) -> str:
        return self.layout.directory(self.service_name)

    def path(self, name: str) -> str:
        return f"{self.directory}/{name}"

    def slot(self, name: str) -> str | None:
        return self.form.slot_of(self.service_name, name, self.settings.cluster_id)

    @cached_property
    def by_slot(self) -> Mapping[str | None, Sequence[str]]:
        """Our children, by their slots."""
        found: dict[str | None, list[str]] = {}
        for name in self.ours:
            found.setdefault(self.slot(name), []).append(name)
        return found

    @property
    def ours(self) -> set[str]:
        """Our own children."""
        found = self.observed.children.items()
        return {name for name, znode in found if self.slot(name) is not None and not znode.ephemeral}

    @property
    def inherited(self) -> set[str]:
        """The children of the cluster that we take over from."""
        found = self.observed.children.items()
        return {name for name, znode in found if self.slot(name) is None and not znode.ephemeral}

    def listing(self, desired: Mapping[str, bytes]) -> int:
        """The size in bytes of the directory's list of children; of the largest one, if there are several."""
        sizes: Counter[str] = Counter()
        for path in {*desired, *self.observed.children, *self.observed.foreign}:
            directory, _, name = path.rpartition("/")
            sizes[directory] += len(name) + OVERHEAD
        return max(sizes.values(), default=0)

    # steps

    def directories(self, desired: Iterable[str]) -> Step:
        """The creations of missing directories and static znodes, each after what it lies in."""
        if not (self.wanted.services or self.wanted.endpoints):
            return ()
        found = [Create(path, self.layout.content(self.service_name, path)) for path in self.observed.missing]
        if self.form.directory.varies:
            ways = {way for name in desired for way in upwards(name.rpartition("/")[0])}
            missing = sorted(map(self.path, ways.difference(self.observed.directories)))
            found += [Create(path, b"") for path in missing if path not in self.observed.missing]
        return tuple(found)

    def replacement(self, name: str, data: bytes, old: Sequence[str]) -> Step:
        new = Child(name, data)
        going = (self.delete(one) for one in old if not self.overlaps(new, one))
        return (*going, Create(self.path(name), data))

    def overlaps(self, new: Child, old: str) -> bool:
        """Whether the name *old* outlives the plan, beside *new* that takes its place."""
        there = Child(old, self.observed.children[old].data)
        return self.form.overlap and not self.form.is_one_address(new, there)

    def repair(self, name: str, data: bytes) -> Step:
        znode = self.observed.children.get(name)
        return write(self.path(name), data, znode) if znode else ()

    def delete(self, name: str) -> Delete:
        return Delete(self.path(name), self.observed.children[name].version)

    # the ledger

    @property
    def entry(self) -> str:
        return ledger_path(self.layout, self.service_name, self.settings.cluster_id)

    @property
    def recorded(self) -> set[str]:
        """The namespaces in our entry."""
        return set(decode_ledger(self.observed.ledger.data).namespaces) if self.observed.ledger else set()

    def claim(self, desired: Mapping[str, bytes]) -> Step:
        """The step that makes our entry name everything we are about to publish."""
        if not desired:
            return ()
        return write(self.entry, self.ledger({*self.recorded, *self.wanted.namespaces}), self.observed.ledger)

    def end(self, desired: Mapping[str, bytes], going: set[str]) -> Step:
        """The step that shrinks or deletes the entries, once nothing published depends on them."""
        if self.wanted.frozen:
            return ()
        ops: list[Op] = []
        observed = self.observed
        if observed.ledger:
            if desired:
                kept = self.recorded if self.wanted.unlisted or self.spared else ()
                entry = self.ledger({*self.wanted.namespaces, *kept})
                ops += write(self.entry, entry, observed.ledger)
            elif self.ours <= going:
                ops.append(Delete(self.entry, observed.ledger.version))
        if observed.previous and self.takes_over(desired):
            previous = ledger_path(self.layout, self.service_name, self.settings.from_cluster)
            ops.append(Delete(previous, observed.previous.version))
        return tuple(ops)

    def ledger(self, namespaces: Collection[str]) -> bytes:
        return Ledger(self.settings.cluster_id, tuple(sorted(namespaces))).encode()


_NONE = Znode(b"", 0)


def _spells(address: str, name: str, data: bytes) -> bool:
    return address in unquote(name) or address.encode() in data


def _summed_up(refusals: Sequence[Problem]) -> Problem | None:
    """One problem for all refusals: the first, with the number of the others."""
    if not refusals:
        return None
    others = f" (and {len(refusals) - 1} more)" if len(refusals) > 1 else ""
    first = min(refusals)
    return Problem(first.reason, first.message + others)
