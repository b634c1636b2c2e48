"""For programs that run in pods: say what this pod serves, see who else serves it, and follow that.

Nothing but the Kubernetes API is needed: no ZooKeeper, no etcd, not even the controllers, though what
is registered here they pick up.

    with Registry.in_cluster() as registry:
        registry.register(Service(name="echo", port=8080))
        registry.subscribe("echo", lambda update: print(update.kind, update.instance.ip))

``registry.py`` does, ``announcement.py`` and ``instances.py`` decide, ``subscriptions.py`` tells.
"""

from rpcregistry.sdk.instances import Instance, Peer, PeerUpdate, Service, Update
from rpcregistry.sdk.registry import Registry
from rpcregistry.sdk.subscriptions import Subscription

__all__ = ["Instance", "Peer", "PeerUpdate", "Registry", "Service", "Subscription", "Update"]
