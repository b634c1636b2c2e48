"""How a service is written in ZooKeeper, one file a layout.

A layout is a value of one of the two forms in ``forms``.  To add one, write the file and list it here.
"""

from collections.abc import Mapping

import msgspec

from rpcregistry.layouts import curator, dubbo, kube2zk, serverset, sofa, spring_cloud
from rpcregistry.layouts.forms import PerEndpoint, PerService
from rpcregistry.names import is_service_name

LAYOUTS: Mapping[str, PerService | PerEndpoint] = {
    "kube2zk": kube2zk.LAYOUT,
    "curator": curator.LAYOUT,
    "spring-cloud": spring_cloud.LAYOUT,
    "dubbo": dubbo.LAYOUT,
    "serverset": serverset.LAYOUT,
    "sofa": sofa.LAYOUT,
}


class Layout(msgspec.Struct, frozen=True):
    """A layout in use: its name and the path under which it writes; *template*: one that is not built in."""

    name: str
    base: str
    template: PerEndpoint | None = None

    @property
    def form(self) -> PerService | PerEndpoint:
        """How it writes."""
        return self.template or LAYOUTS[self.name]

    def path(self, service_name: str) -> str:
        """The service's path."""
        match self.form:
            case PerEndpoint(directory=directory):
                return f"{self.base.rstrip('/')}/{directory(service_name)}"
            case PerService():
                return f"{self.base.rstrip('/')}/{service_name}"

    def service_at(self, child: str) -> str | None:
        """Whose path the child of the base path is; None where it is no service's.

        >>> Layout("dubbo", "/dubbo").service_at("com.foo.Bar%24Baz")
        'com.foo.Bar$Baz'
        """
        match self.form:
            case PerEndpoint(directory=directory, service=service):
                name = service(child)
                return name if is_service_name(name) and directory(name) == child else None
            case PerService():
                return child if is_service_name(child) else None

    def parents(self, service_name: str) -> tuple[str, ...]:
        """The directories of the service, the topmost first: the last one holds its endpoints."""
        match self.form:
            case PerEndpoint(below=below):
                path = self.path(service_name)
                return (path, f"{path}/{below}") if below else (path,)
            case PerService():
                return ()

    def directory(self, service_name: str) -> str:
        """Where clients look: the service's znode, or the directory of its endpoints."""
        return (self.path(service_name), *self.parents(service_name))[-1]
