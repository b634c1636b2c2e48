"""Whether so many Nodes are silent that they must have one cause, and when the wait for their pods begins.

A Node that dies takes its pods with it: they are withdrawn after a short wait.  If most Nodes fall silent at
once, their pods are likely to serve all the same: what fails is how kubelets report, such as a load balancer,
certificates, clocks or the network of the control plane.  Then nothing of theirs is withdrawn.  The node
lifecycle controller of Kubernetes stops its evictions for the same reason (*full* and *partial disruption*).
"""

from collections.abc import Mapping
from math import inf

import msgspec

LEAST = 15.0  # seconds: kubelets renew every 10 s, the node monitor looks every 5 s
CALM = 60.0  # seconds without a change
MOST = 55  # percent
FEW = 20  # percent
FEW_NODES = 2  # are no common silence, unless there are no others
SILENT = "Nodes are silent"


class Silence(msgspec.Struct, frozen=True):
    """The state of the Nodes that count: published endpoints run there.

    Times are seconds on the caller's clock.

    *common*: so many fell silent that nothing of theirs is withdrawn.  *silent*: those that exist and are not
    Ready, of *nodes* in all.  *changed*: when *silent* changed last; *ended*: when *common* ended last.
    """

    common: bool
    silent: frozenset[str]
    nodes: int
    changed: float
    ended: float

    def __str__(self) -> str:
        return f"{SILENT} ({len(self.silent)} of {self.nodes})"

    @property
    def ends(self) -> float:
        """When the common silence ends by itself, unless a Node changes; infinity: it does not."""
        return self.changed + CALM if self.common and not _are_most(self.silent, self.nodes) else inf

    def wait_begins(self, turned: float) -> float:
        """When the wait begins for a pod whose Node *turned* silent, or was deleted, or came back, at a time.

        Infinity: it does not, while the silence is common.
        """
        return inf if self.common else max(turned, self.ended)


def at_start(now: float) -> Silence:
    """The state as a process starts: as if a common silence had just begun.

    An earlier process may have known of one that the Nodes do not show any more, such as half of them silent
    after all were.  So the loss of this state lets a process hold more, never less.
    """
    return Silence(common=True, silent=frozenset(), nodes=0, changed=now, ended=now)


def observe(before: Silence, ready: Mapping[str, bool], holds: bool, now: float) -> Silence:
    """The state at *now*; *ready*: the existing Nodes that count.

    *holds*: whether pods are held.  If no Node is left that could speak, they stay held.

    >>> state = at_start(0.0)
    >>> for ready in ({"a": True, "b": True}, {"a": False, "b": True}, {"a": False, "b": False}):
    ...     state = observe(state, ready, False, 1.0)
    ...     print(state.common)
    False
    False
    True
    """
    silent = frozenset(name for name, is_ready in ready.items() if not is_ready)
    changed = before.changed if silent == before.silent else now
    common = _is_common(before, silent, len(ready), holds, now - changed)
    ended = now if before.common and not common else before.ended
    return Silence(common=common, silent=silent, nodes=len(ready), changed=changed, ended=ended)


def _is_common(before: Silence, silent: frozenset[str], nodes: int, holds: bool, calm: float) -> bool:
    if silent and (len(silent) == nodes or (len(silent) > FEW_NODES and _are_most(silent, nodes))):
        return True
    if not nodes:
        return before.common and holds
    over = len(silent) * 100 < FEW * nodes or (calm >= CALM and not _are_most(silent, nodes))
    return before.common and not over


def _are_most(silent: frozenset[str], nodes: int) -> bool:
    return len(silent) * 100 >= MOST * nodes
