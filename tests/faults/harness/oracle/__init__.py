"""What there should be in ZooKeeper and for nodes, by the README's rules and from Kubernetes objects alone.

A second opinion: it shares no code with the controller, so that no mistake is made twice.  It knows
one moment and no history: what the objects of one LIST come to once every change has arrived.  What
depends on the past is *undecided* where the objects show it, and else for the caller to allow (pods
that are missing from a LIST, refused writes, ``--policy upsert-only``).  ``tests/test_oracle.py``
compares it with the controller on random worlds.

Not in here: ``--max-znode-bytes``.
"""

from tests.faults.harness.oracle.layouts import is_static, known_as, owned, read
from tests.faults.harness.oracle.nodeservices import wrong_node_services
from tests.faults.harness.oracle.objects import Manifest
from tests.faults.harness.oracle.published import Found, desired, undecided
from tests.faults.harness.oracle.services import KINDS, Row, Statuses, World, listed, statuses, world_of

__all__ = [
    "KINDS",
    "Found",
    "Manifest",
    "Row",
    "Statuses",
    "World",
    "desired",
    "is_static",
    "known_as",
    "listed",
    "owned",
    "read",
    "statuses",
    "undecided",
    "world_of",
    "wrong_node_services",
]
