"""``rpcregistry release``: release what is held, and wait until the controller has.

The command writes a new word into an annotation: of the RpcService or LocalService that holds something, or
of the Lease for what has no object.  The controller compares it with the word that was there when the hold
began.  A new leader takes our word for an old one, so the command then writes another.
"""

import math
import secrets
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Protocol, TypeVar

from rpcregistry.commands.reading import FoundLease
from rpcregistry.commands.whereabouts import Whereabouts
from rpcregistry.errors import Absent, Conflict, Failure, Retry, Unknown
from rpcregistry.kube.client import Kube
from rpcregistry.leases import LEASE, NAMESPACE, own_namespace
from rpcregistry.manifests import LEASES, LOCALSERVICES, RPCSERVICES, Named, Resource, made
from rpcregistry.model import RELEASE, RESTORED, LocalService, ObjectKey, RpcService
from rpcregistry.plan.release import Held, HeldLocal, HeldName, HeldServer, HeldService, Seen, held, outcome
from rpcregistry.plan.restored import ALL
from rpcregistry.telemetry.audit import audit
from rpcregistry.watch import Listing

T = TypeVar("T", bound=Named)

LOOK_EVERY = 0.5  # seconds
GIVE_AGAIN = 5.0  # seconds after the leader changed: its holds may begin after our first word
MOST_NAMED = 5  # names in one line


