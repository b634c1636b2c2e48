"""The two forms that a layout can have: one znode a service, or one znode an endpoint.

A layout says what belongs where, from values alone; when it is written is decided in ``plan``.
"""

from calendar import timegm
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from functools import lru_cache
from ipaddress import ip_address

import msgspec

from rpcregistry.layouts import marks
from rpcregistry.layouts.directories import Directory
from rpcregistry.model import Endpoint, Problem

Config = tuple[str, ...] | None
Address = Hashable  # what a child's readers take for its address; None: unknown


class Rendered(msgspec.Struct, frozen=True):
    """A znode's desired content.  *config*: the part that the ledger keeps.  *notes*: problems to record."""

    data: bytes
    config: Config = None
    notes: tuple[Problem, ...] = ()


class PerService(msgspec.Struct, frozen=True):
    """One znode a service, ``BASE/<service>``; what it holds depends on what it held.

    *render(endpoints, config, observed, kept, keep)*: its content.  *config* is what an RpcService asks for,
    *observed* the bytes that are there, *kept* what the ledger kept; an address for which *keep* is true is
    not removed.
    *withdrawn(observed, kept)*: its content if it cannot be deleted.
    *addresses(data)*: those that it holds.
    """

    render: Callable[[Iterable[Endpoint], Config, bytes | None, Config, Callable[[str], bool]], Rendered]
    withdrawn: Callable[[bytes | None, Config], Rendered]
    addresses: Callable[[bytes], Collection[str]]


class Child(msgspec.Struct, frozen=True):
    """The znode of one endpoint, and its bytes.

    *name*: in the service's directory; or its path below BASE, if the service has several directories.
    """

    name: str
    data: bytes = b""


def _unknown(*_: object) -> Address:
    return None


def _nothing(_: str) -> Mapping[str, bytes]:
    return {}


class PerEndpoint(msgspec.Struct, frozen=True):
    """One znode an endpoint, in a *directory* below BASE.

    *child(service name, endpoint, cluster id)*: its znode, or why it cannot have one.  The name carries
    a mark (``marks``), which *slot(name, cluster id)* decodes.  If clients do not see changes of the data,
    the name changes with the data; if they do not see changes of the address, with the address.
    *former*: as *child*, under the name that earlier versions gave it, and that it keeps with its address.
    *protocol*: for endpoints that declare none.
    *overlap*: clients are told of each name separately, and of removed names first; so a plan keeps an old
    name until a later one.  But if both names have one *address(name, data)*, a client that is told of the
    removal last loses the address; so one step replaces them.  None: the layout cannot tell.
    *static(service name)*: other znodes that clients need, by their paths below BASE, which are *beside* the
    endpoints.  Like directories, they are made if they are missing, and never changed.
    """

    child: Callable[[str, Endpoint, str], Child | Problem]
    slot: Callable[[str, str], str | None] = marks.slot
    former: Callable[[str, Endpoint, str], Child | Problem] | None = None
    directory: Directory = Directory.parse("${service}")
    protocol: str = ""
    overlap: bool = False
    address: Callable[[str, bytes], Address] = _unknown
    static: Callable[[str], Mapping[str, bytes]] = _nothing
    beside: tuple[Directory, ...] = ()

    def place(self, service_name: str, endpoint: Endpoint, cluster_id: str) -> Child | Problem:
        """The znode of a published endpoint, or why there is none."""
        if numeric(endpoint.ip) is None:
            return Problem("InvalidName", f"{endpoint.pod_name} has no usable address")
        found = self.child(service_name, self._with_protocol(endpoint), cluster_id)
        if isinstance(found, Problem) or not self.directory.varies:
            return found
        directory = self.directory.of(service_name, endpoint)
        return directory if isinstance(directory, Problem) else Child(f"{directory}/{found.name}", found.data)

    def place_before(self, service_name: str, endpoint: Endpoint, cluster_id: str) -> Child | None:
        """The znode of a published endpoint as earlier versions wrote it; None if they wrote no other."""
        if self.former is None:
            return None
        found = self.former(service_name, self._with_protocol(endpoint), cluster_id)
        return found if isinstance(found, Child) else None

    def slot_of(self, service_name: str, name: str, cluster_id: str) -> str | None:
        """The endpoint of a child's *name*, if the child is of this service and cluster; else None."""
        last = name.rpartition("/")[2]
        if self.directory.is_shared:
            return marks.slot(last, cluster_id, service_name)
        return self.slot(last, cluster_id)

    def is_one_address(self, one: Child, other: Child) -> bool:
        """Whether clients read one address in both, as far as the layout can tell."""
        address = self.address(one.name, one.data)
        return address is not None and address == self.address(other.name, other.data)

    def _with_protocol(self, endpoint: Endpoint) -> Endpoint:
        return msgspec.structs.replace(endpoint, protocol=endpoint.protocol or self.protocol)


def missing_port(endpoint: Endpoint) -> Problem:
    """What to say of an endpoint without a port, in a layout that needs one."""
    return Problem("MissingPort", f"{endpoint.pod_name} declares no port, and this layout needs one")


@lru_cache(maxsize=32768)  # a change of one endpoint renders its whole service again
def numeric(text: str) -> tuple[int, int] | None:
    """An IP address as its version and number; None where *text* is none."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return address.version, int(address)


def host(endpoint: Endpoint) -> str:
    """The address as it stands in a URL: IPv6 in brackets (RFC 3986)."""
    return f"[{endpoint.ip}]" if ":" in endpoint.ip else endpoint.ip


def started(endpoint: Endpoint) -> int:
    """When its containers started, in milliseconds since 1970; 0 if that is not known.

    Never the time of writing: the bytes of an endpoint change only with the endpoint.

    >>> at = "2026-11-21T02:02:02Z"
    >>> started(Endpoint(pod_name="", pod_uid="", ip="", ips=(), ready=True, started_at=at))
    1795226522000
    """
    digits = "".join(c if c.isdigit() else " " for c in endpoint.started_at[:19]).split()
    return timegm(tuple(map(int, digits))) * 1000 if len(digits) == 6 else 0


def described(endpoint: Endpoint) -> dict[str, str]:
    """What it declares besides its address, as strings: for formats with room for any; metadata first."""
    declared = {
        "group": endpoint.group,
        "protocol": endpoint.protocol,
        "version": endpoint.version,
        "weight": "" if endpoint.weight is None else str(endpoint.weight),
    }
    return dict(sorted({**{k: v for k, v in declared.items() if v}, **endpoint.metadata}.items()))
