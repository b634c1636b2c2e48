"""For programs that run in pods: say what this pod serves, see who else serves it, and follow that.

Nothing but the Kubernetes API is needed: no ZooKeeper, no etcd, not even the controllers, though what
is registered here they pick up.

    from rpcregistry import Registry, Service

    with Registry.in_cluster() as registry:
        registry.register(Service(name="echo", port=8080))
        registry.subscribe("echo", lambda update: print(update.kind, update.instance.ip))

What fails outside is a ``Failure``: a ``Retry``, a ``Rejected`` or a ``Misconfigured``, each of which says
what to do next.  What the caller got wrong is a ``ValueError``.

``registry.py`` does, ``announcement.py`` and ``instances.py`` decide, ``subscriptions.py`` tells.
"""

from rpcregistry.errors import Conflict, Failure, Misconfigured, Rejected, Retry, Unknown
from rpcregistry.sdk.instances import Instance, Peer, PeerUpdate, Service, Update
from rpcregistry.sdk.registry import Registry
from rpcregistry.sdk.subscriptions import Subscription

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
