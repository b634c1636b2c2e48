"""What reconcilers read: all informers of one resource as one source; and LISTs."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from heapq import nlargest
from operator import itemgetter
from typing import Generic, TypeVar

from rpcregistry.errors import Absent, Rejected, Retry
from rpcregistry.kube.client import Kube
from rpcregistry.manifests import PODS, Named, Resource
from rpcregistry.model import ObjectKey, Pod
from rpcregistry.plan.restored import Known, object_behind
from rpcregistry.reconcile.memory import Memory
from rpcregistry.runtime.crew import Crew
from rpcregistry.runtime.informer import Informer
from rpcregistry.runtime.store import Change, Store

T = TypeVar("T", bound=Named)

FEW = 5  # objects that tell whether the server was restored
CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/rpcservices.rpcregistry.dev"


class Merged(Generic[T]):
    """The stores of several namespaces (``""``: of all) as one."""

    def __init__(self, stores: Mapping[str, Store[T]]) -> None:
        self._stores = stores

    def get(self, key: ObjectKey) -> T | None:
        """The object, if it exists and its namespace is watched."""
        store = self._stores.get(key.namespace) or self._stores.get("")
        return store.get(key) if store else None

    def values(self) -> Sequence[T]:
        """All objects."""
        return [item for store in self._stores.values() for item in store.values()]

    def indexed(self, index: str, value: Hashable) -> Sequence[T]:
        """The objects that an index has under *value*."""
        return [item for store in self._stores.values() for item in store.indexed(index, value)]

    def __len__(self) -> int:
        return sum(map(len, self._stores.values()))


class Source(Generic[T]):
    """The informers of one resource, one a watched namespace.

    *restarted* is called with the resource and the reason of each restarted watch; *memory* is told if the
    server went back.
    """

    def __init__(
        self,
        *,
        kube: Kube,
        resource: Resource[T],
        namespaces: Sequence[str],
        indexes: Mapping[str, Callable[[T], Iterable[Hashable]]],
        restarted: Callable[[str, str], None],
        memory: Memory,
        label_selector: str = "",
    ) -> None:
        self.name = resource.plural
        self._kube = kube
        self._resource = resource
        self._memory = memory
        # Both grow before ``start``, and are only read afterwards: by the informers' threads.
        self._on_change: list[Callable[[Change[T]], None]] = []
        self._on_listed: list[Callable[[], None]] = []
        self._informers = {
            namespace: Informer(
                f"{resource.plural}{' of ' if namespace else ''}{namespace}",
                kube.reader(resource, namespace, label_selector),
                indexes,
                on_change=self._changed,
                on_listed=self._listed,
                on_restart=lambda reason: restarted(resource.plural, reason),
                floor=lambda: memory.floor(resource.plural),
                on_went_back=memory.went_back,
                before_relist=memory.check,
            )
            for namespace in namespaces or ("",)
        }
        self.store = Merged({namespace: informer.store for namespace, informer in self._informers.items()})

    def subscribe(self, on_change: Callable[[Change[T]], None]) -> None:
        """Call *on_change* with every change, after all earlier subscribers.  Call this before ``start``.

        Informers call it, each in its thread and under its lock: it must not block.
        """
        self._on_change.append(on_change)

    def subscribe_listed(self, on_listed: Callable[[], None]) -> None:
        """Call *on_listed* after each LIST.  Call this before ``start``."""
        self._on_listed.append(on_listed)

    def _changed(self, change: Change[T]) -> None:
        for on_change in self._on_change:
            on_change(change)

    def _listed(self) -> None:
        for on_listed in self._on_listed:
            on_listed()

    @property
    def filled(self) -> bool:
        """Whether everything was listed once in this process."""
        return all(informer.filled.is_set() for informer in self._informers.values())

    @property
    def heard(self) -> float | None:
        """When the API server was last heard, of the namespace that is silent longest; None: not of all."""
        times = [informer.heard for informer in self._informers.values()]
        return min(time for time in times if time is not None) if None not in times else None

    @property
    def restarts(self) -> Mapping[str, int]:
        """How often watches were begun again, by reason (``informer.restart``)."""
        return sum((Counter(informer.restarts) for informer in self._informers.values()), Counter[str]())

    @property
    def unknown(self) -> str | None:
        """Why the source cannot be read, in full or in part."""
        return next(filter(None, (informer.unknown for informer in self._informers.values())), None)

    @property
    def kind_missing(self) -> str | None:
        """Why there are no objects, if the API server does not serve the kind; else None."""
        missing = (informer.unknown for informer in self._informers.values() if informer.kind_missing)
        return next(filter(None, missing), None)

    @property
    def missing(self) -> str:
        """What was not listed yet, and why, if that is known."""
        unfilled = (informer for informer in self._informers.values() if not informer.filled.is_set())
        reason = next((informer.interrupted for informer in unfilled if informer.interrupted), "")
        return f"{self.name} are not listed yet{': ' if reason else ''}{reason}"

    @property
    def highest(self) -> int:
        """The server's highest resourceVersion that was seen of this resource."""
        return max(informer.highest for informer in self._informers.values())

    def reach(self, version: int) -> None:
        """Compare the server with *version*, which it had reached; raises a ``Failure``."""
        for informer in self._informers.values():
            informer.reach(version)

    @property
    def newest(self) -> tuple[Known, ...]:
        """The objects that changed last, a few of them."""
        found = [pair for informer in self._informers.values() for pair in informer.store.newest(FEW)]
        latest = nlargest(FEW, found, key=itemgetter(1))
        return tuple(Known(str(item.key), item.uid, version) for item, version in latest)

    def compare(self, known: Iterable[Known]) -> None:
        """Read those of *known* that the store has not seen as new; raises a ``Retry``.

        An object that is absent says nothing: it may have been deleted.
        """
        for each in known:
            namespace, _, name = each.key.partition("/")
            if self._seen(ObjectKey(namespace, name)) < each.version:
                self._read(each)

    def check(self) -> None:
        """Read the object that changed last once more: it may be older than it was; raises a ``Retry``."""
        for each in self.newest[:1]:
            self._read(each)

    def _read(self, known: Known) -> None:
        namespace, _, name = known.key.partition("/")
        with suppress(Absent, Rejected):
            metadata = self._kube.raw("GET", self._resource.path(namespace, name))["metadata"]
            back = object_behind(self.name, known, metadata["uid"], int(metadata["resourceVersion"]))
            if back:
                self._memory.went_back(back)

    def _seen(self, key: ObjectKey) -> int:
        informer = self._informers.get(key.namespace) or self._informers.get("")
        item = informer.store.get(key) if informer else None
        return informer.store.own_version(item) if informer and item else 0

    def unknown_in(self, namespace: str) -> str | None:
        """Why the objects of one namespace cannot be read."""
        informer = self._informers.get(namespace) or self._informers.get("")
        return informer.unknown if informer else None

    def second_look(self) -> list[T]:
        """A quorum LIST of its own."""
        return [item for informer in self._informers.values() for item in informer.second_look()]

    def observe(self, written: T) -> None:
        """Store what our own write returned."""
        informer = self._informers.get(written.key.namespace) or self._informers.get("")
        if informer:
            informer.observe(written)

    def lacks(self, found: T) -> bool:
        """Whether a LIST lacked what a read *found*."""
        informer = self._informers.get(found.key.namespace) or self._informers.get("")
        return informer is not None and informer.lacks(found)

    def start(self, crew: Crew) -> None:
        """Start to list and watch."""
        for informer in self._informers.values():
            crew.start(informer.name, informer.run)

    def stop(self) -> None:
        """Stop watching."""
        for informer in self._informers.values():
            informer.stop()


class SecondLook:
    """The reads of the registry's guard, with or without a pod controller in this process."""

    def __init__(
        self, *, kube: Kube, namespaces: Sequence[str], label_selector: str, watched: Source[Pod] | None
    ) -> None:
        self._kube = kube
        self._namespaces = namespaces
        self._label_selector = label_selector
        self._watched = watched

    def pods(self) -> Iterable[Pod]:
        """All pods of the watched namespaces, by a quorum LIST."""
        if self._watched:
            yield from self._watched.second_look()
            return
        for namespace in self._namespaces or ("",):
            listing = self._kube.list(PODS, namespace, self._label_selector)
            if listing.unreadable:
                raise Retry(f"pod {listing.unreadable[0].key} cannot be read: it may name any service")
            yield from listing.items

    def require_crd(self) -> None:
        """Raise a ``Failure`` unless the RpcService CRD exists and is not being deleted."""
        if self._kube.raw("GET", CRD)["metadata"].get("deletionTimestamp"):
            raise Retry("the CRD of RpcServices is being deleted")
