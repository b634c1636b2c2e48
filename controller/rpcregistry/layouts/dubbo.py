"""The layout of Apache Dubbo at interface level: one child an endpoint, whose *name* is the provider's URL.

    BASE/com.foo.Bar/providers/dubbo%3A%2F%2F10.0.0.1%3A20880%2Fcom.foo.Bar%3Fapplication%3D…%26version%3D1.0.0

BASE is ``/dubbo`` unless the registry's *group* says otherwise.  The interface is encoded as the URL is: an
inner one, ``com.foo.Bar$Baz``, is ``com.foo.Bar%24Baz``.  *version* and *group* have to equal the
consumer's, so they are present only if declared.  ``dynamic=false`` marks a provider that another program
registered; Dubbo's warm-up starts from *timestamp*.  A service is an interface: what a pod declares as
metadata (``timeout``, ``tag``, ``application`` …) becomes a parameter.  The data is never read.
Source of the format: apache/dubbo 324c6255, ``ZookeeperRegistry.java``, ``URL.java``; consumers watch names.
"""

from rpcregistry.layouts import marks, urls
from rpcregistry.layouts.directories import Directory
from rpcregistry.layouts.forms import Child, PerEndpoint, host, missing_port, started
from rpcregistry.model import Endpoint, Problem

_PROTOCOL_VERSION = "2.0.2"
_APPLICATION = "rpcregistry"  # where the metadata names none: a consumer wants one


def child(service_name: str, endpoint: Endpoint, cluster_id: str) -> Child | Problem:
    """The endpoint's znode."""
    if endpoint.port is None:
        return missing_port(endpoint)
    fields = {
        "application": _APPLICATION,
        **urls.metadata(endpoint),
        "dubbo": _PROTOCOL_VERSION,
        "dynamic": "false",
        "interface": service_name,
        "side": "provider",
        urls.MARK: marks.mark(cluster_id, endpoint),
    }
    optional = {
        "group": endpoint.group,
        "timestamp": str(started(endpoint) or ""),
        "version": endpoint.version,
        "weight": "" if endpoint.weight is None else str(endpoint.weight),
    }
    fields |= {key: value for key, value in optional.items() if value}
    url = f"{endpoint.protocol}://{host(endpoint)}:{endpoint.port}/{service_name}?{urls.parameters(fields)}"
    return urls.problem(endpoint) or Child(urls.encode(url))


LAYOUT = PerEndpoint(child, directory=Directory.parse("${service|url}/providers"), protocol="dubbo")
