"""What the ledger gives us, and no layout of this process writes."""

from collections.abc import Collection, Sequence

from rpcregistry.layouts import Layout
from rpcregistry.plan.ledger import OWNED, Ledger, decode_ledger, entry_parts
from rpcregistry.reconcile.ports import ZooKeeper


def uncovered(
    zookeeper: ZooKeeper, layouts: Sequence[Layout], clusters: Collection[str]
) -> set[tuple[str, str]]:
    """The layout names and paths that the ledger gives to *clusters* and none of *layouts* writes."""
    return set(uncovered_entries(zookeeper, layouts, clusters))


def uncovered_entries(
    zookeeper: ZooKeeper, layouts: Sequence[Layout], clusters: Collection[str]
) -> dict[tuple[str, str], Ledger]:
    """As ``uncovered``, with the ledger's entries."""
    covered = {(layout.name, layout.base.rstrip("/")) for layout in layouts}
    found = {
        f"{OWNED}/{name}/{entry}": (name, path)
        for name in zookeeper.children(OWNED)
        for entry in zookeeper.children(f"{OWNED}/{name}")
        if (path := entry_parts(entry)[0]) and (name, path.rpartition("/")[0]) not in covered
    }
    entries = {path: decode_ledger(znode.data) for path, znode in zookeeper.read(found).items() if znode}
    return {found[path]: entry for path, entry in entries.items() if entry.cluster in clusters}
