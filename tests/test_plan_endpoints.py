"""Layouts with one znode an endpoint: which children come and go, in which order, and whose they are."""

import msgspec
import pytest

from rpcregistry.layouts import Layout
from rpcregistry.layouts.forms import PerEndpoint
from rpcregistry.model import Endpoint
from rpcregistry.plan.ledger import ledger_path
from rpcregistry.plan.one_each import LARGEST_LISTING
from rpcregistry.plan.ops import Create, Delete, Set, Znode
from rpcregistry.plan.outcome import Outcome
from rpcregistry.plan.publication import Policy, Publication, PublicationSettings
from rpcregistry.plan.znodes import plan
from rpcregistry.reconcile.cache import ZnodeCache
from tests.worlds.endpoints import (
    ALL,
    BESIDE,
    C1,
    C2,
    CURATOR,
    DUBBO,
    FLAT,
    GO_KIT,
    JOINED,
    MOTAN,
    SERVERSET,
    SOFA,
    SPRING_CLOUD,
    OneLayout,
    divided,
    row,
    wanted,
)


@pytest.mark.parametrize("layout", ALL)
def test_a_new_service_is_claimed_with_its_directory_before_its_first_endpoint(layout: Layout):
    registry = OneLayout(layout)
    first, *rest = registry.plan(wanted(row(1), row(2))).steps

    entry = ledger_path(layout, "echo", "c1")
    *directories, last = [op.path for op in first]
    assert last == entry
    assert directories[: len(layout.parents("echo"))] == list(layout.parents("echo"))
    assert all(layout.is_directory("echo", path) for path in directories)
    assert entry.endswith("%2Fb%2Fecho@c1")
    assert all(isinstance(op, Create) for step in rest for op in step)
    assert len(rest) == 2


@pytest.mark.parametrize("layout", ALL)
def test_a_second_plan_writes_nothing(layout: Layout):
    registry = OneLayout(layout)
    registry.settle(wanted(row(1), row(2)))

    assert registry.children() == registry.names(wanted(row(1), row(2)))
    assert registry.plan(wanted(row(2), row(1))) == Outcome()


def test_the_directory_is_there_before_anything_is_published_and_after_everything_was():
    registry = OneLayout(DUBBO)
    registry.settle(wanted())
    assert registry.zookeeper.znodes.keys() == {"/b/echo", "/b/echo/providers"}

    registry.settle(wanted(row(1)))
    registry.settle(wanted(services=0))
    assert registry.zookeeper.znodes.keys() == {"/b/echo", "/b/echo/providers"}


def test_a_service_that_fits_no_such_znode_leaves_no_directory():
    outcome = OneLayout(DUBBO).plan(wanted(row(1, port=None)))

    assert (outcome.steps, outcome.refusal.reason) == ((), "MissingPort")


def test_one_endpoint_without_a_port_costs_no_other():
    registry = OneLayout(DUBBO)
    want = wanted(row(1), row(2, port=None), row(3, port=None))
    registry.settle(want)

    assert registry.children() == registry.names(wanted(row(1)))
    assert registry.plan(want).refusal.reason == "MissingPort"
    assert "1 more" in registry.plan(want).refusal.message


def test_what_changes_in_place_is_set_at_the_version_read():
    registry = OneLayout(CURATOR)
    registry.settle(wanted(row(1)))
    (op,) = registry.plan(wanted(row(1, metadata={"zone": "b"}))).ops

    assert isinstance(op, Set)
    assert op.version == 0


@pytest.mark.parametrize("layout", [SERVERSET, DUBBO])
def test_an_endpoint_whose_name_changes_is_replaced_in_one_step(layout: Layout):
    """Where clients are told of members one by one, too: Armeria gives up an address that is removed last."""
    registry = OneLayout(layout)
    registry.settle(wanted(row(1), row(2)))
    (step,) = registry.plan(wanted(row(1, weight=5), row(2))).steps

    assert [type(op) for op in step] == [Delete, Create]


@pytest.mark.parametrize("frozen", [pytest.param(False, id="known"), pytest.param(True, id="unknown")])
@pytest.mark.parametrize(
    ("layout", "change"),
    [
        pytest.param(SOFA, {"weight": 5}, id="sofa: the weight"),
        *(
            pytest.param(layout, {"ip": "10.0.0.99"}, id=f"{layout.name}: the address")
            for layout in (CURATOR, SPRING_CLOUD, SERVERSET, SOFA, GO_KIT)
        ),
    ],
)
def test_a_new_name_overlaps_with_the_old_one_where_clients_hear_of_each_by_itself(
    layout: Layout, change: dict[str, object], frozen: bool
):
    registry = OneLayout(layout)
    registry.settle(wanted(row(1)))
    changed = wanted(row(1, **change), frozen=frozen)
    first = registry.plan(changed)
    assert [type(op) for op in first.ops] == [Create]
    assert first.requeue
    assert set(first.deferred) == registry.names(wanted(row(1)))

    registry.settle(changed)
    assert registry.children() == registry.names(changed)


