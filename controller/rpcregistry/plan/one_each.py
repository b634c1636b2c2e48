"""Layouts with one znode an endpoint: which children the service's directory should have.

The directory is never deleted, nor are children that are not ours.  An endpoint whose znode changes its
name is replaced in one step, so that no client sees it missing; of others, those that are new come first,
and those that go follow when clients had the time to see the new ones.  So do the old names of endpoints
whose clients would see one step as two (``overlap``).

The claim in the ledger is written before the first child and removed after the last.
"""

from collections.abc import Collection, Mapping, Sequence

import msgspec

from rpcregistry.layouts import Layout
from rpcregistry.layouts.forms import Child, PerEndpoint
from rpcregistry.model import Problem
from rpcregistry.plan.ledger import Ledger, decode_ledger, ledger_path
from rpcregistry.plan.ops import Create, Delete, Op, Step, Znode, write
from rpcregistry.plan.outcome import ObservedZnodes, Outcome
from rpcregistry.plan.publication import Publication, PublicationSettings

# Java clients drop the connection over a list of children of 1 MiB, in which a name takes 4 bytes more.
LARGEST_LISTING = 900 * 1024
OVERHEAD = 4


class Changes(msgspec.Struct, frozen=True):
    """Names of children: *added*; *replaced*, each with the names it comes in place of; *gone*.

    *superseded*: older names of endpoints that are there under another.
    """

    added: Sequence[str]
    replaced: Mapping[str, Sequence[str]]
    superseded: Sequence[str]
    gone: Sequence[str]


