"""What ``rpcregistry release`` finds held, and what became of it."""

from collections.abc import Collection, Iterable, Mapping

import msgspec

from rpcregistry.model import LocalService, ObjectKey, RpcService, ServiceKey
from rpcregistry.plan.held import count_in

MOST_ADDRESSES = 10  # of one service, in a line

Row = tuple[str, int | None]  # pod uid, port


class HeldService(msgspec.Struct, frozen=True):
    """The RpcServices of one service in one namespace, with the addresses of their held *rows*."""

    key: ServiceKey
    objects: tuple[ObjectKey, ...]
    rows: Mapping[Row, str]

    def __str__(self) -> str:
        return str(self.key)

    @property
    def names(self) -> set[str]:
        """By which a person may name it."""
        return {self.key.service_name, *(key.name for key in self.objects)}

    @property
    def size(self) -> str:
        """How much is held."""
        return f"{len(self.rows)} endpoints"


class HeldLocal(msgspec.Struct, frozen=True):
    """A LocalService that keeps the Services of so many absent *nodes*."""

    key: ObjectKey
    service_name: str
    nodes: int

    def __str__(self) -> str:
        return f"localservice {self.key}"

    @property
    def names(self) -> set[str]:
        """By which a person may name it."""
        return {self.key.name, self.service_name}

    @property
    def size(self) -> str:
        """How much is held."""
        return f"{self.nodes} node Services"


class HeldName(msgspec.Struct, frozen=True):
    """A service that the Lease names: what of it is held has no object."""

    name: str

    def __str__(self) -> str:
        return self.name

    @property
    def names(self) -> set[str]:
        """By which a person may name it."""
        return {self.name}

    @property
    def size(self) -> str:
        """How much is held, the Lease does not say."""
        return "no object"


Held = HeldService | HeldLocal | HeldName


class Seen(msgspec.Struct, frozen=True):
    """What one look found: the objects, and the services that the Lease names (and how many *more*)."""

    services: Collection[RpcService] = ()
    locals: Collection[LocalService] = ()
    noted: Collection[str] = ()
    more: int = 0

    @property
    def names(self) -> set[str]:
        """The names that stand for anything, held or not."""
        objects: tuple[RpcService | LocalService, ...] = (*self.services, *self.locals)
        return {name for found in objects for name in (found.name, found.service_name)} | {*self.noted}


def held(seen: Seen) -> list[Held]:
    """What of it is held."""
    by_key: dict[ServiceKey, list[RpcService]] = {}
    for service in seen.services:
        if _holds(service):
            by_key.setdefault(service.service_key, []).append(service)
    return [
        *(_held_service(key, services) for key, services in sorted(by_key.items())),
        *(
            HeldLocal(local.key, local.service_name, _count(local))
            for local in sorted(seen.locals, key=lambda local: local.key)
            if _says_held(local)
        ),
        *(HeldName(name) for name in sorted(seen.noted)),
    ]


def outcome(before: Held, now: Seen) -> str | None:
    """What was withdrawn of what was held *before*; None while it is still held.

    What came to be held since is another hold's: it ends no wait, and begins none.
    """
    match before:
        case HeldService(key, _, rows):
            services = [service for service in now.services if service.service_key == key]
            listed = {
                (row.pod_uid, row.port): row.held for service in services for row in service.status.endpoints
            }
            if any(listed.get(row) for row in rows) or (not rows and any(map(_says_held, services))):
                return None
            gone = sorted(address for row, address in rows.items() if row not in listed)
            return _withdrawn(gone, back=len(rows) - len(gone))
        case HeldLocal(key, _, nodes):
            found = [local for local in now.locals if local.key == key]
            return None if any(map(_says_held, found)) else f"{nodes} node Services let go"
        case HeldName(name):
            return None if name in now.noted else "withdrawn"


def _holds(service: RpcService) -> bool:
    return _says_held(service) or any(row.held for row in service.status.endpoints)


def _says_held(found: RpcService | LocalService) -> bool:
    condition = found.status.condition("Synced")
    return condition is not None and condition.reason == "Held"


def _held_service(key: ServiceKey, services: Iterable[RpcService]) -> HeldService:
    rows = {
        (row.pod_uid, row.port): row.ip
        for service in services
        for row in service.status.endpoints
        if row.held
    }
    return HeldService(key, tuple(service.key for service in services), rows)


def _count(local: LocalService) -> int:
    condition = local.status.condition("Synced")
    return count_in(condition.message) if condition else 0


def _withdrawn(addresses: list[str], back: int) -> str:
    shown = " ".join(addresses[:MOST_ADDRESSES])
    more = f" and {len(addresses) - MOST_ADDRESSES} more" if len(addresses) > MOST_ADDRESSES else ""
    text = f"{len(addresses)} endpoints withdrawn{': ' if shown else ''}{shown}{more}"
    return f"{text}; {back} stay: their pods are back" if back else text
