"""Which published items stay, though nothing that we read publishes them."""

from collections.abc import Callable, Collection, Iterable

import msgspec

from rpcregistry.layouts import Layout
from rpcregistry.model import Endpoint, Problem
from rpcregistry.plan.leftovers import items_of, published_items
from rpcregistry.plan.outcome import ObservedZnodes
from rpcregistry.plan.publication import Place, Publication, place, places, without_additions
from rpcregistry.plan.restored import ALL
from rpcregistry.reconcile.memory import Memory
from rpcregistry.reconcile.missing import Missing

CONFINED = Problem("Refused", "the Lease could not be renewed, so nothing was added")
UNSHOWN = Problem(
    "Held",
    "the API server was restored to an older state: pods that it lists are published once a watch event shows"
    f" them; {ALL}",
)


class Spared:
    """Remembers the rows of each name that have shown something; belongs to the registry's thread.

    For each plan of a name, ``note`` is called first.
    Lost with the process: with fewer rows to explain what is published, the next one lets more of it stay.
    """

    def __init__(
        self, missing: Missing, memory: Memory, confined: Callable[[], bool], cluster_id: str
    ) -> None:
        self._missing = missing
        self._confined = confined
        self._withdraws_only = False  # as the name was noted last, as the next one
        self._memory = memory
        self._cluster_id = cluster_id
        self._rows: dict[str, tuple[Endpoint, ...]] = {}  # by name: listed now, or shown by pods
        self._restored = False  # as the name was noted last: a plan must not see it change
        self._lost: set[str] = set()  # names that lost an RpcService, unconfirmed
        # Rows whose pods explain an item: it goes with them.  By name, while the server counts as restored or
        # the name has lost an RpcService.
        self._explained: dict[str, dict[Place, Endpoint]] = {}

    def note(self, name: str, listed: Iterable[Endpoint], unlisted: Iterable[Endpoint], lost: bool) -> None:
        """Note which rows of *name* are *listed*, and which *unlisted* its pods show.

        *lost*: it lost an RpcService, and nobody has confirmed that.
        """
        listed, unlisted = tuple(listed), tuple(unlisted)
        rows = (*listed, *unlisted)
        self._rows.pop(name, None)
        if rows:
            self._rows[name] = rows
        self._restored = bool(self._memory.restored)
        self._withdraws_only = self._confined()
        self._lost.discard(name)
        if lost:
            self._lost.add(name)
        if not (self._restored or lost):
            self._explained.pop(name, None)
            return
        # The rows of a lost RpcService explain nothing: nobody saw their pods go.
        explained = rows if self._restored else unlisted
        self._explained.setdefault(name, {}).update((place(row), row) for row in explained)

    def wanted(self, wanted: Publication) -> Publication:
        """*wanted* without the pods that may be long gone, if the server was restored.

        Without any addition, if we only withdraw.
        """
        if self._restored:
            rows = tuple(row for row in wanted.endpoints if self._memory.may_publish(row.pod_uid))
            wanted = msgspec.structs.replace(wanted, endpoints=rows)
        return without_additions(wanted) if self._withdraws_only else wanted

    def of(self, layout: Layout, name: str, view: ObservedZnodes, wanted: Publication) -> Collection[str]:
        """The items of *view* that stay, besides those that *wanted* publishes."""
        stay = self._unexplained(layout, name, view)
        if not self._withdraws_only:
            return stay
        published = published_items(layout, view, self._cluster_id)
        rows = (*wanted.endpoints, *wanted.unlisted)
        kept = stay | items_of(layout, name, rows, self._cluster_id)
        # Never the last ones: it may be we who see wrong.
        return published if published.isdisjoint(kept) else stay

    def _unexplained(self, layout: Layout, name: str, view: ObservedZnodes) -> frozenset[str]:
        """The items of *view* that nobody saw go."""
        left = self._missing.left(layout, name, view, self._rows.get(name, ()))
        if not (self._restored or name in self._lost):
            return left
        rows: Iterable[Endpoint] = self._explained.get(name, {}).values()
        if self._restored:
            rows = [row for row in rows if self._memory.is_shown(row.pod_uid)]
        explained = items_of(layout, name, rows, self._cluster_id) | self._missing.gone(layout, name)
        return left | (published_items(layout, view, self._cluster_id) - explained)

    def refusal(
        self, layout: Layout, name: str, view: ObservedZnodes, full: Publication, wanted: Publication
    ) -> Problem | None:
        """What to report if *view* lacks pods of *full* that *wanted* leaves out."""
        kept = places(wanted.endpoints)
        left_out = [row for row in full.endpoints if place(row) not in kept]
        lacking = items_of(layout, name, left_out, self._cluster_id)
        if not lacking - published_items(layout, view, self._cluster_id):
            return None
        return UNSHOWN if self._restored else CONFINED
