"""What an RPC process's registry decides: what to write to its pod, who serves what, and what to tell."""

import json
import re
import subprocess
import sys
from enum import StrEnum
from http import HTTPStatus
from types import MappingProxyType

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rpcregistry
import rpcregistry.sdk
from rpcregistry.dialects import APP_IO, RPC_SERVICE, read, write
from rpcregistry.model import (
    Declaration,
    LabelSelector,
    ObjectKey,
    RpcServiceSpec,
)
from rpcregistry.sdk import Instance, Peer, Service
from rpcregistry.sdk.announcement import REGISTERED, OwnPod, announce, is_lost, withdraw
from rpcregistry.sdk.instances import instances, peers
from rpcregistry.sdk.subscriptions import Subscription, Subscriptions
from tests.builders import pod, row, rpcservice
from tests.pages import Page

ECHO = Declaration(service_name="echo", port=8080, version="v1")
TIME = Declaration(service_name="time", port=9090)
PAGE = Page("docs/sdk.md")
PAGE_TITLE = "SDK: the RPC process's side"
BOTH = pytest.mark.parametrize("dialect", [APP_IO, RPC_SERVICE], ids=["app.io", "rpc-service"])

texts = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=20)
declarations = st.builds(
    Declaration,
    service_name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._$-]{0,30}", fullmatch=True).filter(
        "zookeeper".__ne__
    ),
    port=st.none() | st.integers(1, 65535),
    version=st.just("") | texts,
    group=st.just("") | texts,
    protocol=st.just("") | texts,
    weight=st.none() | st.integers(0, 10000),
    metadata=st.dictionaries(texts.map("m-".__add__), st.just("") | texts, max_size=4),
)


def own_pod(labels=(), annotations=()):
    key = ObjectKey("default", "p")
    return OwnPod(key=key, uid="u", resource_version="7", labels=dict(labels), annotations=dict(annotations))


def patched(pod, patch):
    """The pod as the API server makes it from a merge patch."""
    if patch is None:
        return pod
    assert patch["metadata"]["resourceVersion"] == pod.resource_version
    merged = {
        field: {k: v for k, v in {**getattr(pod, field), **patch["metadata"][field]}.items() if v is not None}
        for field in ("labels", "annotations")
    }
    return msgspec.structs.replace(pod, resource_version=pod.resource_version + "1", **merged)


def declared(pod):
    found, problems = read(pod.labels, pod.annotations)
    assert problems == ()
    return as_set(*found)


def as_set(*expected):
    return {msgspec.json.encode(declaration, order="deterministic") for declaration in expected}


# importing


def test_the_package_has_what_the_sdk_has():
    assert rpcregistry.__all__ == rpcregistry.sdk.__all__
    assert set(rpcregistry.__all__) <= set(dir(rpcregistry))
    for name in rpcregistry.__all__:
        assert getattr(rpcregistry, name) is getattr(rpcregistry.sdk, name)
    with pytest.raises(AttributeError, match="no attribute 'Informer'"):
        rpcregistry.Informer  # noqa: B018


def test_the_page_on_the_sdk_has_each_exception():
    values = {name: getattr(rpcregistry, name) for name in rpcregistry.__all__}
    failures = {name for name, value in values.items() if issubclass(value, rpcregistry.Failure)}
    assert set(PAGE.first_column("What can fail")) == failures


@pytest.mark.parametrize("kind", [Instance, Peer])
def test_the_page_on_the_sdk_has_each_field(kind: type[msgspec.Struct]):
    rows = {row[0]: row[1:] for row in PAGE.rows(PAGE_TITLE) if row}
    assert rows[kind.__name__] == list(kind.__struct_fields__)


