"""The holds that ``rpcregistry release`` finds, and their outcome."""

from collections.abc import Collection, Iterable, Mapping

import msgspec

from rpcregistry.model import LocalService, ObjectKey, RpcService, ServiceKey
from rpcregistry.plan.conditions import held_by
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
        """The names by which a person may select it."""
        return {self.key.service_name, *(key.name for key in self.objects)}

    @property
    def size(self) -> str:
        """How much is held."""
        return f"{len(self.rows)} endpoints"


class HeldLocal(msgspec.Struct, frozen=True):
    """A LocalService whose Services for so many absent *nodes* are held."""

    key: ObjectKey
    service_name: str
    nodes: int

    def __str__(self) -> str:
        return f"localservice {self.key}"

    @property
    def names(self) -> set[str]:
        """The names by which a person may select it."""
        return {self.key.name, self.service_name}

    @property
    def size(self) -> str:
        """How much is held."""
        return f"{self.nodes} node Services"


class HeldName(msgspec.Struct, frozen=True):
    """A service that the Lease names, since the held endpoints have no object."""

    name: str

    def __str__(self) -> str:
        return self.name

    @property
    def names(self) -> set[str]:
        """The names by which a person may select it."""
        return {self.name}

    @property
    def size(self) -> str:
        """The Lease does not say how much is held."""
        return "no object"


class HeldServer(msgspec.Struct, frozen=True):
    """All that an API server does not show, since it was restored to an older state.

    *reason*: how that shows.  Only ``--all`` releases it.
    """

    reason: str

    def __str__(self) -> str:
        return "all that the API server lacks since it was restored"

    @property
    def names(self) -> set[str]:
        """No name selects it."""
        return set()

    @property
    def size(self) -> str:
        """How it shows."""
        return self.reason


Held = HeldService | HeldLocal | HeldName | HeldServer


class Seen(msgspec.Struct, frozen=True):
    """The result of one look: the objects, and the services that the Lease names, and how many *more*.

    *restored*: why the controllers take the API server for restored; ``""`` if they do not.
    """

    services: Collection[RpcService] = ()
    locals: Collection[LocalService] = ()
    noted: Collection[str] = ()
    more: int = 0
    restored: str = ""

    @property
    def names(self) -> set[str]:
        """All names, held or not."""
        objects: tuple[RpcService | LocalService, ...] = (*self.services, *self.locals)
        return {name for found in objects for name in (found.name, found.service_name)} | {*self.noted}


def held(seen: Seen) -> list[Held]:
    """The holds among *seen*."""
    by_key: dict[ServiceKey, list[RpcService]] = {}
    for service in seen.services:
        if _holds(service):
            by_key.setdefault(service.service_key, []).append(service)
    return [
        *([HeldServer(seen.restored)] if seen.restored else []),
        *(_held_service(key, services) for key, services in sorted(by_key.items())),
        *(
            HeldLocal(local.key, local.service_name, _count(local))
            for local in sorted(seen.locals, key=lambda local: local.key)
            if held_by(local)
        ),
        *(HeldName(name) for name in sorted(seen.noted)),
    ]


def outcome(before: Held, now: Seen) -> str | None:
    """What became of the hold *before*, in words; None while it lasts.

    A later hold of the same service is another one: it neither ends nor extends the wait.
    """
    match before:
        case HeldService(key, _, rows):
            services = [service for service in now.services if service.service_key == key]
            listed = {
                (row.pod_uid, row.port): row.held for service in services for row in service.status.endpoints
            }
            if any(listed.get(row) for row in rows) or (not rows and any(map(held_by, services))):
                return None
            withdrawn = sorted(address for row, address in rows.items() if row not in listed)
            return _withdrawn(withdrawn, stay=len(rows) - len(withdrawn))
        case HeldLocal(key, _, nodes):
            found = [local for local in now.locals if local.key == key]
            return None if any(map(held_by, found)) else f"{nodes} node Services released"
        case HeldName(name):
            return None if name in now.noted else "withdrawn"
        case HeldServer():
            return None if now.restored else "what the API server lists now is what counts"


def _holds(service: RpcService) -> bool:
    return held_by(service) is not None or any(row.held for row in service.status.endpoints)


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


def _withdrawn(addresses: list[str], stay: int) -> str:
    shown = " ".join(addresses[:MOST_ADDRESSES])
    more = f" and {len(addresses) - MOST_ADDRESSES} more" if len(addresses) > MOST_ADDRESSES else ""
    text = f"{len(addresses)} endpoints withdrawn{': ' if shown else ''}{shown}{more}"
    return f"{text}; {stay} stay: their pods exist again" if stay else text
