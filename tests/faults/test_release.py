"""A hold ends by a person's word: once, for what is held when it is given, and whatever the clocks say."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import CoordinationV1Api, EventsV1Api

from hack.local.cluster import LocalCluster
from hack.local.http_proxy import Answer, Cut, HttpProxy, error_event, is_list, is_of, is_watch
from tests.cluster.waiting import eventually
from tests.cluster.world import World

LEASE = "rpcregistry"
RELEASE = "rpcregistry.dev/release"
HELD = "rpcregistry.dev/held"
TAKEOVER = 60.0  # seconds, at most: a Lease is free after 15
LONG = ("--guard-confirm", "1h")  # nothing is let go but by a word


@pytest.fixture
def release(cluster: LocalCluster, world: World) -> Callable[..., "subprocess.Popen[str]"]:
    """Starts the command."""

    def run(*arguments: str, kubeconfig: Path | None = None) -> "subprocess.Popen[str]":
        where = ["--kubeconfig", str(kubeconfig or cluster.kubeconfig), "--lease-namespace", world.namespace]
        return subprocess.Popen(
            [sys.executable, "-m", "rpcregistry", "release", *where, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )

    return run


def ended(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Exit code, output and complaints."""
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def lease(world: World) -> Any:
    return CoordinationV1Api(world.api).read_namespaced_lease(LEASE, world.namespace)


def leave_lease(world: World) -> None:
    """What an earlier process left behind: it held something, and somebody gave a word."""
    annotations = {HELD: '["of-an-earlier-process"]', RELEASE: "old"}
    manifest = {
        "metadata": {"name": LEASE, "annotations": annotations},
        "spec": {"leaseDurationSeconds": 1},
    }
    CoordinationV1Api(world.api).create_namespaced_lease(world.namespace, manifest)


def noted(world: World) -> list[str] | None:
    """What the Lease says is held."""
    text = (lease(world).metadata.annotations or {}).get(HELD)
    return list(json.loads(text)) if text else None


def events(world: World, reason: str) -> list[str]:
    """The notes of the Events of a reason on the Lease."""
    found = EventsV1Api(world.api).list_namespaced_event(world.namespace).items
    return [str(e.note) for e in found if e.reason == reason and e.regarding.kind == "Lease"]


def addresses(*numbers: int) -> list[str]:
    return [f"10.0.0.{number}" for number in numbers]


def serve(world: World, *numbers: int, service: str | None = "echo", **pod: Any) -> None:
    """Ready pods, which say that they serve it unless it is None."""
    for number in numbers:
        services = [service] if service else []
        world.create_pod(f"p{number}", *services, ip=f"10.0.0.{number}", **pod)


def lose(world: World, api: HttpProxy, *numbers: int) -> None:
    """Delete pods while the controller cannot watch: all that it sees is that a LIST lacks them."""

    expired: list[str] = []

    def away(method: str, path: str) -> Answer | None:
        if is_watch(path) and is_of(path, "pods"):
            expired.append(path)
            return error_event(410, "Expired")
        if is_list(method, path, "pods"):
            raise Cut
        return None

    api.instead = away
    api.cut_watches("pods")
    eventually(lambda: expired)
    for number in numbers:
        world.delete_pod(f"p{number}")
    api.reset()


def held(world: World, name: str = "echo") -> int:
    """How many rows of an RpcService are held."""
    service = world.rpcservices().get(name, {})
    return sum(row.get("held", False) for row in service.get("status", {}).get("endpoints", []))


def annotate(world: World, value: str) -> None:
    """Give a word by hand, or take it away."""
    world.kubectl("annotate", "--overwrite", "rpc", "echo", "-n", world.namespace, value)


def pass_by(world: World, marker: str) -> None:
    """Wait until the controller has seen all that was written until now, and acted on it."""
    world.create_pod(marker, marker, ip="10.0.9.9")
    eventually(lambda: world.synced(marker) == ("True", "InRegistry"))


