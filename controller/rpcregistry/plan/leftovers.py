"""What our znodes hold, and which of it rows explain.

An *item* is what a plan can take away by itself: an address in a layout with one znode a service, else the
slot of an endpoint's znode.
"""

from collections import Counter
from collections.abc import Iterable

from rpcregistry.layouts import Layout
from rpcregistry.layouts.forms import Child, PerEndpoint, PerService
from rpcregistry.model import Endpoint
from rpcregistry.plan.ledger import decode_ledger
from rpcregistry.plan.outcome import ObservedZnodes


def published_items(layout: Layout, view: ObservedZnodes, cluster_id: str) -> frozenset[str]:
    """The items of a service that the ledger says are ours."""
    match layout.form:
        case PerService(addresses=addresses):
            ours = view.ledger and decode_ledger(view.ledger.data).cluster == cluster_id
            return frozenset(addresses(view.znode.data)) if ours and view.znode else frozenset()
        case PerEndpoint() as form:
            slots = (form.slot(name, cluster_id) for name in view.children)
            return frozenset(slot for slot in slots if slot is not None)


def endpoints_in(leftovers: Iterable[tuple[str, str, str]]) -> dict[tuple[str, str, str], int]:
    """For how many endpoints each of *leftovers* stands: (service name, path in a layout, item).

    An endpoint is left in each layout.  So only those of a service's fullest path count.

    >>> endpoints_in([("echo", "/a", "1"), ("echo", "/a", "2"), ("echo", "/b", "x")])
    {('echo', '/a', '1'): 1, ('echo', '/a', '2'): 1, ('echo', '/b', 'x'): 0}
    """
    leftovers = list(leftovers)
    sizes = Counter((name, path) for name, path, _ in leftovers)
    fullest = {name: path for (name, path), _ in sorted(sizes.items(), key=lambda size: (size[1], size[0]))}
    return {(name, path, item): int(path == fullest[name]) for name, path, item in leftovers}


def items_of(layout: Layout, service_name: str, rows: Iterable[Endpoint], cluster_id: str) -> set[str]:
    """The items by which *rows* are published, or would be."""
    match layout.form:
        case PerService():
            return {row.ip for row in rows}
        case PerEndpoint() as form:
            children = (form.place(service_name, row, cluster_id) for row in rows)
            slots = (form.slot(child.name, cluster_id) for child in children if isinstance(child, Child))
            return {slot for slot in slots if slot is not None}
