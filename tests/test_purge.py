"""What ``rpcregistry purge`` withdraws, and what it leaves, on a ZooKeeper in memory."""

import pytest

from rpcregistry.commands.purge import Claim, claimed, withdraw
from rpcregistry.errors import Fenced
from rpcregistry.layouts import Layout
from rpcregistry.layouts.template import layout as from_template
from rpcregistry.plan import heartbeat
from rpcregistry.plan.ledger import ledger_root
from rpcregistry.plan.publication import Publication, PublicationSettings
from rpcregistry.plan.znodes import plan
from rpcregistry.reconcile.cache import ZnodeCache
from rpcregistry.reconcile.fence import Fence
from tests.worlds import ZooKeeperInMemory
from tests.worlds.endpoints import row, wanted

MINE = from_template({"name": "${id}", "data": "${address}"})
GROUPS = from_template({"name": "${id}", "data": "${address}", "directory": "${group:-x}/${service}"})
FLAT = from_template({"name": "${id}", "data": "${address}", "directory": ""})
TEMPLATES = {"mine": MINE, "groups": GROUPS, "flat": FLAT}
LAYOUTS = (
    Layout("kube2zk", "/rpc_v2"),
    Layout("dubbo", "/dubbo"),
    *(Layout(name, f"/{name}", form) for name, form in TEMPLATES.items()),
)
THEIRS = (*LAYOUTS[1:], Layout("kube2zk", "/theirs"))


def publish(zookeeper: ZooKeeperInMemory, cluster: str, *layouts: Layout) -> None:
    settings = PublicationSettings(cluster)
    for layout in layouts:
        if not layout.names_services:
            zookeeper.znodes[layout.base] = (b"", 0)
        zookeeper.znodes[ledger_root(layout)] = (b"", 0)  # parents are made outside of transactions
        cache = ZnodeCache(zookeeper, [layout], settings.clusters)
        cache.read(["echo"])
        want: Publication = wanted(row(1), row(2))
        for step in plan(layout, "echo", want, cache.view(layout, "echo"), settings, "").steps:
            zookeeper.commit(step)


@pytest.fixture
def zookeeper() -> ZooKeeperInMemory:
    zookeeper = ZooKeeperInMemory()
    publish(zookeeper, "c1", *LAYOUTS)
    publish(zookeeper, "c2", *THEIRS)
    zookeeper.znodes[heartbeat.path("c1")] = (b"{}", 4)
    zookeeper.znodes["/rpc_v2/theirs"] = (b"{}", 1)
    return zookeeper


def purge(zookeeper: ZooKeeperInMemory) -> None:
    claims = list(claimed(zookeeper, ("c1",), TEMPLATES))
    withdraw(zookeeper, Fence(zookeeper, "c1", lambda: None), claims, PublicationSettings("c1"))


def test_it_finds_what_the_ledger_names_of_whatever_layout(zookeeper: ZooKeeperInMemory):
    found = sorted(claimed(zookeeper, ("c1",), {}), key=lambda claim: claim.name)

    assert found == [
        Claim("dubbo", "/dubbo/echo", LAYOUTS[1]),
        Claim("flat", "/flat/echo", None),
        Claim("groups", "/groups/echo", None),
        Claim("kube2zk", "/rpc_v2/echo", LAYOUTS[0]),
        Claim("mine", "/mine/echo", None),
    ]


def test_all_that_is_ours_goes_and_nothing_else(zookeeper: ZooKeeperInMemory):
    purge(zookeeper)
    other = ZooKeeperInMemory()
    publish(other, "c2", *THEIRS)

    left = zookeeper.znodes.keys() - {"/rpcregistry/fence/c1"}
    assert left == other.znodes.keys() | {"/rpc_v2/theirs"}


def test_a_layout_that_nobody_knows_is_left(zookeeper: ZooKeeperInMemory):
    claims = list(claimed(zookeeper, ("c1",), {}))
    withdraw(zookeeper, Fence(zookeeper, "c1", lambda: None), claims, PublicationSettings("c1"))

    assert len(zookeeper.children("/mine/echo")) == 4
    assert {claim.name for claim in claimed(zookeeper, ("c1",), {})} == set(TEMPLATES)


def test_a_controller_that_was_only_paused_cannot_write_any_more(zookeeper: ZooKeeperInMemory):
    paused = Fence(zookeeper, "c1", lambda: None)
    check = paused.check()
    purge(zookeeper)

    with pytest.raises(Fenced):
        zookeeper.commit([check])
