"""What people see of services at a glance: one row a service, its namespaces and parts folded in."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches

import msgspec

from rpcregistry.model import Condition, LocalService, RpcService
from rpcregistry.plan.held import is_endless, recounted
from rpcregistry.plan.silence import SILENT

# Reasons of Synced, the most pressing first; what is not among them comes after.
PRESSING = (
    "Unreadable",
    "Refused",
    "OwnedElsewhere",
    "TooLarge",
    "InvalidName",
    "Held",
    "RegistryUnavailable",
    "MissingPort",
)
UNKNOWN = "NotLookedAt"  # no controller has said anything of it yet
NEXT = {  # what to type, by reason
    "Unreadable": "kubectl apply -f crds/",
    "Refused": "kubectl describe rpcservice {object} -n {namespace}",
    "OwnedElsewhere": "rpcregistry verify --service {service} shows its znodes; end what registers it there,"
    " or run with --from-cluster if that was a cluster that is gone",
    "TooLarge": "kubectl get rpcservice {object} -n {namespace} -o wide",
    "InvalidName": "rpcregistry render FILE",
    "Held": "rpcregistry release {service}",
    "RegistryUnavailable": "rpcregistry check",
    "MissingPort": 'give each pod of {service} a "port" in its annotation; rpcregistry render FILE shows it',
    UNKNOWN: "rpcregistry check",
}


class Row(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A service.  *synced*: True, False or (nobody has looked yet) None, with *reason* and *message*.

    *held*: endpoints that stay published though their pods are missing.  *since*: when *synced* changed
    last.  *objects*: its RpcServices, as ``NAMESPACE/NAME``.
    """

    service: str
    namespaces: tuple[str, ...]
    ready: int
    total: int
    held: int
    synced: bool | None
    reason: str
    message: str
    since: str
    created: str
    origins: tuple[str, ...]
    objects: tuple[str, ...]
    paths: tuple[str, ...]

    @property
    def is_well(self) -> bool:
        """Whether clients find all that they should, and somebody."""
        return self.synced is True and (self.ready > 0 or self.total == 0)

    @property
    def next(self) -> str:
        """What to type; ``""`` if all is well."""
        if self.synced is not True and is_endless(self.message):
            return "kubectl get nodes" if SILENT in self.message else "rpcregistry status"
        if self.synced is False and "setAcl" in self.message:
            return (
                f"rpcregistry verify --service {self.service} shows its znodes; mend the ACL as their owner"
            )
        namespace, _, name = self.objects[0].partition("/")
        if self.reason in NEXT and self.synced is not True:
            return NEXT[self.reason].format(service=self.service, object=name, namespace=namespace)
        return "" if self.is_well else f"rpcregistry explain {self.service} -n {namespace}"


def rows(services: Iterable[RpcService]) -> list[Row]:
    """A row for each service, those that need a look first."""
    by_name: dict[str, list[RpcService]] = {}
    for service in services:
        by_name.setdefault(service.service_name, []).append(service)
    return sorted((row(found) for found in by_name.values()), key=_pressing)


def row(services: Sequence[RpcService]) -> Row:
    """The row of *services*, all RpcServices of one name."""
    ordered = sorted(services, key=lambda service: (service.is_part, *service.age))
    condition = _worst([service.status.condition("Synced") for service in ordered])
    endpoints = [endpoint for service in ordered for endpoint in service.status.endpoints]
    held = sum(endpoint.held for endpoint in endpoints)
    message = condition.message if condition else "no controller has looked at it yet"
    return Row(
        service=ordered[0].service_name,
        namespaces=tuple(sorted({service.namespace for service in ordered})),
        ready=sum(endpoint.ready for endpoint in endpoints),
        total=sum(service.status.total_endpoints for service in ordered),
        held=held,
        synced=None if condition is None else condition.status == "True",
        reason=condition.reason if condition else UNKNOWN,
        message=recounted(message, held) if held and condition and condition.reason == "Held" else message,
        since=condition.last_transition_time if condition else "",
        created=min(service.created for service in ordered),
        origins=tuple(sorted({service.status.origin for service in ordered} - {""})),
        objects=tuple(str(service.key) for service in ordered),
        paths=tuple(
            dict.fromkeys(
                path for service in ordered for path in service.status.registry_paths.split(",") if path
            )
        ),
    )


