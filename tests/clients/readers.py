"""How each client is asked to follow a service, and what it has to have seen."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby

import pytest

from hack.clients.watcher import Endpoints, Watcher

OTHERWISE: Mapping[str, object] = {"metadata": {"zone": "z2"}, "weight": 7}
ZONE = {"zone": "z2"}
PATIENCE = 120.0  # seconds, on a machine that others load; Finagle takes 20 of them to believe a change


@dataclass(frozen=True, eq=False)
class Reader:
    """A client that reads *layout*; *follow(base, service)*: what it is told to follow.

    *sees*: what it shows of an endpoint with the metadata and weight of ``OTHERWISE``; kube2zk's clients
    know no *ports*.  If an endpoint's metadata changes, it lists the endpoint without a gap, unless it
    *blinks*.  *name*: of a client that has several readers.  *calls*: the ways in which it calls, of which
    "off" is without the retries that it makes by default.  *provider*: what its framework's provider is told
    after host and port; the others call by HTTP.
    """

    client: str
    layout: str
    follow: Callable[[str, str], tuple[str, ...]]
    sees: Mapping[str, str] = field(default_factory=dict)
    ports: bool = True
    blinks: bool = False
    name: str = ""
    calls: tuple[str, ...] = ("defaults",)
    provider: tuple[str, ...] | None = None

    @property
    def id(self) -> str:
        """What a test's cell is called."""
        return self.name or self.client

    def address(self, ip: str, port: int) -> str:
        """An endpoint as the client shows it."""
        return f"{ip}:{port}" if self.ports else ip


def _directory(base: str, service: str) -> tuple[str, ...]:
    return (f"{base}/{service}",)


def _pair(base: str, service: str) -> tuple[str, ...]:
    return (base, service)


RETRIES = ("off", "defaults")
GO_KIT = Reader("go-kit", "go-kit", _directory, calls=RETRIES)
CURATOR = Reader("curator", "curator", _pair, sees=ZONE)
SERVERSET_SD = Reader("serverset_sd", "serverset", _directory)
NERVE_SD = Reader("nerve_sd", "nerve", lambda base, service: (f"{base}/{service}/services",))
DUBBO = Reader(
    "dubbo",
    "dubbo",
    lambda base, service: (base, service, "1.0.0"),
    sees=ZONE,
    calls=RETRIES,
    provider=("1.0.0",),
)
FINAGLE = Reader("finagle", "serverset", _directory, sees=ZONE, calls=RETRIES)
SPRING_CLOUD = Reader("spring-cloud", "spring-cloud", _pair, sees=ZONE)
SOFA = Reader("sofa", "sofa", _pair, sees=ZONE, provider=())
ZKCLI = Reader("zkcli", "kube2zk", _directory, ports=False)
ARMERIA_CURATOR = Reader(
    "armeria", "curator", lambda base, service: ("curator", base, service), name="armeria-curator"
)
ARMERIA_SERVERSET = Reader(  # a member with other metadata is another one, and removals are told first
    "armeria",
    "serverset",
    lambda base, service: ("serverset", base, service),
    blinks=True,
    name="armeria-serverset",
)
D2 = Reader("d2", "d2", _pair, sees={"weight": "7.0"})
MOTAN = Reader(
    "motan",
    "motan",
    lambda base, service: (base.removesuffix("/motan"), "default_rpc", "1.0.0", service),
    calls=("zookeeper", "zk"),  # Motan's registry protocols
    provider=("default_rpc", "1.0.0"),
)
VERTX = Reader("vertx", "vertx", _pair, sees=ZONE)
KRATOS = Reader("kratos", "kratos", _pair, sees=ZONE)

SMOKE = (GO_KIT, CURATOR)
FULL = (SERVERSET_SD, DUBBO, FINAGLE, SPRING_CLOUD, SOFA)
BY_TEMPLATE = (D2, MOTAN, VERTX, KRATOS)
ARMERIA = (ARMERIA_CURATOR, ARMERIA_SERVERSET)


def parameters(smoke: Iterable[Reader] = SMOKE, full: Iterable[Reader] = FULL) -> list[object]:
    """A row a client, those of *full* marked so."""
    return [
        *(pytest.param(reader, id=reader.id) for reader in smoke),
        *(pytest.param(reader, id=reader.id, marks=pytest.mark.full) for reader in full),
    ]


def latest(watcher: Watcher) -> list[Endpoints]:
    """What each of the client's ways shows now."""
    return [shown[-1] for shown in map(watcher.seen, watcher.ways()) if shown]


def lists(watcher: Watcher, *addresses: str) -> bool:
    """Whether each of the client's ways shows just these endpoints now."""
    shown = latest(watcher)
    return bool(shown) and all(set(endpoints) == set(addresses) for endpoints in shown)


def smallest(watcher: Watcher, since: int = 0) -> int:
    """The fewest endpoints that it ever showed; without so many lists at first."""
    return min(len(endpoints) for endpoints in watcher.seen()[since:])


def unbroken(watcher: Watcher, address: str) -> bool:
    """Whether the client, once it showed the endpoint, went on to until it was gone for good."""
    shown = [[address in endpoints for endpoints in watcher.seen(way)] for way in watcher.ways()]
    return all(way.count(True) and [was for was, _ in groupby(way)].count(True) == 1 for way in shown)
