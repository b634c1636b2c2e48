"""rpcregistry publishes pods in ZooKeeper, where RPC clients find their servers.

A program in a pod needs only the names here: ``from rpcregistry import Registry, Service, Failure``.  They
come from ``rpcregistry.sdk``.  All other modules are the controllers', and may change at any time.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__all__ = [
    "Conflict",
    "Failure",
    "Instance",
    "Misconfigured",
    "Peer",
    "PeerUpdate",
    "Registry",
    "Rejected",
    "Retry",
    "Service",
    "Subscription",
    "Unknown",
    "Update",
]

if TYPE_CHECKING:
    from rpcregistry.sdk import (
        Conflict,
        Failure,
        Instance,
        Misconfigured,
        Peer,
        PeerUpdate,
        Registry,
        Rejected,
        Retry,
        Service,
        Subscription,
        Unknown,
        Update,
    )
else:
    # We import the SDK only if a program asks for a name.  Every module of ours imports this one first, and
    # each command would start 50 ms later.
    def __getattr__(name: str) -> Any:
        if name in __all__:
            return getattr(import_module("rpcregistry.sdk"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
