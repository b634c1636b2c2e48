"""``rpcregistry release``: let go now what is held, and wait until that is done.

A word in an annotation does it: on the RpcService or LocalService that holds something, and on the Lease for
what has no object.  The controller compares it with the word that was there when the hold began, so a new
leader takes it for an old one, and it is written anew.
"""

import math
import secrets
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Protocol, TypeVar

import msgspec

from rpcregistry.commands.whereabouts import Whereabouts
from rpcregistry.errors import Absent, Conflict, Failure, Retry, Unknown
from rpcregistry.kube.client import Kube
from rpcregistry.leases import LEASE, NAMESPACE, ZOOKEEPER, own_namespace
from rpcregistry.manifests import (
    LEASES,
    LOCALSERVICES,
    RPCSERVICES,
    Named,
    Resource,
    annotations_of,
    made,
    read_lease,
    regarding_lease,
)
from rpcregistry.model import HELD, RELEASE, LocalService, ObjectKey, Regarding, RpcService
from rpcregistry.plan.held import named
from rpcregistry.plan.release import Held, HeldLocal, HeldName, HeldService, Seen, held, outcome
from rpcregistry.telemetry.audit import audit
from rpcregistry.watch import Listing

T = TypeVar("T", bound=Named)

LOOK_EVERY = 0.5  # seconds
GIVE_AGAIN = 5.0  # seconds, once the leader changed: its holds may have begun after the word was given
MOST_NAMED = 5  # in one line