class Api(Protocol):
    """The API server.  Each call fails with an ``errors.Failure``."""

    def list(self, resource: Resource[T], namespace: str) -> Listing[T]: ...
    def patch(self, resource: Resource[T], key: ObjectKey, patch: Mapping[str, Any]) -> T: ...
    def raw(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any: ...


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
    """Release what is held of *services*, or all; return 0, or 1 if something was not released.

    *timeout*: seconds to wait for the controller; *everything*: release by one word on the Lease.
    """
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
    except Unknown:  # the right to release does not include reading namespace kube-system
        return Whereabouts(context=kube.context, server=kube.server, cluster_id="(unknown)").describe()


class Cluster:
    """Reads and writes the cluster; *where* describes it.

    *lease*: as read last, None if it cannot be read; *left_out*: whether some objects could not be read.
    """

    def __init__(self, kube: Api, lease_namespace: str, where: str) -> None:
        self._kube = kube
        self._where = where
        self._lease_path = LEASES.path(lease_namespace, LEASE)
        self.lease: FoundLease | None = None
        self.left_out = False

    def look(self, namespaces: Iterable[str]) -> Seen:
        """Read all objects in *namespaces*; print and leave out those that we may not read."""
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
        """Read the objects that show whether *pending* is still held."""
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
        noted, more = self.lease.held if self.lease else (frozenset[str](), 0)
        restored = self.lease.annotations.get(RESTORED, "") if self.lease else ""
        return Seen(services, locals_, noted, more, restored)

    def _read_lease(self) -> FoundLease:
        return FoundLease.of(self._kube.raw("GET", self._lease_path))

    def give(self, item: HeldService | HeldLocal, word: str) -> None:
        """Write *word* on the objects that hold something."""
        match item:
            case HeldService(objects=objects):
                for key in objects:
                    self._annotate(RPCSERVICES, key, word)
            case HeldLocal(key=key):
                self._annotate(LOCALSERVICES, key, word)

    def _annotate(self, resource: Resource[Any], key: ObjectKey, word: str) -> None:
        with suppress(Conflict):  # somebody deleted the object, and its hold with it
            self._kube.patch(resource, key, made.annotated({RELEASE: word}))

    def give_on_lease(self, value: str) -> None:
        """Write *value*, a word and perhaps names, on the Lease for what has no object."""
        self._kube.raw("PATCH", self._lease_path, made.annotated({RELEASE: value}))

    @property
    def is_whole(self) -> bool:
        """Whether all objects and the Lease could be read."""
        return self.lease is not None and not self.left_out

    @property
    def holder(self) -> str:
        """The leader; ``""`` if nobody leads, or the Lease cannot be read."""
        return self.lease.lease.holder if self.lease else ""

    def leads(self) -> str:
        """Say why the controller may not answer: whether one seems to lead."""
        if self.lease is None:
            return "does a controller run?"
        name = f"the Lease {self.lease.name}"
        if not self.holder:
            return f"nobody holds {name}: does a controller run?"
        renewed = self.lease.lease.renewed
        return f"{self.holder} holds {name}, renewed at {renewed}: does it run, and reach ZooKeeper?"

    def leave_event(self, note: str) -> None:
        """Print who released what, and record the same as an Event on the Lease, if there is one."""
        if self.lease is None:
            _complain("no Event Released is left: the Lease cannot be read")
            _say(audit(self._kube, None, "Released", f"{note}: {self._where}"))
            return
        zookeeper = self.lease.zookeeper
        where = f"{self._where}, ZooKeeper {zookeeper}" if zookeeper else self._where
        _say(audit(self._kube, self.lease.regarding, "Released", f"{note}: {where}"))


class Release:
    """One run of the command.

    *namespaces*: where to look for objects, all if empty; *everything*: release all by the Lease alone;
    *timeout*: seconds to wait for the controller.
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
        self._names_all = True  # whether the Lease has room for the names of all holds

    def run(self, names: Sequence[str]) -> int:
        """Release *names*, or all; return 0 once all of it is released, else 1."""
        seen = self._cluster.look(self._namespaces or ("",))
        if self._everything and self._cluster.lease is None:
            _complain(
                "--all is a word on the Lease: give --lease-namespace, or the right to get and patch it"
            )
            return 1
        found = self._in_scope(held(seen), names)
        if seen.restored and not self._everything:
            _complain(f"nothing is released one by one while the API server counts as restored: {ALL}")
            return 1
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

    def _leave_event(self, released: Sequence[Held], pending: Sequence[Held]) -> None:
        """Record what was released, and what is still held."""
        said = []
        if released:
            said.append(f"let go {_some(f'{item} ({item.size})' for item in released)}")
        if pending:
            said.append(f"asked to let go {_some(map(str, pending))}, still held after {self._timeout:g} s")
        self._cluster.leave_event("; ".join(said))

    def _in_scope(self, found: list[Held], names: Sequence[str]) -> list[Held]:
        """Those of *found* in the namespaces that the user asked for."""
        if not self._namespaces:
            return found
        left = [item.name for item in found if isinstance(item, HeldName)]
        if left and not names:
            _complain(f"held without an object, in no one namespace, and left: {_some(left)}")
        return [item for item in found if not isinstance(item, HeldName | HeldServer)]

    # giving the word

    def _give(self, found: Sequence[Held]) -> list[Held]:
        """Write a new word for each of *found*; return those for which that succeeded."""
        word = secrets.token_hex(8)  # random, not a time, since clocks differ
        given: list[Held] = []
        on_lease: list[Held] = []
        for item in found:
            if self._everything or isinstance(item, HeldName | HeldServer):
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
        """Wait, and print each release; return what is still held after the timeout."""
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
                # The new leader may have begun its holds after our last word, so write another.
                if pending and self._clock() >= give_again:
                    self._give(pending)
                    give_again = self._clock() + GIVE_AGAIN
        if pending:
            still = _some(map(str, pending))
            _complain(f"after {self._timeout:g} s still held: {still}; {self._cluster.leads()}")
        return pending


def _done(write: Callable[[], None]) -> bool:
    """Call *write*; return whether it succeeded, and print why not."""
    try:
        write()
    except Failure as failure:
        _complain(f"not released: {failure}")
        return False
    return True


def _say_outcome(item: Held, seen: Seen) -> bool:
    """Print what the controller withdrew of *item*, if it is no longer held; return whether it is not."""
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
