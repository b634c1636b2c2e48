"""The flags that decide what a process reads and writes, and how the controllers' flags differ."""

from collections.abc import Iterator

import msgspec

from rpcregistry.plan.heartbeat import Heartbeat
from rpcregistry.plan.restored import ALL, UNTIL_RELEASED
from rpcregistry.plan.words import counted


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """The flags that decide what a process reads and where it writes, as the heartbeat has them."""

    layouts: tuple[str, ...]
    namespaces: tuple[str, ...]
    pod_label_selector: str
    require_register_permission: bool


class Difference(msgspec.Struct, frozen=True):
    """A flag with another value in the *controllers* than *here*."""

    flag: str
    here: str
    controllers: str

    def __str__(self) -> str:
        return f"{self.flag} is {self.here} here, and {self.controllers} in the controllers"


def differences(here: Scope, beat: Heartbeat) -> tuple[Difference, ...]:
    """The flags that differ; none if an older version's heartbeat lacks them."""
    return tuple(_differences(here, beat)) if beat.layouts else ()


def _differences(here: Scope, beat: Heartbeat) -> Iterator[Difference]:
    if set(beat.layouts) != set(here.layouts):
        yield Difference("--layout", _words(here.layouts), _words(beat.layouts))
    if set(beat.namespaces) != set(here.namespaces):
        yield Difference("--namespace", _words(here.namespaces), _words(beat.namespaces))
    if beat.pod_label_selector != here.pod_label_selector:
        ours, theirs = here.pod_label_selector, beat.pod_label_selector
        yield Difference("--pod-label-selector", ours or "not set", theirs or "not set")
    if beat.require_register_permission != here.require_register_permission:
        ours, theirs = ("on", "off") if here.require_register_permission else ("off", "on")
        yield Difference("--require-register-permission", ours, theirs)


def _words(values: tuple[str, ...]) -> str:
    return " ".join(sorted(values)) or "not set"


def keeper(beat: Heartbeat | None, cluster_id: str) -> str:
    """A line on which process keeps the registry up, as the heartbeat says.

    It does not judge the heartbeat's age: only watching shows that, since we compare no two machines' clocks.
    """
    nobody = "no controller keeps this registry up"
    if beat is None:
        return f"{nobody}: ZooKeeper has no heartbeat of cluster {cluster_id}"
    restored = f"; {UNTIL_RELEASED}: {beat.seen.restored}; {ALL}" if beat.seen.restored else ""
    if beat.stopped:
        return f"{nobody}: the last one stopped at {beat.at}{restored}"
    by = f" of {beat.holder}" if beat.holder else ""
    lease = f" (Lease {beat.lease})" if beat.lease else ""
    changes = f"{counted(beat.waiting, 'change')} waiting"
    return f"the last heartbeat{by}{lease} is of {beat.at}, with {changes}{restored}"
