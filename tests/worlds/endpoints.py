"""One service in one layout, planned and written on a ZooKeeper in memory."""

import msgspec
import pytest

from rpcregistry.layouts import Layout
from rpcregistry.layouts.forms import PerEndpoint
from rpcregistry.layouts.template import layout as from_template
from rpcregistry.model import Endpoint
from rpcregistry.plan.ledger import Ledger, ledger_root
from rpcregistry.plan.outcome import Outcome
from rpcregistry.plan.publication import Publication, PublicationSettings
from rpcregistry.plan.znodes import plan
from rpcregistry.reconcile.cache import ZnodeCache
from tests import builders
from tests.worlds import ZooKeeperInMemory

C1, C2 = PublicationSettings("c1"), PublicationSettings("c2")
CURATOR, SERVERSET, DUBBO = Layout("curator", "/b"), Layout("serverset", "/b"), Layout("dubbo", "/b")
SPRING_CLOUD, SOFA = Layout("spring-cloud", "/b"), Layout("sofa", "/b")
GO_KIT = Layout("go-kit", "/b", from_template({"name": "${id}", "data": "${address}"}))


def divided(name: str, directory: str, **says: object) -> Layout:
    """A template with a directory of its own."""
    template = {"name": "x-${id}", "data": "${address} ${weight}", "directory": directory, **says}
    return Layout(name, "/b", from_template(template))


MOTAN = divided("motan", "${group:-main}/${service}/server")
FLAT = divided("flat", "")
JOINED = divided("joined", "${group:-main}-${service}")
BESIDE = divided("beside", "uris/${service}", static={"clusters/${service}": {"name": "${service}"}})
ALL = [
    pytest.param(layout, id=layout.name)
    for layout in (CURATOR, SERVERSET, DUBBO, MOTAN, FLAT, JOINED, BESIDE)
]


def row(number: int, **fields: object) -> Endpoint:
    """The row of a pod that serves at port 80."""
    return builders.row(number, **{"port": 80, **fields})


def wanted(*rows: Endpoint, **fields: object) -> Publication:
    defaults: dict[str, object] = {"services": 1, "namespaces": ("default",) if rows else ()}
    return Publication(endpoints=rows, **{**defaults, **fields})


class OneLayout:
    """A ZooKeeper in memory, and the plans made of what is in it."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.zookeeper = ZooKeeperInMemory()
        if not layout.names_services:  # it reads the base path, which is made before anything is read
            self.zookeeper.znodes[layout.base] = (b"", 0)

    def plan(
        self, want: Publication, settings: PublicationSettings = C1, due: tuple[str, ...] = ()
    ) -> Outcome:
        cache = ZnodeCache(self.zookeeper, [self.layout], settings.clusters)
        cache.read(["echo"])
        return plan(self.layout, "echo", want, cache.view(self.layout, "echo"), settings, "", due=due)

    def settle(self, want: Publication, settings: PublicationSettings = C1) -> None:
        """Plan and write until nothing is left to do."""
        due: tuple[str, ...] = ()
        for _ in range(5):
            outcome = self.plan(want, settings, due)
            for step in outcome.steps:
                self.zookeeper.commit(step)
            due = tuple(outcome.deferred)
            if not (outcome.steps or outcome.requeue):
                return
        raise AssertionError("never settles")

    def names(self, want: Publication, settings: PublicationSettings = C1) -> set[str]:
        """The children that *want* stands for."""
        form = self.layout.form
        assert isinstance(form, PerEndpoint)
        return {form.place("echo", endpoint, settings.cluster_id).name for endpoint in want.endpoints}

    def children(self) -> set[str]:
        """The names of what lies where endpoints do, as plans have them."""
        within = len(self.layout.directory("echo")) + 1
        return {path[within:] for path in self.zookeeper.znodes if self.layout.is_child("echo", path)}

    def claims(self) -> dict[str, tuple[str, ...]]:
        """The namespaces in the ledger, by cluster."""
        root = ledger_root(self.layout)
        entries = (self.zookeeper.znodes[f"{root}/{name}"][0] for name in self.zookeeper.children(root))
        decoded = (msgspec.json.decode(entry, type=Ledger) for entry in entries)
        return {entry.cluster: entry.namespaces for entry in decoded}