GONE = range(31, 37)


def delete_declared(world: World, service: str = "echo") -> None:
    """A person deletes a declared RpcService that selects pods, which name no service themselves."""
    world.apply_rpcservice("mine", serviceName=service, selector={"matchLabels": {"app": "x"}})
    serve(world, *GONE, service=None, labels={"app": "x"})
    eventually(lambda: world.servers(service) == addresses(*GONE))
    world.delete_rpcservice("mine")


@pytest.mark.parametrize(
    ("leader_elect", "asked"),
    [
        pytest.param(True, ["echo"], id="by name"),
        pytest.param(False, ["--all"], id="all, without a leader election", marks=pytest.mark.full),
        pytest.param(True, [], id="all that is seen", marks=pytest.mark.full),
    ],
)
def test_what_is_held_of_an_rpcservice_that_a_person_deleted_is_seen_and_let_go(
    world: World, start_controller, release, leader_elect: bool, asked: list[str]
):
    leave_lease(world)
    controller = start_controller(*LONG, leader_elect=leader_elect)
    eventually(lambda: noted(world) is None)
    delete_declared(world)
    eventually(lambda: noted(world) == ["echo"])
    (event,) = eventually(lambda: events(world, "Held"))
    assert event.startswith("echo: no RpcService lists 6 published endpoints any more; they stay until 20")
    assert world.servers("echo") == addresses(*GONE)

    code, out, err = ended(release(*asked))
    assert (code, err) == (0, "")
    assert "released echo: withdrawn\n" in out
    assert world.data("echo") is None
    assert noted(world) is None
    (audited,) = events(world, "Released")
    assert audited.startswith("admin: let go echo (no object): cluster ")
    (line,) = [line for line in controller.logged() if line["event"] == "released"]
    assert (line["services"], line["endpoints"]) == (["echo"], 6)
    code, out, err = ended(release(*asked))
    assert code == 1
    # By name, where no other suite's service has that name: there is nothing of it at all.
    assert "nothing is held" in out or "there is no RpcService" in err


def test_a_word_lets_go_once_of_what_is_held_when_it_is_given(
    world: World, start_controller, release, api: HttpProxy, through_api: Path
):
    controller = start_controller(*LONG, kubeconfig=through_api)
    serve(world, *range(1, 31))
    eventually(lambda: world.servers("echo") == addresses(*range(1, 31)))
    annotate(world, f"{RELEASE}=given-while-nothing-is-held")
    pass_by(world, "first")
    lose(world, api, *range(1, 13))
    eventually(lambda: held(world) == 12)
    annotate(world, f"{RELEASE}-")
    pass_by(world, "second")
    annotate(world, f"{RELEASE}=given-while-nothing-is-held")
    pass_by(world, "third")
    assert world.servers("echo") == addresses(*range(1, 31))

    annotate(world, f"{RELEASE}=2001-01-01T00:00:00Z, or whenever")
    eventually(lambda: world.servers("echo") == addresses(*range(13, 31)))

    lose(world, api, *range(13, 25))
    eventually(lambda: held(world) == 12)
    pass_by(world, "fourth")
    assert world.servers("echo") == addresses(*range(13, 31)), "an old word"
    code, out, _ = ended(release("echo", "--namespace", world.namespace))
    assert code == 0
    shown = " ".join(addresses(*range(13, 23)))
    assert f"released {world.namespace}/echo: 12 endpoints withdrawn: {shown} and 2 more\n" in out
    assert world.listed("echo") == addresses(*range(25, 31))
    word = world.rpcservices()["echo"]["metadata"]["annotations"][RELEASE]
    assert re.fullmatch("[0-9a-f]{16}", word), "no time, which nobody could compare with a clock"
    eventually(lambda: world.servers("echo") == addresses(*range(25, 31)))
    assert controller.running