class Api(Protocol):
    """The API server.  Each call fails with an ``errors.Failure``."""

    def list(self, resource: Resource[T], namespace: str) -> Listing[T]: ...
    def patch(self, resource: Resource[T], key: ObjectKey, patch: Mapping[str, Any]) -> T: ...
    def raw(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any: ...


class LeaseSeen(msgspec.Struct, frozen=True):
    """The Lease as it was found: its *holder*, who *renewed* it when, and its annotations."""

    regarding: Regarding
    holder: str
    renewed: str
    annotations: Mapping[str, str]


def release_held(
    *,
    kubeconfig: str | None,
    context: str | None,
    namespaces: tuple[str, ...],
    lease_namespace: str,
    timeout: float,
    everything: bool,
    services: tuple[str, ...],
) -> int:
    """Release what is held (of *services*, or all); return the exit code: 1 where something was not."""
    kube = Kube.from_config(kubeconfig, context)
    where = _where(kube)
    _say(where)
    cluster = Cluster(kube, lease_namespace or own_namespace() or NAMESPACE, where)
    use = Release(
        cluster=cluster,
        namespaces=namespaces,
        everything=everything,
        timeout=timeout,
        clock=time.monotonic,
        sleep=time.sleep,
    )
    return use.run(services)


def _where(kube: Kube) -> str:
    try:
        return Whereabouts.of(kube).describe()
    except Unknown:  # one who may release need not be one who may read namespace kube-system
        return Whereabouts(context=kube.context, server=kube.server, cluster_id="(unknown)").describe()


class Cluster:
    """What the command reads and writes; *where* it lies.

    *lease*: as found last, None where it cannot be read; *left_out*: whether some objects could not be read.
    """

    def __init__(self, kube: Api, lease_namespace: str, where: str) -> None:
        self._kube = kube
        self._where = where
        self._lease_path = LEASES.path(lease_namespace, LEASE)
        self.lease: LeaseSeen | None = None
        self.left_out = False

    def look(self, namespaces: Iterable[str]) -> Seen:
        """Look at all there is in *namespaces*; what may not be read is said, and left out."""
        services: list[RpcService] = []
        locals_: list[LocalService] = []
        for namespace in namespaces:
            try:
                services += self._kube.list(RPCSERVICES, namespace).items
            except Unknown as failure:
                self._leave_out(failure)
            try:
                locals_ += self._kube.list(LOCALSERVICES, namespace).items
            except Unknown as failure:
                self._leave_out(failure)
        try:
            self.lease = self._read_lease()
        except (Absent, Unknown) as failure:
            _complain(f"what is held without an object is not looked at (--lease-namespace?): {failure}")
        return self._seen(services, locals_)

    def _leave_out(self, failure: Unknown) -> None:
        self.left_out = True
        _complain(f"not looked at: {failure}")

    def look_again(self, pending: Collection[Held]) -> Seen:
        """Look at what may show that *pending* is held no longer."""
        services: list[RpcService] = []
        locals_: list[LocalService] = []
        for namespace in {item.key.namespace for item in pending if isinstance(item, HeldService)}:
            services += self._kube.list(RPCSERVICES, namespace).items
        for namespace in {item.key.namespace for item in pending if isinstance(item, HeldLocal)}:
            locals_ += self._kube.list(LOCALSERVICES, namespace).items
        if self.lease:
            self.lease = self._read_lease()
        return self._seen(services, locals_)

    def _seen(self, services: list[RpcService], locals_: list[LocalService]) -> Seen:
        noted, more = named(self.lease.annotations.get(HELD, "")) if self.lease else (frozenset[str](), 0)
        return Seen(services, locals_, noted, more)

    def _read_lease(self) -> LeaseSeen:
        found = self._kube.raw("GET", self._lease_path)
        lease = read_lease(found)
        return LeaseSeen(regarding_lease(found), lease.holder, lease.renewed, annotations_of(found))

    def give(self, item: HeldService | HeldLocal, word: str) -> None:
        """Give the word to the objects that hold something."""
        match item:
            case HeldService(objects=objects):
                for key in objects:
                    self._annotate(RPCSERVICES, key, word)
            case HeldLocal(key=key):
                self._annotate(LOCALSERVICES, key, word)

    def _annotate(self, resource: Resource[Any], key: ObjectKey, word: str) -> None:
        with suppress(Conflict):  # it is gone, and holds nothing any more
            self._kube.patch(resource, key, made.annotated({RELEASE: word}))

    def give_on_lease(self, value: str) -> None:
        """Give a word for what has no object."""
        self._kube.raw("PATCH", self._lease_path, made.annotated({RELEASE: value}))

    @property
    def is_whole(self) -> bool:
        """Whether all was looked at."""
        return self.lease is not None and not self.left_out

    @property
    def holder(self) -> str:
        """Who leads; ``""`` where nobody does, or nobody can tell."""
        return self.lease.holder if self.lease else ""

    def leads(self) -> str:
        """Whether a controller seems to lead, for one who waits for it in vain."""
        if self.lease is None:
            return "does a controller run?"
        name = f"the Lease {self.lease.regarding.namespace}/{self.lease.regarding.name}"
        if not self.holder:
            return f"nobody holds {name}: does a controller run?"
        return (
            f"{self.holder} holds {name}, renewed at {self.lease.renewed}: does it run, and reach ZooKeeper?"
        )

    def leave_event(self, note: str) -> None:
        """Say who let go what, and leave an Event on the Lease, where there is one, that says the same."""
        if self.lease is None:
            _complain("no Event Released is left: the Lease cannot be read")
            _say(audit(self._kube, None, "Released", f"{note}: {self._where}"))
            return
        zookeeper = self.lease.annotations.get(ZOOKEEPER)
        where = f"{self._where}, ZooKeeper {zookeeper}" if zookeeper else self._where
        _say(audit(self._kube, self.lease.regarding, "Released", f"{note}: {where}"))


class Release:
    """One use of the command.

    *namespaces*: where to look for objects, without any everywhere; *everything*: let go of all by the Lease
    alone; *timeout*: how many seconds to wait for the controller.
    """

    def __init__(
        self,
        *,
        cluster: Cluster,
        namespaces: Sequence[str],
        everything: bool,
        timeout: float,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._cluster = cluster
        self._namespaces = namespaces
        self._everything = everything
        self._timeout = timeout
        self._clock = clock
        self._sleep = sleep
        self._names_all = True  # whether the Lease names all that it stands for

    def run(self, names: Sequence[str]) -> int:
        """Let go of what is asked for; return 0 once all of it is let go, else 1."""
        seen = self._cluster.look(self._namespaces or ("",))
        if self._everything and self._cluster.lease is None:
            _complain(
                "--all is a word on the Lease: give --lease-namespace, or the right to get and patch it"
            )
            return 1
        found = self._in_scope(held(seen), names)
        unheld = [name for name in dict.fromkeys(names) if not any(name in item.names for item in found)]
        for name in unheld:
            _say_not_held(name, seen, self._cluster.is_whole)
        if names:
            found = [item for item in found if not item.names.isdisjoint(names)]
        elif not found and not (self._everything and self._cluster.left_out):
            _say("nothing is held" if self._cluster.is_whole else "nothing is held of what was looked at")
            return 1
        self._names_all = bool(names) or not seen.more
        given = self._give(found)
        if not given:
            if not found and not names:
                _complain("what --all lets go of cannot be seen")
            return 1
        pending = self._wait(given)
        self._leave_event([item for item in given if item not in pending], pending)
        return 0 if not pending and len(given) == len(found) and not unheld else 1

    def _leave_event(self, gone: Sequence[Held], pending: Sequence[Held]) -> None:
        """Say what was let go, and what was asked for in vain."""
        said = []
        if gone:
            said.append(f"let go {_some(f'{item} ({item.size})' for item in gone)}")
        if pending:
            said.append(f"asked to let go {_some(map(str, pending))}, still held after {self._timeout:g} s")
        self._cluster.leave_event("; ".join(said))

    def _in_scope(self, found: list[Held], names: Sequence[str]) -> list[Held]:
        """What of *found* is of the namespaces asked for."""
        if not self._namespaces:
            return found
        left = [item.name for item in found if isinstance(item, HeldName)]
        if left and not names:
            _complain(f"held without an object, in no one namespace, and left: {_some(left)}")
        return [item for item in found if not isinstance(item, HeldName)]

    # giving the word

    def _give(self, found: Sequence[Held]) -> list[Held]:
        """Give a word for each of *found*; return those for which it was given."""
        word = secrets.token_hex(8)  # never a time: nobody shall compare it with a clock
        given: list[Held] = []
        on_lease: list[Held] = []
        for item in found:
            if self._everything or isinstance(item, HeldName):
                on_lease.append(item)
            elif _done(partial(self._cluster.give, item, word)):
                given.append(item)
        if on_lease or self._everything:
            names = map(str, on_lease) if self._names_all and not self._everything else ()
            if _done(partial(self._cluster.give_on_lease, " ".join([word, *names]))):
                given += on_lease
        return given

    # waiting

    def _wait(self, given: Sequence[Held]) -> list[Held]:
        """Say what became of each, once the controller let it go; return what it did not, in time."""
        _say(f"waiting up to {self._timeout:g} s for the controller to let go: {_some(map(str, given))}")
        end = self._clock() + self._timeout
        leader = self._cluster.holder
        give_again = math.inf
        pending = list(given)
        while pending and self._clock() < end:
            self._sleep(LOOK_EVERY)
            with suppress(Retry):
                seen = self._cluster.look_again(pending)
                pending = [item for item in pending if not _say_outcome(item, seen)]
                if pending and self._cluster.holder not in ("", leader):
                    leader, give_again = self._cluster.holder, self._clock()
                    _say(f"{leader} leads now, and takes the word for an old one: giving it another")
                if pending and self._clock() >= give_again:
                    self._give(pending)
                    give_again = self._clock() + GIVE_AGAIN
        if pending:
            still = _some(map(str, pending))
            _complain(f"after {self._timeout:g} s still held: {still}; {self._cluster.leads()}")
        return pending


def _done(write: Callable[[], None]) -> bool:
    """Whether *write* could be made; why not, is said."""
    try:
        write()
    except Failure as failure:
        _complain(f"not released: {failure}")
        return False
    return True


def _say_outcome(item: Held, seen: Seen) -> bool:
    """Say what became of *item*, where it is held no longer; return whether that is so."""
    withdrawn = outcome(item, seen)
    if withdrawn is not None:
        _say(f"released {item}: {withdrawn}")
    return withdrawn is not None


def _say_not_held(name: str, seen: Seen, all_seen: bool) -> None:
    if name in seen.noted:
        _complain(f"{name} is held without an object, in no one namespace: leave --namespace out")
    elif name in seen.names:
        _say(f"{name}: nothing is held")
    elif seen.more:
        _complain(f"the Lease names too many services to tell whether {name!r} is held: use --all")
    elif not all_seen:
        _complain(f"cannot tell whether {name!r} is held: not all could be looked at")
    else:
        _complain(f"there is no RpcService, LocalService or hold of the name {name!r}")


def _some(texts: Iterable[str]) -> str:
    listed = list(texts)
    more = f" and {len(listed) - MOST_NAMED} more" if len(listed) > MOST_NAMED else ""
    return ", ".join(listed[:MOST_NAMED]) + more


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _complain(line: str) -> None:
    sys.stderr.write(f"rpcregistry: {line}\n")
