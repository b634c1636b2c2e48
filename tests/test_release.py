"""``rpcregistry release`` on a small cluster in memory; the real ones are in tests/faults/test_release.py."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pytest

from rpcregistry.commands.release import GIVE_AGAIN, Cluster, Release
from rpcregistry.errors import Absent, Failure, Rejected, Unknown
from rpcregistry.leases import ZOOKEEPER
from rpcregistry.manifests import LOCALSERVICES, RPCSERVICES, Resource
from rpcregistry.manifests.made import SELF_REVIEWS
from rpcregistry.model import (
    HELD,
    RELEASE,
    Condition,
    LocalService,
    LocalServiceStatus,
    ObjectKey,
    RpcService,
    RpcServiceStatus,
)
from rpcregistry.watch import Listing
from tests.builders import row, rpcservice
from tests.worlds import Clock

LEASE = "/apis/coordination.k8s.io/v1/namespaces/rpcregistry/leases/rpcregistry"


def rpc(name: str, held: int = 0, fine: int = 0, namespace: str = "default", service: str = "") -> RpcService:
    """An RpcService with so many held endpoints, and so many others."""
    rows = [row(number, held=number <= held) for number in range(1, held + fine + 1)]
    return rpcservice(name, *rows, serves=service, namespace=namespace, uid=name)


def local(name: str, held: int) -> LocalService:
    message = f"{held} nodes are absent and keep their Services"
    condition = Condition(type="Synced", status="False", reason="Held", message=message)
    status = LocalServiceStatus(conditions=(condition,) if held else ())
    return LocalService(namespace="default", name=name, uid=name, resource_version="1", status=status)


class World:
    """Objects, a Lease, and a controller that does something whenever the command waits."""

    def __init__(self, *objects: RpcService | LocalService, noted: str = "") -> None:
        self.clock = Clock()
        self.objects = {(type(found), found.key): found for found in objects}
        self.annotations = {HELD: noted} if noted else {}
        self.holder = "one"
        self.refused: dict[str, Failure] = {}  # by what the request names
        self.words: list[tuple[str, str]] = []  # what they were given to, and the words
        self.events: list[str] = []
        self.controller: Callable[[], None] = lambda: None

    # the API server

    def list(self, resource: Resource[Any], namespace: str) -> Listing[Any]:
        self._refuse(f"list {resource.plural}")
        kind = {RPCSERVICES.plural: RpcService, LOCALSERVICES.plural: LocalService}[resource.plural]
        found = [
            item
            for (of, key), item in self.objects.items()
            if of is kind and namespace in ("", key.namespace)
        ]
        return Listing(found, [], 1)

    def patch(self, resource: Resource[Any], key: ObjectKey, patch: Mapping[str, Any]) -> Any:
        self._refuse(f"patch {key.name}")
        self.words.append((str(key), patch["metadata"]["annotations"][RELEASE]))

    def raw(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        if path == SELF_REVIEWS.path():
            return {"status": {"userInfo": {"username": "jane"}}}
        if path.endswith("/events"):
            self.events.append(f"{body['reason']}: {body['note']}")
            return {}
        assert path == LEASE
        self._refuse(f"{method} lease")
        if method == "PATCH":
            self.annotations |= body["metadata"]["annotations"]
            self.words.append(("Lease", self.annotations[RELEASE]))
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "namespace": "rpcregistry",
                "name": "rpcregistry",
                "uid": "lease",
                "resourceVersion": "1",
                "annotations": dict(self.annotations),
            },
            "spec": {"holderIdentity": self.holder, "renewTime": "2026-11-28T17:00:00Z"},
        }

    def _refuse(self, request: str) -> None:
        if request in self.refused:
            raise self.refused[request]

    # the controller

    def let_go(self) -> None:
        """Withdraw all that is held."""
        for (kind, key), found in list(self.objects.items()):
            if kind is RpcService:
                rows = tuple(row for row in found.status.endpoints if not row.held)
                self.objects[kind, key] = msgspec.structs.replace(
                    found, status=RpcServiceStatus(endpoints=rows)
                )
            else:
                self.objects[kind, key] = local(key.name, 0)
        self.annotations.pop(HELD, None)

    def _sleep(self, seconds: float) -> None:
        self.clock.sleep(seconds)
        self.controller()

    # the person

    def release(self, *names: str, namespaces: tuple[str, ...] = (), everything: bool = False) -> int:
        cluster = Cluster(self, "rpcregistry", "cluster c1")
        use = Release(
            cluster=cluster,
            namespaces=namespaces,
            everything=everything,
            timeout=60.0,
            clock=self.clock,
            sleep=self._sleep,
        )
        return use.run(names)


def test_nothing_is_held(capsys: pytest.CaptureFixture[str]):
    world = World(rpc("echo", fine=2))

    assert world.release() == world.release(everything=True) == 1
    assert capsys.readouterr().out == "nothing is held\n" * 2
    assert (world.words, world.events) == ([], [])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        pytest.param("echo", "echo: nothing is held", id="nothing of it is held"),
        pytest.param(
            "nosuch", "there is no RpcService, LocalService or hold of the name 'nosuch'", id="unknown"
        ),
    ],
)
def test_a_name_of_which_nothing_is_held(capsys: pytest.CaptureFixture[str], name: str, said: str):
    world = World(rpc("echo", fine=2), rpc("other", held=1))

    assert world.release(name) == 1
    assert said in "".join(capsys.readouterr())
    assert world.words == []


def test_what_was_withdrawn_is_said_and_who_did_it(capsys: pytest.CaptureFixture[str]):
    world = World(rpc("echo", held=3, fine=1), rpc("fine", fine=1), local("app", held=11))
    world.controller = world.let_go
    world.annotations[ZOOKEEPER] = "zk:2181"

    assert world.release() == 0
    let_go = (
        "jane: let go default/echo (3 endpoints), localservice default/app (11 node Services): "
        "cluster c1, ZooKeeper zk:2181"
    )
    assert capsys.readouterr().out.splitlines() == [
        "waiting up to 60 s for the controller to let go: default/echo, localservice default/app",
        "released default/echo: 3 endpoints withdrawn: 10.0.0.1 10.0.0.2 10.0.0.3",
        "released localservice default/app: 11 node Services released",
        let_go,
    ]
    assert [given for given, _ in world.words] == ["default/echo", "default/app"]
    assert world.events == [f"Released: {let_go}"]


def test_the_word_is_no_time_and_never_the_same():
    world = World(rpc("echo", held=3))
    world.release()
    world.release()

    words = {word for _, word in world.words}
    assert len(words) == 2
    assert all(re.fullmatch("[0-9a-f]{16}", word) for word in words)


def test_a_service_may_be_named_by_its_object_or_by_its_name():
    for name in ("mine", "com.example.Echo"):
        world = World(rpc("mine", held=1, service="com.example.Echo"), rpc("other", held=1))
        world.controller = world.let_go
        assert world.release(name) == 0
        assert [given for given, _ in world.words] == ["default/mine"]


def test_endpoints_that_came_back_were_not_withdrawn(capsys: pytest.CaptureFixture[str]):
    world = World(rpc("echo", held=3))

    def come_back() -> None:
        rows = (row(3, held=False),)
        found = world.objects[RpcService, ObjectKey("default", "echo")]
        world.objects[RpcService, found.key] = msgspec.structs.replace(
            found, status=RpcServiceStatus(endpoints=rows)
        )

    world.controller = come_back
    assert world.release() == 0
    assert (
        "2 endpoints withdrawn: 10.0.0.1 10.0.0.2; 1 stay: their pods exist again" in capsys.readouterr().out
    )


def test_endpoints_that_moved_to_another_object_are_held_there_still():
    world = World(rpc("echo", held=3))

    def move() -> None:
        world.objects = {(RpcService, ObjectKey("default", "mine")): rpc("mine", held=3, service="echo")}

    world.controller = move
    assert world.release() == 1
    world.controller = world.let_go
    assert world.release() == 0


def test_what_has_no_rpcservice_is_let_go_by_its_name_on_the_lease(capsys: pytest.CaptureFixture[str]):
    world = World(rpc("other", held=1), noted='["echo","gone"]')
    world.controller = world.let_go

    assert world.release("echo") == 0
    ((given, word),) = world.words
    assert (given, word.split()[1:]) == ("Lease", ["echo"])
    assert "released echo: withdrawn\n" in capsys.readouterr().out


def test_without_names_what_has_an_object_is_let_go_there_and_the_rest_by_its_names():
    world = World(rpc("other", held=1), noted='["echo","gone"]')
    world.controller = world.let_go

    assert world.release() == 0
    assert [(given, word.split()[1:]) for given, word in world.words] == [
        ("default/other", []),
        ("Lease", ["echo", "gone"]),
    ]


@pytest.mark.parametrize("everything", [True, False])
def test_a_word_for_all(everything: bool):
    noted = '["echo",3]'  # and three more
    world = World(rpc("other", held=1), noted=noted)
    world.controller = world.let_go

    assert world.release(everything=everything) == 0
    assert [given for given, _ in world.words] == (["Lease"] if everything else ["default/other", "Lease"])
    assert " " not in world.words[-1][1]


def test_a_name_that_the_lease_may_have_left_out(capsys: pytest.CaptureFixture[str]):
    assert World(noted='["echo",3]').release("perhaps") == 1
    assert "use --all" in capsys.readouterr().err


def test_what_is_of_no_one_namespace_is_left_where_a_namespace_is_given(capsys: pytest.CaptureFixture[str]):
    world = World(rpc("here", held=1, namespace="a"), rpc("there", held=1), noted='["echo"]')
    world.controller = world.let_go

    assert world.release(namespaces=("a",)) == 0
    assert [given for given, _ in world.words] == ["a/here"]
    assert "and left: echo" in capsys.readouterr().err
    world.annotations[HELD] = '["echo"]'
    assert world.release("echo", namespaces=("a",)) == 1
    assert "leave --namespace out" in capsys.readouterr().err


@pytest.mark.parametrize("failure", [Absent("leases: 404"), Unknown("leases: 403")])
def test_a_lease_that_cannot_be_read_is_said_and_costs_no_other(
    capsys: pytest.CaptureFixture[str], failure: Failure
):
    world = World(rpc("echo", held=1), noted='["gone"]')
    world.refused["GET lease"] = failure
    world.controller = world.let_go

    assert world.release() == 0
    printed = capsys.readouterr().err
    assert f"what is held without an object is not looked at (--lease-namespace?): {failure}" in printed
    assert "no Event Released is left" in printed
    assert world.release() == 1
    assert "nothing is held of what was looked at" in capsys.readouterr().out
    assert world.release(everything=True) == 1


def test_a_kind_that_may_not_be_read_costs_no_other(capsys: pytest.CaptureFixture[str]):
    world = World(rpc("echo", held=1))
    world.refused["list localservices"] = Unknown("list localservices: 403")
    world.controller = world.let_go

    assert world.release() == 0
    assert "not looked at: list localservices: 403" in capsys.readouterr().err


def test_all_is_let_go_by_one_who_may_not_see_it(capsys: pytest.CaptureFixture[str]):
    world = World(rpc("echo", held=1))
    world.refused |= {f"list {plural}": Unknown("403") for plural in ("rpcservices", "localservices")}

    assert world.release(everything=True) == 1
    assert [given for given, _ in world.words] == ["Lease"]
    assert "cannot be seen" in capsys.readouterr().err


def test_rights_that_are_lost_meanwhile_are_no_success():
    world = World(rpc("echo", held=1))

    def lose() -> None:
        world.refused["list rpcservices"] = Unknown("403")

    world.controller = lose
    with pytest.raises(Unknown):
        world.release()


def test_an_object_that_may_not_be_annotated_costs_no_other(capsys: pytest.CaptureFixture[str]):
    world = World(rpc("echo", held=1), rpc("other", held=1))
    world.refused["patch echo"] = Rejected("patch echo: 403")
    world.controller = world.let_go

    assert world.release() == 1
    printed = capsys.readouterr()
    assert "not released: patch echo: 403" in printed.err
    assert "released default/other" in printed.out


@pytest.mark.parametrize(
    ("holder", "reason"),
    [
        pytest.param(
            "", "nobody holds the Lease rpcregistry/rpcregistry: does a controller run?", id="nobody"
        ),
        pytest.param(
            "one", "one holds the Lease rpcregistry/rpcregistry, renewed at 2026-11-28T17", id="one"
        ),
    ],
)
def test_what_is_held_still_after_the_time_is_said_and_why(
    capsys: pytest.CaptureFixture[str], holder: str, reason: str
):
    world = World(rpc("echo", held=1))
    world.holder = holder

    assert world.release() == 1
    printed = capsys.readouterr().err
    assert "after 60 s still held: default/echo; " in printed
    assert reason in printed
    assert world.clock.seconds == 1060.0


def test_a_new_leader_is_given_another_word_until_it_lets_go():
    """It may take even that for an old one, where it comes before the new leader has looked."""
    world = World(rpc("echo", held=1), noted='["gone"]')
    began = world.clock.seconds

    def change_leader() -> None:
        passed = world.clock.seconds - began
        world.holder = "one" if passed < 10 else "" if passed < 12 else "two"
        if passed > 12 + GIVE_AGAIN:
            world.let_go()

    world.controller = change_leader
    assert world.release() == 0
    assert [given for given, _ in world.words] == ["default/echo", "Lease"] * 3
    assert len({word for _, word in world.words}) == 6


def test_what_was_asked_for_in_vain_is_not_said_to_be_let_go():
    world = World(rpc("echo", held=3))

    assert world.release("echo") == 1
    (event,) = world.events
    assert event.startswith("Released: jane: asked to let go default/echo, still held after 60 s: cluster")


def test_who_could_not_look_everywhere_does_not_say_that_there_is_nothing(capsys: pytest.CaptureFixture[str]):
    world = World(rpc("echo", held=3))
    world.refused["GET lease"] = Unknown("403")

    assert world.release("other") == 1
    assert "cannot tell whether 'other' is held: not all could be looked at" in capsys.readouterr().err
