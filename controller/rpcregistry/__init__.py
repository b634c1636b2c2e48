"""rpcregistry: pods that say which RPC services they serve, published where RPC clients look.

What a program that runs in a pod needs is here: ``from rpcregistry import Registry, Service, Failure``.
``rpcregistry.sdk`` is its home; all else is the controllers', and may change at any time.
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
    # Imported when one of the names is asked for: every module of ours imports this one first, and each
    # command would start 50 ms later.
    def __getattr__(name: str) -> Any:
        if name in __all__:
            return getattr(import_module("rpcregistry.sdk"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