@pytest.mark.parametrize("layout", [CURATOR, SPRING_CLOUD])
def test_an_upgrade_renames_nothing_until_the_address_changes(layout: Layout):
    registry = OneLayout(layout)
    before = earlier(registry, row(1), row(2))
    written = len(registry.zookeeper.commits)
    registry.settle(wanted(row(1), row(2)))
    assert len(registry.zookeeper.commits) == written

    (op,) = registry.plan(wanted(row(1, metadata={"zone": "b"}), row(2))).ops
    assert isinstance(op, Set)
    assert op.path.rpartition("/")[2] in before, "what is no address changes in place"

    registry.settle(wanted(row(1), row(2, ip="10.0.0.99"), row(3)))
    first = earlier_names(registry, row(1))
    assert registry.children() == first | registry.names(wanted(row(2, ip="10.0.0.99"), row(3)))

    registry.settle(wanted(services=0))
    assert (registry.children(), registry.claims()) == (set(), {})


@pytest.mark.parametrize("layout", [CURATOR, SPRING_CLOUD])
def test_a_child_of_an_earlier_version_with_another_address_is_replaced(layout: Layout):
    """The address changed, or somebody edited it, while no controller ran."""
    registry = OneLayout(layout)
    (before,) = earlier(registry, row(1))
    first = registry.plan(wanted(row(1, ip="10.0.0.99")))
    assert ([type(op) for op in first.ops], set(first.deferred)) == ([Create], {before})

    path = f"{layout.directory('echo')}/{before}"
    registry.zookeeper.znodes[path] = (b"nonsense", 7)
    registry.settle(wanted(row(1)))
    assert registry.children() == registry.names(wanted(row(1)))


def test_a_rebuilt_cluster_takes_over_what_an_earlier_version_wrote():
    registry = OneLayout(CURATOR)
    earlier(registry, row(1))
    registry.settle(wanted(row(1)), PublicationSettings("c2", from_cluster="c1"))

    assert registry.children() == registry.names(wanted(row(1)), C2)
    assert registry.claims() == {"c2": ("default",)}


def earlier_names(registry: OneLayout, *rows: Endpoint) -> set[str]:
    form = registry.layout.form
    assert isinstance(form, PerEndpoint)
    return {form.place_before("echo", each, "c1").name for each in rows}


def earlier(registry: OneLayout, *rows: Endpoint) -> set[str]:
    """Publish *rows* as earlier versions did; return the names of the children."""
    form = registry.layout.form
    assert isinstance(form, PerEndpoint)
    old = msgspec.structs.replace(form, child=form.former, former=None, overlap=False)
    current, registry.layout = registry.layout, msgspec.structs.replace(registry.layout, template=old)
    registry.settle(wanted(*rows))
    registry.layout = current
    return registry.children()


@pytest.mark.parametrize("layout", ALL)
def test_of_what_comes_and_goes_at_once_additions_come_first(layout: Layout):
    registry = OneLayout(layout)
    registry.settle(wanted(row(1), row(2)))
    first = registry.plan(wanted(row(2), row(3)))
    assert [type(op) for op in first.ops] == [Create]
    assert first.requeue
    assert set(first.deferred) == registry.names(wanted(row(1)))

    for step in first.steps:
        registry.zookeeper.commit(step)
    second = registry.plan(wanted(row(2), row(3)), due=tuple(first.deferred))
    assert [type(op) for op in second.ops] == [Delete]


def test_what_was_deferred_once_is_not_deferred_for_ever():
    registry = OneLayout(SERVERSET)
    registry.settle(wanted(row(1), row(2)))
    due = tuple(registry.names(wanted(row(1))))
    outcome = registry.plan(wanted(row(2), row(3)), due=due)

    assert [type(op) for op in outcome.ops] == [Create, Delete]