@pytest.mark.full
def test_a_word_is_an_old_one_for_a_new_leader_and_the_command_gives_it_another(
    world: World, start_controller, release
):
    first = start_controller(*LONG)
    serve(world, *range(1, 13))
    delete_declared(world, "gone")
    eventually(lambda: world.servers("echo") == addresses(*range(1, 13)))
    eventually(lambda: noted(world) == ["gone"])
    assert first.stop() == 0
    for number in range(1, 13):
        world.delete_pod(f"p{number}")
    first.start()
    eventually(lambda: held(world) == 12 and noted(world) == ["gone"])
    second = start_controller(*LONG, wait=False)
    eventually(lambda: any(line["event"] == "following" for line in second.logged()))

    first.signal(signal.SIGSTOP)
    holder = lease(world).spec.holder_identity
    waiting = release("--namespace", world.namespace)
    by_lease = release("gone")
    eventually(lambda: RELEASE in lease(world).metadata.annotations)
    eventually(lambda: RELEASE in world.rpcservices()["echo"]["metadata"].get("annotations", {}))
    first.kill()
    eventually(second.leads, TAKEOVER)
    for process, said in (
        (waiting, f"released {world.namespace}/echo: 12 endpoints withdrawn"),
        (by_lease, "released gone: withdrawn"),
    ):
        code, out, err = ended(process)
        assert code == 0, (out, err)
        assert said in out
        assert "leads now, and takes the word for an old one: giving it another" in out
        assert holder not in out
    assert world.data("gone") is None
    eventually(lambda: world.data("echo") is None)


@pytest.mark.full
def test_a_wait_in_vain_says_what_is_held_still_and_who_leads(world: World, start_controller, release):
    controller = start_controller(*LONG)
    delete_declared(world)
    eventually(lambda: noted(world) == ["echo"])
    assert controller.stop() == 0

    code, _, err = ended(release("--timeout", "1s"))
    assert code == 1
    assert (
        f"still held: echo; nobody holds the Lease {world.namespace}/{LEASE}: does a controller run?" in err
    )

    # The word is an old one to the next process, for good.
    controller.start()
    eventually(lambda: len(events(world, "Held")) == 2)
    pass_by(world, "marker")
    assert (noted(world), world.servers("echo")) == (["echo"], addresses(*GONE))
    assert ended(release("echo"))[0] == 0


@pytest.fixture
def least_rights(cluster: LocalCluster, world: World, tmp_path: Path) -> Path:
    """The kubeconfig of one who may list and patch the RpcServices of the test's namespace, and no more."""
    name = world.namespace
    cluster.kubectl("create", "serviceaccount", "oncall", "-n", name)
    rights = ["--verb=list", "--verb=patch", "--resource=rpcservices.rpcregistry.dev"]
    cluster.kubectl("create", "role", "oncall", "-n", name, *rights)
    cluster.kubectl(
        "create", "rolebinding", "oncall", "-n", name, "--role=oncall", f"--serviceaccount={name}:oncall"
    )
    token = cluster.kubectl("create", "token", "oncall", "-n", name).strip()
    return cluster.kubeconfig_for(token, tmp_path / "oncall")


@pytest.mark.full
def test_a_release_needs_no_more_rights_than_it_uses(
    world: World, start_controller, release, api: HttpProxy, through_api: Path, least_rights: Path
):
    start_controller(*LONG, kubeconfig=through_api)
    serve(world, *range(1, 13))
    eventually(lambda: world.servers("echo") == addresses(*range(1, 13)))
    lose(world, api, *range(1, 13))
    eventually(lambda: held(world) == 12)

    code, out, err = ended(release("--namespace", world.namespace, kubeconfig=least_rights))
    assert (code, out.count("12 endpoints withdrawn")) == (0, 1)
    assert "what is held without an object is not looked at" in err
    assert "not looked at: list localservices" in err
    code, _, err = ended(release("--all", kubeconfig=least_rights))
    assert (code, "--all is a word on the Lease" in err) == (1, True)
