"""How a service is written in ZooKeeper, one file a layout.

A layout is a value of one of the two forms in ``forms``.  To add one, write the file and list it here.
"""

from collections.abc import Mapping

import msgspec

from rpcregistry.layouts import curator, dubbo, kube2zk, serverset, sofa, spring_cloud
from rpcregistry.layouts.directories import upwards
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
        """The service's path, which is no other service's: its znode, or the first directory of its own.

        If a service has no directory of its own at the base path, there is no such znode.
        """
        first = service_name
        if isinstance(self.form, PerEndpoint) and self.form.directory.service_first:
            first = str(self.form.directory.levels(service_name)[0])
        return f"{self._root}/{first}"

    @property
    def names_services(self) -> bool:
        """Whether each child of the base path is a service's."""
        return not isinstance(self.form, PerEndpoint) or self.form.directory.service_first

    def service_at(self, path: str) -> str | None:
        """The service on whose way *path*, below the base path, is; None if the path does not say.

        >>> Layout("dubbo", "/dubbo").service_at("com.foo.Bar%24Baz")
        'com.foo.Bar$Baz'
        """
        match self.form:
            case PerEndpoint(directory=directory, beside=beside):
                name = next(filter(None, (each.service_in(path) for each in (directory, *beside))), None)
            case PerService():
                name = path.partition("/")[0]
        return name if name and is_service_name(name) else None

    def parents(self, service_name: str) -> tuple[str, ...]:
        """The directories of the service and its static znodes, each after those above it.

        Directories that vary by endpoint are not in it.
        """
        return tuple(self._parents(service_name))

    def _parents(self, service_name: str) -> Mapping[str, bytes]:
        match self.form:
            case PerEndpoint(directory=directory, static=static):
                fixed = static(service_name)
                ways = (directory.constant(service_name), *fixed)
                paths = (up for way in ways for up in upwards(way))
                return {f"{self._root}/{path}": fixed.get(path, b"") for path in paths}
            case PerService():
                return {}

    def content(self, service_name: str, path: str) -> bytes:
        """The bytes with which one of ``parents`` is made."""
        return self._parents(service_name).get(path, b"")

    def directory(self, service_name: str) -> str:
        """The service's znode, or the directory of its endpoints; the base path, if there are several."""
        match self.form:
            case PerEndpoint(directory=directory):
                return f"{self._root}/{directory.constant(service_name)}".rstrip("/")
            case PerService():
                return self.path(service_name)

    def shown(self, service_name: str) -> str:
        """Where clients look, for people to read: a ``*`` stands for what varies by endpoint."""
        match self.form:
            case PerEndpoint(directory=directory):
                return f"{self._root}/{directory.shown(service_name)}".rstrip("/")
            case PerService():
                return self.path(service_name)

    def is_directory(self, service_name: str, path: str) -> bool:
        """Whether a znode at *path* is on the way to the service's endpoints, or static."""
        return path in self._parents(service_name) or self._is_at(service_name, path, 0)

    def is_child(self, service_name: str, path: str) -> bool:
        """Whether a znode at *path* lies where one of the service's endpoints does."""
        return self._is_at(service_name, path, 1)

    def _is_at(self, service_name: str, path: str, below: int) -> bool:
        if not isinstance(self.form, PerEndpoint) or not path.startswith(f"{self._root}/"):
            return False
        directory, found = self.form.directory, path[len(self._root) + 1 :]
        depth = found.count("/") + 1 - len(directory.segments)
        return (depth == 1 if below else depth <= 0) and directory.leads_to(service_name, found)

    @property
    def _root(self) -> str:
        return self.base.rstrip("/")