class OneEach(msgspec.Struct, frozen=True):
    """A service in such a layout; *due*: names whose removal was put off before."""

    form: PerEndpoint
    layout: Layout
    service_name: str
    wanted: Publication
    observed: ObservedZnodes
    settings: PublicationSettings
    due: Collection[str]

    def plan(self) -> Outcome:
        """The steps, and what they leave for the next plan.  Any prefix of the steps is safe."""
        observed = self.observed
        # 1. What there should be; and the two cases in which nothing of it can, or need be, done.
        desired, kept, refusal = self.desired()
        if observed.znode and observed.znode.ephemeral:
            message = "an RPC server made the service's directory ephemeral: nothing can lie in it"
            return Outcome(refusal=Problem("OwnedElsewhere", message) if self.wanted.endpoints else None)
        claimed = observed.ledger or observed.previous
        if not desired and not claimed:
            # Clients watch the directory from early on; of what fits no such znode it would only be litter.
            early = () if refusal else self.directories
            return Outcome((early,) if early else (), refusal)
        # 2. What differs.  Too many names for clients to list: removing still helps, adding does not.
        changes = self.changes(desired, kept)
        if changes.added and self.listing(desired) > LARGEST_LISTING:
            message = f"{self.directory}: the names in it would take more than {LARGEST_LISTING} bytes"
            refusal = Problem("TooLarge", message)
            changes = msgspec.structs.replace(changes, added=())
        # 3. What waits a window: removals beside additions, so that clients see the new endpoints first (but
        #    only once, or a service that always changes would keep the dead ones), and names that overlap.
        leaving = (*changes.superseded, *changes.gone)
        put_off = [name for name in leaving if changes.added and name not in self.due]
        if self.form.overlap:
            put_off += [name for names in changes.replaced.values() for name in names]
        going = set(leaving).difference(put_off)
        # 4. The entry changes once in a plan: it grows now, or it ends now, once all that it names is gone.
        claim = self.claim(desired)
        end = () if put_off or claim else self.end(desired, going)
        steps = [
            (*self.directories, *claim),  # first of all, or a crash would leave endpoints that nobody owns
            *((Create(self.path(name), desired[name]),) for name in changes.added),  # before any goes
            *(self.replacement(name, desired[name], old) for name, old in changes.replaced.items()),
            *(self.repair(name, data) for name, data in desired.items()),  # what changed in place
            *((self.delete(name),) for name in changes.superseded if name in going),
        ]
        removals = [
            *((self.delete(name),) for name in changes.gone if name in going),
            end,  # after the last endpoint: what is not named would stay for ever
        ]
        # 5. What is left to do: to remove what waits, or to end what only now could be claimed.
        again = bool(put_off or (claim and self.end(desired, going)))
        return Outcome(
            tuple(filter(None, steps)),
            refusal,
            put_off=tuple(put_off),
            again=again,
            removals=tuple(filter(None, removals)),
        )

    # what there should be

    def desired(self) -> tuple[Mapping[str, bytes], Collection[str | None], Problem | None]:
        """The children there should be; slots that stay as they are; and why some are not among them."""
        desired: dict[str, bytes] = {}
        kept: set[str | None] = set()
        refusals: list[Problem] = []
        limit = self.settings.max_znode_bytes
        for endpoint in self.wanted.endpoints:
            match self.form.place(self.service_name, endpoint, self.settings.cluster_id):
                case Problem() as problem:
                    refusals.append(problem)
                case Child(name, data) if len(data) > limit:
                    size = f"{len(data)} bytes, more than --max-znode-bytes={limit}"
                    refusals.append(
                        Problem("TooLarge", f"the znode of {endpoint.pod_name} would take {size}")
                    )
                    kept.add(self.slot(name))
                case Child(name, _) if self.observed.children.get(name, _NONE).ephemeral:
                    message = f"{self.path(name)} is an RPC server's own, ephemeral znode"
                    refusals.append(Problem("OwnedElsewhere", message))
                case Child(name, data):
                    desired[name] = data
        for endpoint in self.wanted.unlisted:
            child = self.form.place(self.service_name, endpoint, self.settings.cluster_id)
            if isinstance(child, Child):
                kept.add(self.slot(child.name))
        return dict(sorted(desired.items())), kept, _summed_up(refusals)

    def changes(self, desired: Mapping[str, bytes], kept: Collection[str | None]) -> Changes:
        """What differs between *desired* and what is there."""
        leaving: dict[str | None, list[str]] = {}
        for name in sorted(self.ours - desired.keys()):
            leaving.setdefault(self.slot(name), []).append(name)
        new = [name for name in desired if name not in self.observed.children]
        replaced = {name: leaving.pop(self.slot(name)) for name in new if self.slot(name) in leaving}
        # Without its entry in the ledger nothing says that the previous cluster's children are ours to take.
        taken_over = self.inherited if self.observed.previous and self.takes_over(desired) else set()
        slots = {self.slot(name) for name in desired}
        frozen = self.wanted.frozen
        leaving = {slot: names for slot, names in leaving.items() if frozen or slot not in kept}
        superseded = [name for slot, names in leaving.items() if slot in slots for name in names]
        gone = [name for slot, names in leaving.items() if slot not in slots for name in names]
        return Changes(
            added=[name for name in new if name not in replaced],
            replaced=replaced,
            superseded=sorted(superseded),
            gone=[] if frozen else sorted({*taken_over, *gone}),
        )

    def takes_over(self, desired: Mapping[str, bytes]) -> bool:
        """Whether what the previous cluster left goes: not before there is something in its place."""
        return bool(desired) or not self.wanted.services

    # what is there

    @property
    def directory(self) -> str:
        return self.layout.directory(self.service_name)

    def path(self, name: str) -> str:
        return f"{self.directory}/{name}"

    def slot(self, name: str) -> str | None:
        return self.form.slot(name, self.settings.cluster_id)

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
        """How many bytes the list of children takes."""
        names = {*desired, *self.observed.children, *self.observed.foreign}
        return sum(len(name) + OVERHEAD for name in names)

    # what to do about it

    @property
    def directories(self) -> Step:
        if not (self.wanted.services or self.wanted.endpoints):
            return ()
        return tuple(Create(path, b"") for path in self.observed.missing)

    def replacement(self, name: str, data: bytes, old: Sequence[str]) -> Step:
        create = Create(self.path(name), data)
        return (create,) if self.form.overlap else (*map(self.delete, old), create)

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
        """Our entry, before there is anything that it does not tell of."""
        if not desired:
            return ()
        return write(self.entry, self.ledger({*self.recorded, *self.wanted.namespaces}), self.observed.ledger)

    def end(self, desired: Mapping[str, bytes], going: set[str]) -> Step:
        """The entries once nothing is left that only they tell of."""
        if self.wanted.frozen:
            return ()
        ops: list[Op] = []
        observed = self.observed
        if observed.ledger:
            if desired:
                kept = self.recorded if self.wanted.unlisted else ()
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


def _summed_up(refusals: Sequence[Problem]) -> Problem | None:
    """One problem for all, that of the first."""
    if not refusals:
        return None
    others = f" (and {len(refusals) - 1} more)" if len(refusals) > 1 else ""
    first = min(refusals)
    return Problem(first.reason, first.message + others)
