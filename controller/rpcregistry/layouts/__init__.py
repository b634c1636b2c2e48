"""How a service is written in ZooKeeper, one file a layout.

A layout is a value of one of the two forms in ``forms``.  To add one, write the file and list it here.
"""

from collections.abc import Mapping

from rpcregistry.layouts import curator, dubbo, kube2zk, serverset, sofa, spring_cloud
from rpcregistry.layouts.forms import PerEndpoint, PerService

LAYOUTS: Mapping[str, PerService | PerEndpoint] = {
    "kube2zk": kube2zk.LAYOUT,
    "curator": curator.LAYOUT,
    "spring-cloud": spring_cloud.LAYOUT,
    "dubbo": dubbo.LAYOUT,
    "serverset": serverset.LAYOUT,
    "sofa": sofa.LAYOUT,
}
