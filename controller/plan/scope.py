"""By which flags a process reads and writes, and how those of the controllers differ."""

from collections.abc import Iterator

import msgspec


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """The flags that decide what is read, and where it is written; *layouts* as ``NAME=BASEPATH``."""

    layouts: tuple[str, ...]
    namespaces: tuple[str, ...]
    pod_label_selector: str
    require_register_permission: bool


class Difference(msgspec.Struct, frozen=True):
    """A flag that the *controllers* have otherwise than we have it *here*."""

    flag: str
    here: str
    controllers: str

    def __str__(self) -> str:
        return f"{self.flag} is {self.here} here, and {self.controllers} in the controllers"


class Beat(msgspec.Struct, frozen=True, rename="camel"):
    """The heartbeat, as any version of the controllers wrote it: see ``plan.heartbeat``."""

    at: str = ""
    waiting: int = 0
    lease: str = ""
    holder: str = ""
    layouts: tuple[str, ...] | None = None
    namespaces: tuple[str, ...] | None = None
    pod_label_selector: str | None = None
    require_register_permission: bool | None = None
    stopped: bool = False


def decode_beat(data: bytes) -> Beat | None:
    """The heartbeat from its bytes; None where it cannot be read."""
    try:
        return msgspec.json.decode(data, type=Beat)
    except msgspec.MsgspecError:
        return None


def differences(here: Scope, beat: Beat) -> tuple[Difference, ...]:
    """The flags that differ; of what an older version's heartbeat does not tell, none."""
    return tuple(_differences(here, beat))


def _differences(here: Scope, beat: Beat) -> Iterator[Difference]:
    if beat.layouts is not None and set(beat.layouts) != set(here.layouts):
        yield Difference("--layout", _words(here.layouts), _words(beat.layouts))
    if beat.namespaces is not None and set(beat.namespaces) != set(here.namespaces):
        yield Difference("--namespace", _words(here.namespaces), _words(beat.namespaces))
    if beat.pod_label_selector not in (None, here.pod_label_selector):
        ours, theirs = here.pod_label_selector, beat.pod_label_selector
        yield Difference("--pod-label-selector", ours or "not set", theirs or "not set")
    if beat.require_register_permission not in (None, here.require_register_permission):
        ours, theirs = ("on", "off") if here.require_register_permission else ("off", "on")
        yield Difference("--require-register-permission", ours, theirs)


def _words(values: tuple[str, ...]) -> str:
    return " ".join(sorted(values)) or "not set"


def keeper(beat: Beat | None, cluster_id: str) -> str:
    """Who keeps the registry up, as far as the heartbeat tells: a line.

    Whether one that is there is old, only watching tells; no two machines' clocks are compared.
    """
    nobody = "no controller keeps this registry up"
    if beat is None:
        return f"{nobody}: ZooKeeper has no heartbeat of cluster {cluster_id}"
    if beat.stopped:
        return f"{nobody}: the last one stopped at {beat.at}"
    by = f" of {beat.holder}" if beat.holder else ""
    lease = f" (Lease {beat.lease})" if beat.lease else ""
    return f"the last heartbeat{by}{lease} is of {beat.at}, with {beat.waiting:,} changes waiting"
