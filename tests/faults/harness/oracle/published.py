"""What each layout should hold, and what it may."""

from collections.abc import Iterable, Mapping

from tests.faults.harness.oracle.layouts import beside, known_as, written
from tests.faults.harness.oracle.objects import has_condition, name_of
from tests.faults.harness.oracle.services import Endpoint, World, services

Found = Mapping[tuple[str, str], Mapping[str, frozenset[str]]]
"""By layout and base path: service to addresses.

An address is ``10.0.0.1:80`` or ``[fd00::1]:80``, or without a port ``10.0.0.1`` or ``fd00::1``, as all are
in the layout kube2zk, and in a layout of one's own what ``templates`` says.  A service without addresses is
left out.
"""


def desired(world: World) -> Found:
    """What each layout should hold."""
    return _found(world, {name: service.published for name, service in services(world).items()})


def undecided(world: World) -> Found:
    """What each layout may hold or lack, because the objects of one moment do not decide it.

    Pods that are not Ready on a Node that exists and is not Ready are held for a while, if they were
    published, and those on a Node that was deleted are withdrawn after a while; in a namespace that ends
    no RpcService can be made any more.  What is found is right if it equals *desired*, give or take what is
    undecided.
    """
    silent = {name_of(node) for node in world.nodes if not has_condition(node, "Ready")}
    ending = {name_of(space) for space in world.namespaces if space["metadata"].get("deletionTimestamp")}
    return _found(
        world,
        {
            name: service.unsure(
                lambda e: (
                    e.namespace in ending or (not e.ready and e.node in silent) or e.node in world.lost_nodes
                )
            )
            for name, service in services(world).items()
        },
    )


def _found(world: World, endpoints: Mapping[str, Iterable[Endpoint]]) -> Found:
    return {
        (layout, base): {
            known_as(layout, name, world.templates): found | beside(layout, name, world.templates)
            for name, chosen in endpoints.items()
            if (found := frozenset(filter(None, (written(layout, e, world.templates) for e in chosen))))
        }
        for layout, base in world.layouts
    }