@pytest.mark.parametrize(
    ("answers", "asked"),
    [
        pytest.param({"10.0.0.2": True}, ["10.0.0.2"], id="the oldest that is Ready"),
        pytest.param({}, ["10.0.0.2", "10.0.0.3"], id="the next, if that ends"),
    ],
)
def test_the_page_fills_a_process_from_the_oldest_peer(answers: dict[str, bool], asked: list[str]):
    (code,) = (block.text for block in PAGE.blocks if "copy_from" in block.text)
    found = peers([pod(1, ready=False), pod(2), pod(3)], pod(4))
    calls: list[str] = []

    class Registry:
        def register(self, service: Service) -> None:
            calls.append(f"register {service.name}")

        def wait_until_synced(self) -> None:
            calls.append("wait")

        def peers(self, service: str) -> tuple[Peer, ...]:
            return found

    def copy_from(address: str) -> bool:
        ip = address.removesuffix(":50051")
        calls.append(ip)
        return answers.get(ip, False)

    given = {"registry": Registry(), "Service": Service, "PORT": 50051, "copy_from": copy_from}
    exec(code, {**given, "say_ready": lambda: calls.append("ready")})

    assert calls == ["register cache", "wait", *asked, "ready"]


def test_a_command_does_not_import_the_sdk():
    """It would begin 50 ms later."""
    code = "import rpcregistry.cli, sys; print(*(name for name in sys.modules if 'rpcregistry.sdk' in name))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_process_in_a_pod_imports_neither_zookeeper_nor_the_controllers_libraries(tmp_path):
    """Each is memory in every RPC process; the Kubernetes client is imported for a kubeconfig only."""
    for name in ("token", "ca.crt"):
        (tmp_path / name).write_text("x")
    code = (
        "import sys\nfrom pathlib import Path\nfrom rpcregistry.kube.client import Kube\n"
        "from rpcregistry.sdk import Registry\n"
        "Registry(Kube.from_config(None, service_account=Path(sys.argv[1])), 'default', 'p').start()\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path],
        env={"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    unwanted = {"kazoo", "kubernetes", "click", "rich", "structlog", "prometheus_client", "grpc", "asyncio"}
    assert "msgspec" in done.stdout.split()
    assert unwanted.isdisjoint(done.stdout.split())


# writing


@BOTH
@given(st.lists(declarations, max_size=8, unique_by=lambda d: (d.service_name, d.port)))
def test_what_is_written_is_read_again(dialect, wanted):
    label, value = dialect.label
    text = write(dialect, None, wanted)
    annotations = {dialect.annotation: text} if text else {}
    assert read({label: value}, annotations) == (tuple(wanted), ())


@BOTH
def test_what_is_registered_is_declared_and_taken_back_without_a_trace(dialect):
    before = own_pod({"app": "x"}, {"theirs": "1"})
    registered = patched(before, announce(before, dialect, [ECHO, TIME]))
    assert declared(registered) == as_set(ECHO, TIME)
    assert registered.labels["app"] == "x"
    assert registered.annotations["theirs"] == "1"

    after = patched(registered, withdraw(registered, dialect, [("echo", 8080), ("time", 9090)]))
    assert (after.labels, after.annotations) == (before.labels, before.annotations)


@BOTH
def test_what_others_wrote_stays_to_the_byte(dialect):
    label, value = dialect.label
    theirs = dialect.encode('[{"serviceName" : "a", "k":"a","v":  ""}, 7, {"odd":1,"odd":2}]')
    before = own_pod({label: value}, {dialect.annotation: theirs})
    registered = patched(before, announce(before, dialect, [ECHO]))
    after = patched(registered, withdraw(registered, dialect, [("echo", 8080)]))
    assert dialect.decode(after.annotations[dialect.annotation]) == (
        '[{"serviceName" : "a", "k":"a","v":  ""},7,{"odd":1,"odd":2}]'
    )
    assert after.labels == before.labels


@BOTH
def test_a_label_that_was_there_before_stays(dialect):
    before = own_pod([dialect.label])
    registered = patched(before, announce(before, dialect, [ECHO]))
    after = patched(registered, withdraw(registered, dialect, [("echo", 8080)]))
    assert (after.labels, after.annotations) == (before.labels, {})


def test_an_entry_that_somebody_else_wrote_just_so_stays_theirs():
    text = json.dumps([{"serviceName": "echo", "port": 8080, "version": "v1"}])
    before = own_pod({"rpc-service": "true"}, {"rpc-service": text})
    assert announce(before, RPC_SERVICE, [ECHO]) is None
    assert withdraw(before, RPC_SERVICE, [("echo", 8080)]) is None


def test_registering_again_writes_nothing():
    registered = patched(own_pod(), announce(own_pod(), APP_IO, [ECHO]))
    assert announce(registered, APP_IO, [ECHO]) is None


def test_a_restarted_process_takes_over_what_it_left():
    left = patched(own_pod(), announce(own_pod(), APP_IO, [ECHO]))
    newer = msgspec.structs.replace(ECHO, version="v2")
    registered = patched(left, announce(left, APP_IO, [newer]))
    assert declared(registered) == as_set(newer)
    after = patched(registered, withdraw(registered, APP_IO, [("echo", 8080)]))
    assert (after.labels, after.annotations) == ({}, {})


@pytest.mark.parametrize("first", ["echo", "time"])
def test_the_label_stays_while_another_process_of_the_pod_needs_it(first):
    ports = {"echo": 8080, "time": 9090}
    (second,) = ports.keys() - {first}
    pod = patched(own_pod(), announce(own_pod(), APP_IO, [ECHO]))
    pod = patched(pod, announce(pod, APP_IO, [TIME]))

    pod = patched(pod, withdraw(pod, APP_IO, [(first, ports[first])]))
    assert declared(pod) == as_set({"echo": ECHO, "time": TIME}[second])
    pod = patched(pod, withdraw(pod, APP_IO, [(second, ports[second])]))
    assert (pod.labels, pod.annotations) == ({}, {})


def test_two_dialects_are_kept_apart():
    pod = patched(own_pod(), announce(own_pod(), APP_IO, [ECHO]))
    pod = patched(pod, announce(pod, RPC_SERVICE, [TIME]))
    pod = patched(pod, withdraw(pod, APP_IO, [("echo", 8080), ("time", 9090)]))
    assert declared(pod) == as_set(TIME)
    assert pod.labels == {"rpc-service": "true"}


def test_a_record_that_somebody_edited_makes_nothing_ours():
    pod = patched(own_pod(), announce(own_pod(), APP_IO, [ECHO]))
    pod = msgspec.structs.replace(pod, annotations={**pod.annotations, REGISTERED: "?"})
    assert declared(patched(pod, withdraw(pod, APP_IO, [("echo", 8080)]))) == as_set(ECHO)


@pytest.mark.parametrize(
    ("annotations", "lost"),
    [
        pytest.param({}, False, id="both dialects say it"),
        pytest.param({"rpc-service": "[]"}, False, id="one still says it"),
        pytest.param({"rpc-service": "[]", "app.io/annotation": "W10="}, True, id="none says it any more"),
    ],
)
def test_what_is_registered_is_lost_once_nothing_on_the_pod_says_it(annotations, lost):
    """In one dialect it is local, which the other cannot say: they differ, and only one is read."""
    pod = patched(own_pod(), announce(own_pod(), APP_IO, [ECHO]))
    pod = patched(pod, announce(pod, RPC_SERVICE, [msgspec.structs.replace(ECHO, local=True)]))
    found, _ = read(pod.labels, {**pod.annotations, **annotations})
    assert is_lost({("echo", 8080)}, found) == lost


@pytest.mark.parametrize(
    ("pod", "dialect", "declaration", "why"),
    [
        pytest.param(own_pod(), APP_IO, Declaration(service_name="../x"), "/k", id="a name that is none"),
        pytest.param(
            own_pod(), RPC_SERVICE, Declaration(service_name="a", port=70000), "/0/port", id="a port too high"
        ),
        pytest.param(
            own_pod(),
            APP_IO,
            Declaration(service_name="a", port=1, local=True),
            "cannot say",
            id="more than the dialect can say",
        ),
        pytest.param(
            own_pod(),
            APP_IO,
            Declaration(service_name="a", metadata={"port": "1"}),
            "/v/port",
            id="metadata under the name of a detail",
        ),
        pytest.param(
            own_pod({"rpc-service": "true"}, {"rpc-service": '[{"serviceName": "echo", "port": 8080}]'}),
            RPC_SERVICE,
            ECHO,
            "declared already",
            id="a port that somebody else declared otherwise",
        ),
        pytest.param(
            own_pod({}, {"rpc-service": "{}"}),
            RPC_SERVICE,
            ECHO,
            "rpc-service: ",
            id="an annotation that is no array",
        ),
        pytest.param(
            own_pod({}, {"rpc-service": json.dumps([7] * 32)}),
            RPC_SERVICE,
            ECHO,
            "33 entries",
            id="more entries than are read",
        ),
        pytest.param(
            own_pod({"rpc-service": "no"}),
            RPC_SERVICE,
            ECHO,
            "label rpc-service",
            id="another value of the label",
        ),
    ],
)
def test_what_would_not_be_declared_is_refused(pod, dialect, declaration, why):
    with pytest.raises(ValueError, match=re.escape(why)):
        announce(pod, dialect, [declaration])


# reading


def declaring(name, *services, **fields):
    """A pod that declares *services*, each with its port."""
    declarations = tuple(Declaration(service_name=service, port=port) for service, port in services)
    return pod(name, declarations=declarations, **fields)


def late(of, port=None):
    """A row that is behind its pod."""
    return row(of.name, "10.9.9.9", pod_uid=of.uid, port=port, ready=False, version="row")


def echo(*rows, selector=None, **fields):
    spec = RpcServiceSpec(selector=selector)
    return rpcservice("echo", *rows, **{"uid": "s", "generated": False, "spec": spec, **fields})


def serving(pods, *rpcservices):
    by_name = {pod.name: pod for pod in pods}
    declaring = [pod for pod in pods if any(d.service_name == "echo" for d in pod.declarations)]
    found = instances("echo", declaring, rpcservices, by_name.get)
    assert all((instance.pod_uid, instance.port) == key for key, instance in found.items())
    return {(instance.pod_name, instance.port, instance.version) for instance in found.values()}


APP_X = LabelSelector(match_labels={"app": "x"})
SELECTED = declaring("s", labels={"app": "x"})
SAYS = declaring("d", ("echo", 1), ("echo", 2), ("time", 3))
SAYS_TOO = declaring("t", ("echo", 1), labels={"app": "x"})


@pytest.mark.parametrize(
    ("pods", "rpcservices", "expected"),
    [
        pytest.param([SAYS], [], {("d", 1, ""), ("d", 2, "")}, id="what a pod declares, port by port"),
        pytest.param(
            [SELECTED], [echo(late(SELECTED, 5), selector=APP_X)], {("s", 5, "row")}, id="a selected pod"
        ),
        pytest.param(
            [SELECTED],
            [echo(selector=APP_X), echo(late(SELECTED, 5))],
            {("s", 5, "row")},
            id="a selected pod in a part",
        ),
        pytest.param([SELECTED], [echo(late(SELECTED, 5))], set(), id="a row that nothing selects"),
        pytest.param(
            [SAYS_TOO],
            [echo(late(SAYS_TOO, 1), late(SAYS_TOO, 5), selector=APP_X)],
            {("t", 1, "")},
            id="the pod's own word comes first",
        ),
        pytest.param([], [echo(late(SELECTED, 5), selector=APP_X)], set(), id="a row of a pod that is gone"),
        pytest.param(
            [msgspec.structs.replace(SELECTED, uid="other")],
            [echo(late(SELECTED, 5), selector=APP_X)],
            set(),
            id="a row of an earlier pod of that name",
        ),
        pytest.param([declaring("d", ("echo", 1), ip="")], [], set(), id="no address"),
        pytest.param([declaring("d", ("echo", 1), terminating=True)], [], set(), id="terminating"),
        pytest.param([declaring("d", ("echo", 1), phase="Failed")], [], set(), id="finished"),
    ],
)
def test_who_serves(pods, rpcservices, expected):
    assert serving(pods, *rpcservices) == expected


def test_an_instance_has_the_address_and_readiness_of_its_pod():
    ready = msgspec.structs.replace(SELECTED, ready=True, ips=("10.0.0.1", "fd00::1"), node_name="n")
    (found,) = instances("echo", [], [echo(late(ready, 5), selector=APP_X)], lambda _: ready).values()
    assert (found.ip, found.ips, found.ready, found.node) == ("10.0.0.1", ("10.0.0.1", "fd00::1"), True, "n")


def test_peers_are_sorted_by_how_long_they_run():
    own = declaring("own", started_at="2026-11-21T02:00:00Z", ip="10.0.1.1")
    pods = [
        own,
        declaring("waiting", ip="10.0.1.2"),
        declaring("young", started_at="2026-11-21T02:02:03Z", ip="10.0.1.3"),
        declaring("twin-b", started_at="2026-11-21T02:02:02Z", ip="10.0.1.4"),
        declaring("twin-a", started_at="2026-11-21T02:02:02Z", ip="10.0.1.5"),
        declaring("oldest", started_at="2026-11-20T23:59:59Z", ip="10.0.1.6"),
        declaring("no-address", started_at="2026-11-20T00:00:00Z", ip=""),
        declaring("here", started_at="2026-11-20T00:00:00Z", ip="10.0.1.1"),
        declaring("leaving", started_at="2026-11-20T00:00:00Z", ip="10.0.1.7", terminating=True),
    ]
    found = peers(pods, own)
    assert [peer.name for peer in found] == ["oldest", "twin-a", "twin-b", "young", "waiting"]
    assert len(peers(pods, None)) == 7


def test_a_pod_whose_address_has_just_changed_is_still_no_peer_of_its_own():
    before, now = declaring("own", ip="10.0.0.1"), declaring("own", ip="10.0.0.2")
    assert peers([before], now) == ()


def test_a_peer_has_all_that_its_pod_says():
    other = declaring(
        "p",
        ip="10.0.0.1",
        host_ip="10.1.0.1",
        phase="Running",
        started_at="2026-11-21T02:02:02Z",
        ready=True,
        node_name="n",
    )
    assert peers([other], None) == (
        Peer(
            name="p",
            uid="uid-p",
            ip="10.0.0.1",
            ips=("10.0.0.1",),
            host_ip="10.1.0.1",
            phase="Running",
            started_at="2026-11-21T02:02:02Z",
            ready=True,
            node="n",
        ),
    )


def test_a_service_is_a_declaration_field_by_field():
    service = Service(
        name="a", port=1, version="v", group="g", protocol="p", weight=7, metadata={"k": "v"}, local=True
    )
    assert service.declaration == Declaration(
        service_name="a",
        port=1,
        version="v",
        group="g",
        protocol="p",
        weight=7,
        metadata={"k": "v"},
        local=True,
    )


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        pytest.param({"name": "a b"}, 'name: "a b" is not a service name: 1 to 253 of', id="name"),
        pytest.param({"name": 7}, "name: 7 is not of type 'string'", id="type of the name"),
        pytest.param({"port": "8080"}, "port: \"8080\" is not of type 'integer'", id="type of the port"),
        pytest.param({"port": True}, "port: true is not of type 'integer'", id="a port that is true"),
        pytest.param({"port": 0}, "port: 0 is less than the minimum of 1", id="port"),
        pytest.param({"weight": 10001}, "weight: 10001 is greater than the maximum of 10000", id="weight"),
        pytest.param({"version": None}, "version: null is not of type 'string'", id="type of a text"),
        pytest.param({"group": "a\nb"}, 'group: "a\\nb" is not a text of at most 256 bytes', id="text"),
        pytest.param({"protocol": "é" * 129}, "is not a text of at most 256 bytes", id="length of a text"),
        pytest.param({"metadata": 7}, "metadata: 7 is not of type 'object'", id="type of metadata"),
        pytest.param({"metadata": {"k": 7}}, "metadata/k: 7 is not of type 'string'", id="metadata"),
        pytest.param({"metadata": {7: "v"}}, "metadata: 7 is not of type 'string'", id="a key of metadata"),
        pytest.param({"metadata": dict.fromkeys(map(str, range(33)), "")}, "more than 32 keys", id="keys"),
        pytest.param({"local": True}, "needs a port, because of", id="local without a port"),
        pytest.param({"port": object}, "<class 'object'>", id="a value that is no JSON"),
        pytest.param({"name": "", "port": 0}, '"" is not a service name', id="the first of two mistakes"),
        pytest.param({"name": "", "port": 0}, "; port: 0 is less than", id="the second of two mistakes"),
    ],
)
def test_a_service_that_breaks_a_rule_is_refused_where_it_is_made(fields, why):
    with pytest.raises(ValueError, match="^no Service: .*" + re.escape(why)):
        Service(**{"name": "a"} | fields)


