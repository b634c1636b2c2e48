"""The layout of SOFARPC: one child an endpoint, whose *name* is the provider's URL.

    BASE/com.foo.Bar/providers/bolt%3A%2F%2F10.0.0.1%3A22101%3F…%26uniqueId%3D…

BASE is ``/sofa-rpc`` by default.  A consumer takes providers of its own protocol and of its own *uniqueId*,
which is our *group*, and has to be there even when empty.  The client cannot read IPv6 addresses.  The data
is never read, and of two changes in one transaction the client hears one after the other, removals first.
Source of the format: sofastack/sofa-rpc 2e0909da, ``ZookeeperRegistryHelper.java``; consumers
watch names.
"""

from rpcregistry.layouts import marks, urls
from rpcregistry.layouts.directories import Directory
from rpcregistry.layouts.forms import Child, PerEndpoint, missing_port
from rpcregistry.model import Endpoint, Problem


def child(service_name: str, endpoint: Endpoint, cluster_id: str) -> Child | Problem:
    """The endpoint's znode."""
    if endpoint.port is None:
        return missing_port(endpoint)
    if ":" in endpoint.ip:
        return Problem("InvalidName", f"{endpoint.pod_name}: SOFARPC reads no IPv6 address")
    fields = {
        **urls.metadata(endpoint),
        "interface": service_name,
        "protocol": endpoint.protocol,
        "uniqueId": endpoint.group,
        urls.MARK: marks.mark(cluster_id, endpoint),
    }
    if endpoint.version:
        fields["version"] = endpoint.version
    if endpoint.weight is not None:
        fields["weight"] = str(endpoint.weight)
    url = f"{endpoint.protocol}://{endpoint.ip}:{endpoint.port}?{urls.parameters(fields)}"
    return urls.problem(endpoint) or Child(urls.encode(url))


LAYOUT = PerEndpoint(child, directory=Directory.parse("${service}/providers"), protocol="bolt", overlap=True)
