"""The invariants of plans: each catches what breaks it, and no plan does."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpcregistry.errors import Conflict
from rpcregistry.layouts import LAYOUTS, Layout
from rpcregistry.layouts.forms import Child, PerEndpoint
from rpcregistry.model import Endpoint, LabelSelector, RpcServiceSpec, RpcServiceStatus, ServiceKey
from rpcregistry.plan import rpcservices
from rpcregistry.plan.invariants import (
    Broken,
    check,
    check_objects,
    check_transaction,
    lost,
    object_violations,
    violations,
)
from rpcregistry.plan.ledger import Ledger, ledger_path
from rpcregistry.plan.ops import Create, Delete, Set, Step, Znode
from rpcregistry.plan.outcome import ObservedZnodes
from rpcregistry.plan.publication import Adopt, Policy, Publication, PublicationSettings
from rpcregistry.plan.rows import Absences, ObservedRpcServices
from rpcregistry.plan.writes import Writes
from rpcregistry.plan.znodes import plan
from rpcregistry.reconcile.cache import ZnodeCache
from tests import builders
from tests.builders import NOW
from tests.worlds.endpoints import OneLayout, row
from tests.worlds.rpcservices import SETTINGS, service


def a_child(_: str, endpoint: Endpoint, cluster: str) -> Child:
    return Child(f"{cluster}.{endpoint.pod_uid}.{endpoint.weight or 0}", b"x" * (endpoint.weight or 0))


def a_slot(name: str, cluster: str) -> str | None:
    whose, *slot = name.split(".")
    return slot[0] if whose == cluster and slot else None


FORM = PerEndpoint(a_child, a_slot)
LAYOUT = Layout("mine", "/b", FORM)
OVERLAP = Layout("mine", "/b", msgspec.structs.replace(FORM, overlap=True))
KUBE2ZK = Layout("kube2zk", "/b")
C1 = PublicationSettings("c1")
REBUILT = PublicationSettings("c1", from_cluster="c0")
OURS, PREVIOUS = ledger_path(LAYOUT, "echo", "c1"), ledger_path(LAYOUT, "echo", "c0")
ENTRY = ledger_path(KUBE2ZK, "echo", "c1")


def entry(*namespaces: str) -> bytes:
    return Ledger("c1", namespaces).encode()


def add(name: str) -> Create:
    return Create(f"/b/echo/{name}", b"")


def edit(name: str) -> Set:
    return Set(f"/b/echo/{name}", b"", 0)


def drop(name: str) -> Delete:
    return Delete(f"/b/echo/{name}", 0)


def there(*names: str, **fields: object) -> ObservedZnodes:
    """A directory with these children, claimed."""
    children = {name: Znode(b"", 0) for name in names}
    defaults: dict[str, object] = {"ledger": Znode(entry("a", "b"), 0), "children": children}
    return ObservedZnodes(Znode(b"", 0), **{**defaults, **fields})


CLAIM, WITHDRAW = Create(OURS, entry("a")), Delete(OURS, 0)
NOTHING = ObservedZnodes(None, None, missing=("/b/echo",))


@pytest.mark.parametrize(
    ("steps", "observed", "broken"),
    [
        pytest.param(
            [(Create("/b/echo", b""), CLAIM), (add("c1.1.0"),)], NOTHING, "", id="a new service is fine"
        ),
        pytest.param(
            [(add("c1.2.0"),), (drop("c1.1.0"), add("c1.1.1")), (drop("c1.3.0"),)],
            there("c1.1.0", "c1.3.0"),
            "",
            id="one comes, one changes its name, one goes: fine",
        ),
        pytest.param([(drop("c1.1.0"),), (WITHDRAW,)], there("c1.1.0"), "", id="the last one goes: fine"),
        # 1. ours alone
        pytest.param([(Create("/b/other/c1.1.0", b""),)], there(), "not its own", id="another service's"),
        pytest.param([(Set("/zookeeper", b"", 0),)], there(), "not its own", id="outside of the base path"),
        pytest.param([(Create(PREVIOUS, b""),)], there(), "not its own", id="another cluster's entry"),
        pytest.param([(add("c1.1.0/x"),)], there(), "not its own", id="deeper than a child"),
        pytest.param([(add(""),)], there(), "mark", id="no name at all"),
        pytest.param([(add("member_1"),)], there(), "mark", id="a name that is not known again as ours"),
        pytest.param([(drop("member_1"),)], there("member_1"), "mark", id="what others put beside ours"),
        pytest.param([(drop("c0.1.0"),)], there("c0.1.0"), "mark", id="another cluster's child"),
        pytest.param(
            [(drop("c1.1.0"),)],
            there(children={"c1.1.0": Znode(b"", 0, ephemeral=True)}),
            "RPC server's own",
            id="an ephemeral child",
        ),
        pytest.param([(Delete("/b/echo", 0),)], there(), "only ever created", id="the directory is deleted"),
        pytest.param([(Set("/b/echo", b"", 0),)], there(), "only ever created", id="the directory changes"),
        # 2. once
        pytest.param([()], there(), "empty", id="an empty step"),
        pytest.param([(add("c1.1.0"),), (edit("c1.1.0"),)], there(), "twice", id="a path in two steps"),
        pytest.param([(add("c1.1.0"), edit("c1.1.0"))], there(), "twice", id="a path twice in a step"),
        pytest.param(
            [(CLAIM, add("c1.1.0")), (Create("/b/echo", b""),)],
            NOTHING,
            "after what lies in it",
            id="a child before its directory",
        ),
        # 4. additions first
        pytest.param(
            [(drop("c1.1.0"),), (add("c1.2.0"),)], there("c1.1.0"), "after", id="one comes after one went"
        ),
        pytest.param(
            [(drop("c1.1.0"),), (edit("c1.2.0"),)],
            there("c1.1.0", "c1.2.0"),
            "after",
            id="one changes after one went",
        ),
        pytest.param(
            [(drop("c1.1.0"), add("c1.2.0"))], there("c1.1.0"), "another endpoint", id="two others in one"
        ),
        pytest.param(
            [(add("c1.1.1"),), (drop("c1.1.0"),)],
            there("c1.1.0"),
            "its new name",
            id="a name is replaced in two steps",
        ),
        # 5. claimed
        pytest.param(
            [(add("c1.1.0"),)], there(ledger=None), "no ledger entry", id="one comes and is not claimed"
        ),
        pytest.param(
            [(drop("c1.1.0"),)],
            there("c1.1.0", ledger=None),
            "no ledger entry",
            id="one goes and is not claimed",
        ),
        pytest.param(
            [(add("c1.1.0"),), (CLAIM,)], there(ledger=None), "no ledger entry", id="claimed too late"
        ),
        pytest.param(
            [(Create("/b/echo", b""),), (CLAIM,)], NOTHING, "after the first step", id="a claim that waits"
        ),
        pytest.param(
            [(WITHDRAW,), (drop("c1.1.0"),)], there("c1.1.0"), "before the last", id="the claim ends early"
        ),
        pytest.param([(WITHDRAW,)], there("c1.1.0"), "c1.1.0 stays", id="the claim ends and one stays"),
        pytest.param(
            [(Set(OURS, entry("a"), 0),), (drop("c1.1.0"),)],
            there("c1.1.0"),
            "forgets a namespace",
            id="a namespace is forgotten before its endpoint",
        ),
        pytest.param(
            [(edit("c1.1.0"),), (Set(OURS, entry("a", "b"), 0),), (drop("c1.2.0"),)],
            there("c1.1.0", "c1.2.0"),
            "between",
            id="the entry changes in the midst",
        ),
    ],
)
def test_what_breaks_an_invariant_of_one_znode_an_endpoint(
    steps: list[Step], observed: ObservedZnodes, broken: str
):
    found = list(violations(LAYOUT, "echo", C1, observed, steps))

    assert bool(found) == bool(broken)
    assert all(broken in violation for violation in found[:1])


@pytest.mark.parametrize(
    ("steps", "broken"),
    [
        pytest.param([(drop("c0.1.0"),), (Delete(PREVIOUS, 0),)], "", id="all of it goes: fine"),
        pytest.param([(add("c0.2.0"),)], "mark", id="a child with its mark comes"),
        pytest.param([(edit("c0.1.0"),)], "mark", id="a child of it changes"),
        pytest.param([(Delete(PREVIOUS, 0),)], "c0.1.0 stays", id="its claim ends and a child stays"),
        pytest.param([(Set(PREVIOUS, b"", 0),)], "not its own", id="its entry changes"),
        pytest.param(
            [(Delete(PREVIOUS, 0),), (drop("c0.1.0"),)], "before the last", id="its claim ends early"
        ),
    ],
)
def test_what_breaks_an_invariant_of_taking_over(steps: list[Step], broken: str):
    observed = there("c0.1.0", previous=Znode(entry("a"), 0))
    found = list(violations(LAYOUT, "echo", REBUILT, observed, steps))

    assert bool(found) == bool(broken)
    assert all(broken in violation for violation in found[:1])


def test_where_names_overlap_the_old_one_outlives_the_plan():
    observed = there("c1.1.0")
    at_once: list[Step] = [(drop("c1.1.0"), add("c1.1.1"))]
    in_turn: list[Step] = [(add("c1.1.1"),), (drop("c1.1.0"),)]

    assert not list(violations(LAYOUT, "echo", C1, observed, at_once))
    assert list(violations(OVERLAP, "echo", C1, observed, at_once))
    assert list(violations(OVERLAP, "echo", C1, observed, in_turn))
    one_address = Layout("mine", "/b", msgspec.structs.replace(OVERLAP.template, address=lambda *_: "same"))
    assert not list(violations(one_address, "echo", C1, observed, at_once))


PATH = "/b/echo"


@pytest.mark.parametrize(
    ("steps", "observed", "broken"),
    [
        pytest.param([(Create(ENTRY, b""), Create(PATH, b""))], NOTHING, "", id="a new service is fine"),
        pytest.param([(Set(ENTRY, b"", 0), Delete(PATH, 0))], there(), "", id="withdrawn: fine"),
        pytest.param(
            [(Create(ENTRY, b""),), (Create(PATH, b""),)], NOTHING, "in 2 steps", id="apart from its entry"
        ),
        pytest.param([(Create(PATH, b""),)], NOTHING, "no ledger entry", id="not claimed"),
        pytest.param([(Set("/b/other", b"", 0),)], there(), "not its own", id="another service's"),
        pytest.param([(Create(ENTRY + "@c1", b""),)], there(), "not its own", id="another entry"),
        pytest.param([(Set(PATH, b"", 0), Delete(PATH, 0))], there(), "twice", id="a stale version"),
    ],
)
def test_what_breaks_an_invariant_of_one_znode_a_service(
    steps: list[Step], observed: ObservedZnodes, broken: str
):
    found = list(violations(KUBE2ZK, "echo", C1, observed, steps))

    assert bool(found) == bool(broken)
    assert all(broken in violation for violation in found[:1])


@pytest.mark.parametrize(
    ("ops", "broken"),
    [
        pytest.param([Create("/a", b""), Create("/a/b", b"")], "", id="a directory first: fine"),
        pytest.param([Delete("/a/b", 0), Delete("/a", 0)], "", id="a directory last: fine"),
        pytest.param([Set("/a", b"", 0), Set("/a", b"", 0)], "twice", id="a path twice"),
        pytest.param([Delete("/a", 0), Create("/a/b", b"")], "was deleted", id="in what was deleted"),
    ],
)
def test_what_cannot_be_one_transaction(ops, broken: str):
    if broken:
        with pytest.raises(Broken, match=broken):
            check_transaction(ops)
    else:
        check_transaction(ops)


def test_a_broken_plan_says_where_what_and_what_to_do():
    with pytest.raises(Broken, match=r"/b/echo: a step is empty; nothing .* is written\..* report it"):
        check(LAYOUT, "echo", C1, there(), [()])


def test_a_layout_that_names_znodes_so_that_they_are_not_known_again_is_caught_when_planned():
    forgetful = Layout("mine", "/b", PerEndpoint(lambda *_: Child("x"), a_slot))
    want = Publication(endpoints=(row(1),), namespaces=("a",), services=1)

    with pytest.raises(Broken, match="mark"):
        plan(forgetful, "echo", want, there(), C1, "")


# no plan breaks them

FORMS = [
    *(Layout(name, "/b") for name in LAYOUTS),
    LAYOUT,
    OVERLAP,
    # Two endpoints may come to have one slot, where it is a number.
    Layout(
        "mine", "/b", PerEndpoint(a_child, lambda n, c: "s" if a_slot(n, c) in {"u1", "u2"} else a_slot(n, c))
    ),
]
endpoints = st.lists(
    st.builds(
        lambda number, weight, port: row(number, weight=weight, port=port),
        st.integers(1, 5),
        st.sampled_from([None, 3, 300]),
        st.sampled_from([80, 80, None]),
    ),
    max_size=4,
    unique_by=lambda endpoint: endpoint.pod_uid,
).map(tuple)
publications = st.builds(
    lambda rows, unlisted, frozen, namespaces, services: Publication(
        endpoints=rows,
        unlisted=unlisted,
        frozen=frozen,
        namespaces=namespaces if rows else (),
        services=services,
    ),
    endpoints,
    st.one_of(st.just(()), endpoints),
    st.booleans(),
    st.sampled_from([("a",), ("a", "b"), ("b",)]),
    st.integers(0, 1),
)
processes = st.builds(
    lambda cluster, taken_over, policy, limit, adopt: PublicationSettings(
        cluster,
        from_cluster=taken_over if taken_over != cluster else "",
        policy=policy,
        max_znode_bytes=limit,
        adopt=adopt,
    ),
    st.sampled_from(["c1", "c2"]),
    st.sampled_from(["", "c1"]),
    st.sampled_from([Policy.SYNC, Policy.SYNC, Policy.UPSERT_ONLY]),
    st.sampled_from([200, 10**6]),
    st.sampled_from(Adopt),
)
chapters = st.lists(
    st.tuples(
        publications,
        processes,
        st.integers(0, 6),  # so many steps are done
        st.booleans(),  # whether the grace is over
        st.sampled_from([None, "delete", "edit", "register"]),  # what somebody else does first
        st.integers(0, 20),  # to which znode
    ),
    min_size=1,
    max_size=5,
)


@given(st.sampled_from(FORMS), chapters)
def test_no_plan_breaks_an_invariant_wherever_the_ones_before_were_cut_off(layout: Layout, story):
    registry = OneLayout(layout)
    deferred: tuple[str, ...] = ()
    for want, process, done, over, meddles, which in story:
        if meddles:
            meddle(registry, meddles, which)
        cache = ZnodeCache(registry.zookeeper, [layout], process.clusters)
        cache.read(["echo"])
        # Fails where it breaks one.
        outcome = plan(layout, "echo", want, cache.view(layout, "echo"), process, NOW, over, deferred)
        deferred = tuple(outcome.deferred)
        try:
            for step in outcome.steps[:done]:
                registry.zookeeper.commit(step)
        except Conflict:
            deferred = ()


def meddle(registry: OneLayout, what: str, which: int) -> None:
    znodes = registry.zookeeper.znodes
    leaves = [path for path in sorted(znodes) if not registry.zookeeper.children(path)]
    if leaves:
        path = leaves[which % len(leaves)]
        match what:
            case "delete":
                del znodes[path]
            case "edit":
                znodes[path] = (b"garbage", znodes[path][1] + 1)
            case "register":
                registry.zookeeper.ephemeral.add(path)


# RpcServices

KEY = ServiceKey("default", "echo")


def listing(*numbers: int, ports: tuple[int | None, ...] = (None,)) -> RpcServiceStatus:
    rows = tuple(
        Endpoint(pod_name=f"p{n}", pod_uid=f"u{n}", ip="10.0.0.1", ips=(), port=port, ready=True)
        for n in numbers
        for port in ports
    )
    return RpcServiceStatus(observed_generation=1, endpoints=rows)


def of(name: str, *numbers: int, **fields: object):
    return service(name, status=listing(*numbers), **fields)


def make(name: str, *numbers: int, service_name: str = "echo") -> rpcservices.Create:
    return rpcservices.Create("default", name, service_name, listing(*numbers))


def put(name: str, before: tuple[int, ...], *after: int) -> rpcservices.SetStatus:
    return rpcservices.SetStatus(of(name, *before), listing(*after))


def remove(name: str, *numbers: int, **fields: object) -> rpcservices.Delete:
    return rpcservices.Delete(of(name, *numbers, **fields))


@pytest.mark.parametrize(
    ("ops", "broken"),
    [
        pytest.param(
            [make("n", 1), put("a", (), 2), put("b", (1, 2)), remove("b", 1, 2)], "", id="rows move: fine"
        ),
        pytest.param([put("a", (1,), 2), put("b", (2,), 1)], "", id="rows are exchanged: fine, see Writes"),
        # 6. ours alone
        pytest.param([make("n", service_name="other")], "this service", id="another service's"),
        pytest.param([remove("mine", generated=False)], "person's", id="a declared one is deleted"),
        # 7. once
        pytest.param([put("a", (), 1), put("a", (), 2)], "twice", id="an object is written twice"),
        pytest.param([remove("a"), remove("a")], "twice", id="an object is deleted twice"),
        pytest.param([remove("a", 1)], "rows in it", id="deleted with what it listed"),
        pytest.param([put("a", (), 1), remove("a")], "rows in it", id="deleted with what it is to list"),
        pytest.param([put("a", (), 1), put("b", (), 1)], "lists, too", id="a row in two objects"),
        pytest.param(
            [rpcservices.SetStatus(of("a"), listing(1, ports=(80, 80)))],
            "lists, too",
            id="a row twice in one",
        ),
        # 8. additions first
        pytest.param(
            [put("a", (1,)), put("b", (), 1)], "takes more away", id="taken away before it is added"
        ),
        pytest.param([put("a", (), 1), make("n", 2)], "takes more away", id="created after one is written"),
        pytest.param([remove("a"), put("b", (1,))], "takes more away", id="deleted before the rest"),
    ],
)
def test_what_breaks_an_invariant_of_rpcservices(ops: list[rpcservices.Op], broken: str):
    found = list(object_violations(KEY, ops))

    assert bool(found) == bool(broken)
    assert all(broken in violation for violation in found[:1])
    if broken:
        with pytest.raises(Broken, match=broken):
            check_objects(KEY, ops)


@pytest.mark.parametrize(
    ("ops", "made", "broken"),
    [
        pytest.param(
            [put("a", (1,), 2), put("b", (2,), 1)],
            [put("a", (1,), 1, 2), put("b", (2,), 1), put("a", (1, 2), 2)],
            "",
            id="each keeps what the other does not list yet: fine",
        ),
        pytest.param(
            [put("a", (1,), 2), put("b", (2,), 1)],
            [put("a", (1,), 2)],
            "before b lists it",
            id="a row is lost",
        ),
        pytest.param(
            [make("n", 1), put("a", (1,))],
            [put("a", (1,))],
            "before n lists it",
            id="its new home was refused",
        ),
        pytest.param([put("a", (1,)), remove("a", 1)], [remove("a", 1)], "rows in it", id="never emptied"),
        pytest.param([put("a", (1,))], [put("a", (1,))], "", id="nobody is to list it: fine"),
    ],
)
def test_what_loses_a_row_of_a_plan(ops, made, broken: str):
    found = list(lost(ops, made))

    assert bool(found) == bool(broken)
    assert all(broken in violation for violation in found)


rows = st.lists(st.integers(0, 5), max_size=5, unique=True)
services = st.lists(
    st.builds(
        lambda number, generated, part, owner, rows, label, created, deleting: of(
            f"s{number}",
            *rows,
            generated=generated,
            part_of=part,
            owner_uid=owner,
            created=created,
            deleting=deleting,
            spec=RpcServiceSpec(
                service_name="echo", selector=LabelSelector(match_labels={"at": label}) if label else None
            ),
        ),
        st.integers(0, 4),
        st.booleans(),
        st.sampled_from(["", "s0", "x"]),
        st.sampled_from(["", "uid-s0", "uid-s1"]),
        rows,
        st.sampled_from(["", "a", "b"]),
        st.sampled_from(["1", "2"]),
        st.booleans(),
    ),
    max_size=4,
    unique_by=lambda service: service.name,
)
pods = st.lists(
    st.builds(
        lambda number, serves, label, ready, terminating: builders.pod(
            f"p{number}", serves, uid=f"u{number}", labels={"at": label}, ready=ready, terminating=terminating
        ),
        st.integers(0, 5),
        st.sampled_from(["echo", "other"]),
        st.sampled_from(["", "a", "b"]),
        st.booleans(),
        st.booleans(),
    ),
    max_size=6,
    unique_by=lambda pod: pod.name,
)
uids = st.sets(st.sampled_from([f"u{n}" for n in range(6)]))


@given(services, pods, uids, uids, st.booleans(), st.sets(st.integers(0, 8)), st.booleans())
def test_no_plan_of_rpcservices_breaks_one_and_whatever_is_refused_loses_no_row(
    found, pods, confirmed, held, unknown, refused, wary
):
    observed = ObservedRpcServices(found, {pod.name: pod for pod in pods}, {each.name for each in found})
    absences = Absences(confirmed, held, unknown)
    ops = rpcservices.plan(KEY, observed, absences, SETTINGS, NOW)
    check_objects(KEY, ops)

    made = []
    writes = Writes(ops, SETTINGS, NOW, wary=wary)
    for number, op in enumerate(writes):
        if number in refused:
            writes.refused()
        else:
            made.append(op)
    assert not list(lost(ops, made))