@pytest.mark.parametrize("layout", ALL)
@pytest.mark.parametrize(
    ("want", "settings"),
    [
        pytest.param(wanted(row(2), frozen=True), C1, id="unknown"),
        pytest.param(wanted(frozen=True, services=0), C1, id="all of it unknown"),
        pytest.param(wanted(row(2)), PublicationSettings("c1", policy=Policy.UPSERT_ONLY), id="upsert-only"),
    ],
)
def test_what_removes_no_child(layout: Layout, want: Publication, settings: PublicationSettings):
    registry = OneLayout(layout)
    registry.settle(wanted(row(1), namespaces=("default", "other")))
    registry.settle(want, settings)

    assert registry.children() == registry.names(wanted(row(1), *want.endpoints))
    assert registry.claims() == {"c1": ("default", "other")}


@pytest.mark.parametrize("layout", ALL)
def test_two_clusters_publish_side_by_side(layout: Layout):
    registry = OneLayout(layout)
    registry.settle(wanted(row(1)), C1)
    registry.settle(wanted(row(1)), C2)
    both = registry.names(wanted(row(1)), C1) | registry.names(wanted(row(1)), C2)
    assert (len(both), registry.children()) == (2, both)
    assert registry.claims() == {"c1": ("default",), "c2": ("default",)}

    registry.settle(wanted(services=0), C1)
    assert registry.children() == registry.names(wanted(row(1)), C2)
    assert registry.claims() == {"c2": ("default",)}


@pytest.mark.parametrize("layout", ALL)
def test_what_others_put_beside_ours_is_left_alone(layout: Layout):
    registry = OneLayout(layout)
    registry.settle(wanted(row(1)))
    (ours,) = registry.children()
    theirs = "/".join([*ours.split("/")[:-1], "member_0000000001"])
    foreign = f"{layout.directory('echo')}/{theirs}"
    registry.zookeeper.znodes[foreign] = (b"theirs", 3)
    registry.settle(wanted(row(2)))
    registry.settle(wanted(services=0))

    assert registry.children() == {theirs}
    assert registry.zookeeper.znodes[foreign] == (b"theirs", 3)


def test_an_ephemeral_znode_is_left_alone_whatever_it_is_called():
    registry = OneLayout(CURATOR)
    registry.settle(wanted(row(1), row(2)))
    registry.zookeeper.ephemeral |= {f"/b/echo/{name}" for name in registry.names(wanted(row(1), row(2)))}
    outcome = registry.plan(wanted(row(2, weight=3)))

    assert outcome.refusal.reason == "OwnedElsewhere"
    assert not [op for op in outcome.ops if op.path.startswith("/b/")]


def test_children_that_carry_our_mark_and_no_claim_are_not_removed_and_are_claimed_again():
    registry = OneLayout(DUBBO)
    registry.settle(wanted(row(1)))
    del registry.zookeeper.znodes[ledger_path(DUBBO, "echo", "c1")]
    assert registry.plan(wanted(services=0)) == Outcome()

    registry.settle(wanted(row(2)))
    assert registry.children() == registry.names(wanted(row(2)))
    assert registry.claims() == {"c1": ("default",)}


@pytest.mark.parametrize("layout", ALL)
def test_a_rebuilt_cluster_takes_over_once_it_has_something_to_publish(layout: Layout):
    registry = OneLayout(layout)
    registry.settle(wanted(row(1), row(2)), C1)
    rebuilt = PublicationSettings("c2", from_cluster="c1")
    registry.settle(wanted(), rebuilt)
    assert registry.children() == registry.names(wanted(row(1), row(2)), C1)

    registry.settle(wanted(row(3)), rebuilt)
    assert registry.children() == registry.names(wanted(row(3)), C2)
    assert registry.claims() == {"c2": ("default",)}


@pytest.mark.parametrize("layout", ALL)
def test_what_no_entry_of_the_previous_cluster_names_is_not_taken_over(layout: Layout):
    """Somebody deleted its entry: nothing says any more that its children are ours to take."""
    registry = OneLayout(layout)
    registry.settle(wanted(row(1)), C1)
    registry.settle(wanted(row(3)), PublicationSettings("c2"))
    del registry.zookeeper.znodes[ledger_path(layout, "echo", "c1")]
    registry.settle(wanted(services=0), PublicationSettings("c2", from_cluster="c1"))

    assert registry.children() == registry.names(wanted(row(1)), C1)


def test_a_namespace_that_publishes_no_more_is_forgotten_after_its_endpoints():
    registry = OneLayout(SERVERSET)
    registry.settle(wanted(row(1), row(2), namespaces=("a", "b")))
    *_, last = registry.plan(wanted(row(1), namespaces=("a",))).steps
    assert [op.path for op in last] == [ledger_path(SERVERSET, "echo", "c1")]

    moved = registry.plan(wanted(row(1), row(3), namespaces=("a",)))
    assert [type(op) for op in moved.ops] == [Create], "not before its endpoints"

    registry.settle(wanted(row(1), row(3), namespaces=("a", "c")))
    assert registry.claims() == {"c1": ("a", "c")}