class Text(str):
    """As other libraries have them."""


class Color(StrEnum):
    RED = "red"


def test_what_enums_and_other_subclasses_add_to_a_value_is_left_out():
    service = Service(
        name=Text("a"),
        port=HTTPStatus.OK,
        version=Color.RED,
        metadata=MappingProxyType({Text("k"): Color.RED}),
    )
    assert service.declaration == Declaration(
        service_name="a", port=200, version="red", metadata={"k": "red"}
    )
    assert msgspec.json.encode(service.declaration)
    assert type(service.declaration.version) is str


@given(declarations)
def test_a_service_may_be_all_that_a_declaration_may(declaration):
    fields = msgspec.structs.asdict(declaration)
    assert Service(name=fields.pop("service_name"), **fields).declaration == declaration


# telling


def pods(**seen):
    """A look at pods each of which has one value, its name being the key."""
    return lambda names: {name: {name: seen[name]} for name in names or seen if name in seen}


class Recorded:
    """A world of one topic, and a subscriber's notifications."""

    def __init__(self):
        self.look = pods()
        self.looked = []
        self.notified = []
        self.subscription = Subscription("topic", self.see, self.tell)

    def see(self, names):
        self.looked.append(names)
        return self.look(names)

    def tell(self, kind, value):
        self.notified.append((kind, value))

    def catch_up(self, names=None, **seen):
        self.look = pods(**seen)
        self.subscription.catch_up(names)
        notified, self.notified = self.notified, []
        return notified