def _worst(conditions: Sequence[Condition | None]) -> Condition | None:
    """The condition that counts: of several that are not True, the most pressing; None if one is missing."""
    untrue = [found for found in conditions if found and found.status != "True"]
    if untrue:
        return min(untrue, key=lambda found: _rank(found.reason))
    return None if None in conditions else next(iter(conditions), None)


def _rank(reason: str) -> int:
    return PRESSING.index(reason) if reason in PRESSING else len(PRESSING)


def _pressing(found: Row) -> tuple[bool, int, str]:
    return found.is_well, _rank(found.reason), found.service


def state_of(found: Row) -> str:
    """One word for ``--state``: well, held, waiting, refused, or nobody (is Ready)."""
    if found.synced is not True:
        return {"Held": "held", "RegistryUnavailable": "waiting", UNKNOWN: "waiting"}.get(
            found.reason, "refused"
        )
    return "well" if found.is_well else "nobody"


STATES = ("well", "held", "waiting", "refused", "nobody")


def of_name(services: Iterable[RpcService], name: str) -> list[RpcService]:
    """The RpcServices of a service; *name* is the service's, or an object's."""
    found = list(services)
    named = [service for service in found if service.service_name == name]
    if named:
        return named
    others = {service.service_name for service in found if service.name == name}
    return [service for service in found if service.service_name in others]


def closest(name: str, names: Iterable[str]) -> list[str]:
    """The names that *name* may have meant, the closest first.

    A part of a name counts, too.

    >>> closest("orderz", ["com.acme.orders", "cart", "orders"])
    ['orders']
    >>> closest("orders", ["com.acme.orders", "cart"])
    ['com.acme.orders']
    """
    known = sorted(set(names))
    near = get_close_matches(name, known, 3, 0.6)
    return near or [other for other in known if name.lower() in other.lower()][:3]


def unsynced(found: Iterable[Row | LocalService]) -> Mapping[str, Sequence[str]]:
    """The names of what is not in sync, by reason, the most pressing first."""
    names: dict[str, list[str]] = {}
    for one in found:
        if isinstance(one, Row):
            if one.synced is not True:
                names.setdefault(one.reason, []).append(one.service)
        elif (condition := one.status.condition("Synced")) and condition.status != "True":
            names.setdefault(condition.reason, []).append(f"localservice {one.key}")
    return {reason: names[reason] for reason in sorted(names, key=lambda reason: (_rank(reason), reason))}


class Totals(msgspec.Struct, frozen=True, rename="camel"):
    """How much there is; *nobody*: services that have endpoints, and none Ready."""

    services: int
    objects: int
    endpoints: int
    ready: int
    held: int
    nobody: int
    generated: int

    def __str__(self) -> str:
        nobody = f"; of {self.nobody:,} nobody is Ready" if self.nobody else ""
        return (
            f"{self.services:,} in {self.objects:,} RpcServices ({self.generated:,} generated), "
            f"{self.endpoints:,} endpoints, {self.ready:,} Ready{nobody}"
        )


def totals(found: Collection[Row]) -> Totals:
    """The sums of all rows."""
    origins = Counter("generated" in one.origins for one in found)
    return Totals(
        services=len(found),
        objects=sum(len(one.objects) for one in found),
        endpoints=sum(one.total for one in found),
        ready=sum(one.ready for one in found),
        held=sum(one.held for one in found),
        nobody=sum(one.total > 0 and not one.ready for one in found),
        generated=origins[True],
    )


def changes(before: Sequence[RpcService], after: Sequence[RpcService]) -> list[str]:
    """What changed between two looks at one service: ``+ADDRESS``, ``-ADDRESS``, and Synced.

    Addresses are those that are published, so Ready ones.
    """
    old, new = (_addresses(services) for services in (before, after))
    said = [f"+{address}" for address in sorted(new - old)] + [f"-{address}" for address in sorted(old - new)]
    was, now = (row(services) if services else None for services in (before, after))
    if now is None:
        return [*said, "gone"]
    if was is None or (was.synced, was.reason) != (now.synced, now.reason):
        said.append(now.reason)
    return said


def _addresses(services: Iterable[RpcService]) -> set[str]:
    return {
        endpoint.address for service in services for endpoint in service.status.endpoints if endpoint.ready
    }
