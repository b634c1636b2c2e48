"""For programs in pods: register this pod's services, list the pods that serve one, and follow changes.

It needs only the Kubernetes API: no ZooKeeper, no etcd, and no controller.  If controllers run, they publish
what it registers.

    from rpcregistry import Registry, Service

    with Registry.in_cluster() as registry:
        registry.register(Service(name="echo", port=8080))
        registry.subscribe("echo", lambda update: print(update.kind, update.instance.ip))

If something outside fails, it raises a ``Failure``: ``Retry``, ``Rejected`` or ``Misconfigured``.  Each says
what to do next.  A caller's mistake raises ``ValueError``.

``registry.py`` reads and writes, ``announcement.py`` and ``instances.py`` decide, ``subscriptions.py``
notifies.
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