def test_what_there_is_comes_first_and_then_what_changes():
    world = Recorded()
    assert world.catch_up(a=1, b=2) == [("added", 1), ("added", 2)]
    assert world.catch_up(a=1, b=2) == []
    assert world.catch_up(b=3, c=4) == [("removed", 1), ("changed", 3), ("added", 4)]


def test_other_pods_are_neither_read_nor_notified_again():
    world = Recorded()
    world.catch_up(a=1, b=2, c=3)
    assert world.catch_up({"b"}, a=1, b=9, c=3) == [("changed", 9)]
    assert world.catch_up({"a", "d"}, b=9, c=3, d=4) == [("removed", 1), ("added", 4)]
    assert world.looked == [None, {"b"}, {"a", "d"}]
    assert world.catch_up(c=3, d=4) == [("removed", 9)]


@pytest.mark.parametrize(("second", "looked"), [({"c"}, {"a", "c"}), (None, None)], ids=["at pods", "at all"])
def test_changes_that_come_together_are_one_look(second, looked):
    subscriptions, seen = Subscriptions(), []

    def look(names):
        seen.append(names)
        if len(seen) == 2:
            subscriptions.stop()
        else:
            subscriptions.changed(["topic"], {"a"})
            subscriptions.changed(["other"], {"b"})
            subscriptions.changed(["topic"], second)
        return {}

    subscriptions.add(Subscription("topic", look, print))
    subscriptions.run()
    assert seen == [None, looked]


def test_a_cancelled_subscription_is_not_notified():
    world = Recorded()
    world.subscription.cancel()
    assert world.catch_up(a=1) == []


def test_a_callback_can_cancel_itself():
    world = Recorded()
    subscription = Subscription(
        "topic", pods(a=1, b=2), lambda *notified: (world.notified.append(notified), subscription.cancel())
    )
    subscription.catch_up()
    assert world.notified == [("added", 1)]


def test_a_callback_that_raises_harms_no_other_and_gets_the_next_update():
    subscriptions, notified = Subscriptions(), []

    def fails(kind, value):
        notified.append(("fails", value))
        raise RuntimeError("no")

    def stops(kind, value):
        notified.append(("stops", value))
        if value == 2:
            subscriptions.stop()

    subscriptions.add(Subscription("topic", pods(a=1, b=2), fails))
    subscriptions.add(Subscription("topic", pods(a=1, b=2), stops))
    subscriptions.run()
    assert notified == [("fails", 1), ("fails", 2), ("stops", 1), ("stops", 2)]