def test_more_names_than_clients_can_list_are_not_added_and_still_removed():
    registry = OneLayout(DUBBO)
    registry.settle(wanted(row(1), row(2)))
    large = row(3, metadata={f"k{n}": "x" * 200 for n in range(4)})
    many = [msgspec.structs.replace(large, pod_uid=f"v{n}") for n in range(LARGEST_LISTING // 800)]
    outcome = registry.plan(wanted(row(1), *many))

    assert outcome.refusal.reason == "TooLarge"
    assert [type(op) for op in outcome.ops] == [Delete]


def test_an_endpoint_that_grows_too_large_keeps_what_it_had():
    registry = OneLayout(SERVERSET)
    registry.settle(wanted(row(1), row(2)))
    before = registry.children()
    outcome = registry.plan(
        wanted(row(1), row(2, metadata={"k": "x" * 300})), PublicationSettings("c1", max_znode_bytes=200)
    )

    assert (outcome.steps, outcome.refusal.reason) == ((), "TooLarge")
    assert registry.children() == before


def test_an_only_endpoint_that_grows_too_large_keeps_its_claim():
    registry = OneLayout(SERVERSET)
    registry.settle(wanted(row(1)))

    assert not registry.plan(
        wanted(row(1, metadata={"k": "x" * 300})), PublicationSettings("c1", max_znode_bytes=200)
    ).steps


STATES = [
    pytest.param(wanted(row(1), row(2)), id="first"),
    pytest.param(wanted(row(2, weight=3), row(3), namespaces=("other",)), id="one comes, changes, goes"),
    pytest.param(wanted(row(4)), id="all others"),
    pytest.param(wanted(services=0), id="none"),
]


@pytest.mark.parametrize("layout", ALL)
@pytest.mark.parametrize("before", STATES)
@pytest.mark.parametrize("after", STATES)
def test_a_plan_cut_off_after_any_step_leaves_no_orphan_and_leads_to_the_same_end(
    layout: Layout, before: Publication, after: Publication
):
    begun = OneLayout(layout)
    begun.settle(before)
    straight = OneLayout(layout)
    straight.zookeeper.znodes = begun.zookeeper.znodes.copy()
    straight.settle(after)
    for done in range(len(begun.plan(after).steps) + 1):
        cut = OneLayout(layout)
        cut.zookeeper.znodes = begun.zookeeper.znodes.copy()
        for step in cut.plan(after).steps[:done]:
            cut.zookeeper.commit(step)
            assert cut.claims() or not cut.children()
            assert cut.children() >= begun.names(before) & begun.names(after)
        cut.settle(after)
        assert data(cut) == data(straight)


def data(registry: OneLayout) -> dict[str, bytes]:
    return {path: found for path, (found, _) in registry.zookeeper.znodes.items()}


def test_it_is_known_when_znodes_were_read_last():
    registry, now = OneLayout(CURATOR), [1.0]
    registry.settle(wanted(row(1)))
    cache = ZnodeCache(registry.zookeeper, [CURATOR], C1.clusters, lambda: now[0])
    assert cache.read_at(CURATOR, "echo") is None
    cache.read(["echo"])
    now[0] = 5.0
    cache.read(["echo"])
    assert cache.read_at(CURATOR, "echo") == 1.0
    cache.mark_stale(["echo"])
    cache.read(["echo"])
    assert cache.read_at(CURATOR, "echo") == 5.0


def test_znodes_are_what_was_read():
    registry = OneLayout(CURATOR)
    registry.settle(wanted(row(1)))
    cache = ZnodeCache(registry.zookeeper, [CURATOR], C1.clusters)
    cache.read(["echo"])
    view = cache.view(CURATOR, "echo")

    assert view.znode == Znode(b"", 0)
    assert list(view.children.values()) == [
        Znode(registry.zookeeper.znodes[f"/b/echo/{n}"][0], 0) for n in view.children
    ]


@pytest.mark.parametrize("layout", ALL)
def test_of_what_no_rpcservice_could_be_made_to_list_the_published_stays_and_the_new_waits(layout: Layout):
    registry = OneLayout(layout)
    registry.settle(wanted(row(1), row(2), row(3), namespaces=("default", "other")))
    registry.settle(wanted(row(1), unlisted=(row(2), row(4))))
    assert registry.children() == registry.names(wanted(row(1), row(2)))
    assert registry.claims() == {"c1": ("default", "other")}

    registry.settle(wanted(unlisted=(row(2),)))
    assert registry.children() == registry.names(wanted(row(2)))
    registry.settle(wanted(unlisted=(row(4),)))
    assert (registry.children(), registry.claims()) == (set(), {})


# directories that are not just the service's


def znodes(registry: OneLayout) -> dict[str, bytes]:
    return {path: found for path, (found, _) in registry.zookeeper.znodes.items() if path.startswith("/b")}


def test_endpoints_of_several_groups_lie_in_several_directories_and_move_between_them():
    registry = OneLayout(MOTAN)
    registry.settle(wanted(row(1), row(2, group="g")))
    assert {name.rpartition("/")[0] for name in registry.children()} == {"main/echo/server", "g/echo/server"}

    changed = wanted(row(1, group="g"), row(2, group="g"))
    first = registry.plan(changed)
    assert [type(op) for op in first.ops] == [Delete, Create], "one address: in one step"
    registry.settle(changed)
    assert registry.children() == registry.names(changed)

    registry.settle(wanted(services=0))
    assert (registry.children(), registry.claims()) == (set(), {})


def test_a_group_that_is_no_name_of_a_directory_costs_its_endpoint():
    outcome = OneLayout(MOTAN).plan(wanted(row(1, group="a/b"), row(2)))

    assert outcome.refusal.reason == "InvalidName"
    assert "group" in outcome.refusal.message
    assert sum(isinstance(op, Create) and MOTAN.is_child("echo", op.path) for op in outcome.ops) == 1


@pytest.mark.parametrize("layout", [FLAT, JOINED], ids=["flat", "joined"])
def test_services_that_share_a_directory_take_nothing_from_each_other(layout: Layout):
    """*a-echo* in group *main*, and *echo* in group *main-a*, have one directory."""
    registry = OneLayout(layout)
    zookeeper, groups = registry.zookeeper, {"a-echo": "main", "echo": "main-a"}

    def settle(name: str, *rows: Endpoint) -> set[str]:
        cache = ZnodeCache(zookeeper, [layout], C1.clusters)
        for _ in range(4):
            cache.mark_stale([name])
            cache.read([name])
            for step in plan(layout, name, wanted(*rows), cache.view(layout, name), C1, "").steps:
                zookeeper.commit(step)
        form = layout.form
        assert isinstance(form, PerEndpoint)
        return {f"/b/{form.place(name, each, 'c1').name}" for each in rows}

    rows = {name: row(1, group=group) for name, group in groups.items()}
    both = [settle(name, each) for name, each in rows.items()]
    assert len(set.union(*both)) == 2
    assert set.union(*both) <= zookeeper.znodes.keys()
    cache = ZnodeCache(zookeeper, [layout], C1.clusters)
    cache.read(groups)
    assert [cache.view(layout, name).foreign for name in groups] == [set(), set()]
    settle("echo")
    assert {path for path in zookeeper.znodes if layout.is_child("echo", path)} == both[0]


def test_a_static_znode_is_made_with_its_service_and_never_changed_nor_deleted():
    registry = OneLayout(BESIDE)
    registry.settle(wanted())
    static = {"/b": b"", "/b/uris": b"", "/b/clusters": b"", "/b/uris/echo": b""}
    assert znodes(registry) == {**static, "/b/clusters/echo": b'{"name":"echo"}'}

    registry.zookeeper.znodes["/b/clusters/echo"] = (b"another's", 3)
    registry.settle(wanted(row(1)))
    registry.settle(wanted(services=0))
    assert znodes(registry) == {**static, "/b/clusters/echo": b"another's"}

    del registry.zookeeper.znodes["/b/clusters/echo"]
    registry.settle(wanted(row(1)))
    assert znodes(registry)["/b/clusters/echo"] == b'{"name":"echo"}'


@pytest.mark.parametrize("path", ["${service}/conf", "${service}", "main"])
def test_a_static_znode_on_the_way_to_endpoints_is_made_once(path: str):
    first = "main" if path == "main" else "${service}"
    layout = divided("divided", f"{first}/${{version:-v}}/${{service}}", static={path: "static"})
    registry = OneLayout(layout)
    registry.settle(wanted(row(1)))

    at = f"/b/{path.replace('${service}', 'echo')}"
    assert znodes(registry)[at] == b"static"
    assert registry.children() == registry.names(wanted(row(1)))
