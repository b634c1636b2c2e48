"""Each invariant is seen to catch: the controller with a mistake made on purpose, on the real cluster.

A journey goes through with the controller as it is, and fails with each mistake, for the invariant that the
mistake's name begins with.
"""

import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from kubernetes import client
from kubernetes.client import CoordinationV1Api
from kubernetes.client.exceptions import ApiException

from tests.cluster.waiting import eventually
from tests.cluster.world import World, lack_once
from tests.faults.harness import invariants, mutations
from tests.faults.harness.evidence import Evidence
from tests.faults.harness.ground import Ground
from tests.faults.harness.stand import BASE, LEASE, Package, Stand

MANY = 15  # services that are refused
HAMMERED, AWAY = 12.0, 30.0  # seconds
REST = 1.0  # seconds: a write that calls for another one goes out again within a half

Journey = Callable[[Stand, World], None]


def settle(stand: Stand, seconds: float = 20.0) -> None:
    """Wait until all is right; a mistake may be that it never is."""
    end = time.monotonic() + seconds
    while not stand.is_right() and time.monotonic() < end:
        time.sleep(0.1)


def pods_come_and_go(stand: Stand, world: World) -> None:
    """Nothing is broken; somebody errs."""
    stand.start()
    world.create_pod("a", "echo", ip="10.0.0.1")
    world.create_pod("b", "echo", ip="10.0.0.2")
    settle(stand)
    world.create_pod("errs", annotation="[17", ip="10.0.0.9")
    world.delete_pod("a")
    settle(stand)
    world.create_pod("c", "echo", "other", ip="10.0.0.3")
    settle(stand)


def a_node_is_selected_no_more(stand: Stand, world: World) -> None:
    """A LocalService has two nodes, and then one."""
    stand.start()
    nodes = [f"{world.namespace}-{letter}" for letter in "ab"]
    for node in nodes:
        world.create_node(node)
    world.create_localservice()
    world.create_pod("a", "echo", ip="10.0.0.1")
    settle(stand)
    world.relabel_node(nodes[0], world=None)
    settle(stand)


def the_only_pod_flaps(stand: Stand, world: World) -> None:
    """It turns not Ready for a while, and is Ready again."""
    stand.start()
    world.create_pod("a", "echo", ip="10.0.0.1")
    settle(stand)
    world.set_status("a", "10.0.0.1", ready=False)
    time.sleep(3)
    world.set_status("a", "10.0.0.1")
    settle(stand)


def a_list_lacks_the_pods(stand: Stand, world: World) -> None:
    """One answer of the API server, or of what stands in between, is empty."""
    stand.start(api=stand.api.server)
    for number in range(1, 5):
        world.create_pod(f"p{number}", "echo", ip=f"10.0.0.{number}")
    settle(stand)
    lacked = lack_once(stand.api, "pods")
    eventually(lacked)
    settle(stand)
    time.sleep(3)


def the_process_is_killed(stand: Stand, world: World) -> None:
    """The kubelet starts it again, and its Lease is free."""
    replica = stand.start(on_exit=stand.bury)
    world.create_pod("a", "echo", ip="10.0.0.1")
    settle(stand)
    replica.crash()
    eventually(replica.leads, 60)
    world.create_pod("b", "echo", ip="10.0.0.2")
    settle(stand, 60)


def an_old_leader_wakes(stand: Stand, world: World) -> None:
    """It was stopped as it had sent a write, which arrives when another one leads."""
    first = stand.start(api=f"https://{stand.api_bytes.address}", zk=stand.zk_proxy.address, restarts=False)
    world.create_pod("a", "echo", ip="10.0.0.1")
    settle(stand)
    second = stand.start()
    eventually(lambda: any(line["event"] == "following" for line in second.logged()))
    stand.zk_proxy.blackhole(since=lambda data: b"10.0.0.2" in data)
    world.create_pod("b", "echo", ip="10.0.0.2")
    eventually(lambda: b"10.0.0.2" in stand.zk_proxy.held)
    first.signal(signal.SIGSTOP)
    stand.api_bytes.close()  # to Kubernetes it could write until its Lease ends, which is given back for it
    world.delete_pod("b")
    released = {"spec": {"holderIdentity": None, "leaseDurationSeconds": 1}}
    CoordinationV1Api(world.api).patch_namespaced_lease(LEASE, world.namespace, released)
    eventually(second.leads, 60)
    world.create_pod("c", "other", ip="10.0.0.3")
    eventually(lambda: world.servers("other") == ["10.0.0.3"])
    stand.zk_proxy.pass_through()
    first.signal(signal.SIGCONT)
    first.wait()
    settle(stand)


def writes_are_refused(stand: Stand, world: World) -> None:
    """No RpcService can be made in the namespace for a while."""
    stand.start()
    world.create_pod("a", "echo", ip="10.0.0.1")
    settle(stand)
    with stand.fault("refused", recovery=60):
        refuse(world)
        for number in range(MANY):
            world.create_pod(f"p{number}", f"s{number}", ip=f"10.0.1.{number}")
        time.sleep(HAMMERED)
        admission(world).delete_validating_admission_policy_binding(world.namespace)
        admission(world).delete_validating_admission_policy(world.namespace)
    settle(stand, 60)


def zookeeper_is_away(stand: Stand, world: World) -> None:
    """For longer than a session lives, and than a probe may be late."""
    stand.start(zk=stand.zk_proxy.address)
    world.create_pod("a", "echo", ip="10.0.0.1")
    settle(stand)
    with stand.fault("zookeeper", recovery=60, note="nobody lets it through"):
        stand.zk_proxy.close()
        time.sleep(AWAY)
        stand.zk_proxy.pass_through()
    settle(stand, 60)


JOURNEYS: Mapping[str, Journey] = {
    "I1-only-the-first-is-published": pods_come_and_go,
    "I1-the-service-of-a-node-stays-for-ever": a_node_is_selected_no_more,
    "I2-a-list-that-lacks-pods-is-believed": a_list_lacks_the_pods,
    "I3-the-deleted-stay": pods_come_and_go,
    "I4-what-nobody-lists-is-cleared": pods_come_and_go,
    "I5-what-is-right-is-written-again": pods_come_and_go,
    "I6-any-version-of-the-fence-will-do": an_old_leader_wakes,
    "I6-the-fence-is-taken-as-it-is": the_process_is_killed,
    "I7-what-is-refused-is-tried-at-once": writes_are_refused,
    "I8-a-bad-text-ends-the-process": pods_come_and_go,
    "I9-ready-without-zookeeper": zookeeper_is_away,
    "I9-unwell-without-zookeeper": zookeeper_is_away,
    "I10-without-a-ready-pod-the-object-is-made-anew": the_only_pod_flaps,
    "I11-the-lease-is-kept": pods_come_and_go,
    "I11-what-is-published-goes-with-the-process": pods_come_and_go,
    "I12-credentials-are-logged": pods_come_and_go,
}
# How often addresses and objects come and go.
UNDISTURBED: Mapping[Journey, Mapping[str, tuple[int, int]]] = {
    the_only_pod_flaps: {"kube2zk:/rpc_v2/echo 10.0.0.1": (2, 1), "rpcservice echo": (1, 0)}
}

Witness = Callable[[Journey, Package | None], Evidence]


@pytest.fixture
def witness(ground: Ground, namespace: str, tmp_path: Path) -> Witness:
    """Goes through a journey with a controller, ours or another, and returns what was witnessed."""

    def go(journey: Journey, package: Package | None) -> Evidence:
        more = {"package": package} if package else {}
        with Stand(ground, [namespace], tmp_path, rest=REST, **more) as stand:
            stand.put_foreign(f"{BASE}/of-others", b"theirs")  # beside the services
            journey(stand, stand.world())
            stand.heal()
            evidence = stand.close()
        return replace(evidence, reference=UNDISTURBED.get(journey))

    return go


@pytest.mark.deep
@pytest.mark.parametrize("journey", dict.fromkeys(JOURNEYS.values()), ids=lambda journey: journey.__name__)
def test_with_the_controller_as_it_is_every_invariant_holds(journey: Journey, witness: Witness):
    invariants.check(witness(journey, None))


@pytest.mark.full
@pytest.mark.parametrize("name", mutations.patches())
def test_a_mistake_is_caught_by_its_invariant(name: str, witness: Witness, tmp_path: Path):
    package = Package("rpcregistry", mutations.mutated(mutations.patches()[name], tmp_path / "mutated"))
    evidence = witness(JOURNEYS[name], package)
    found = invariants.violations(evidence)
    print(*found, sep="\n")
    assert mutations.invariant(name) in {violation.invariant for violation in found if caught(violation)}


def caught(violation: invariants.Violation) -> bool:
    """Whether something was seen to be wrong, and not only nothing seen at all."""
    return "nothing was witnessed" not in violation.what


def admission(world: World) -> client.AdmissionregistrationV1Api:
    return client.AdmissionregistrationV1Api(world.api)


def refuse(world: World) -> None:
    """Have a policy refuse every RpcService of the namespace; return once it does."""
    where = {"matchLabels": {"kubernetes.io/metadata.name": world.namespace}}
    rule = {
        "apiGroups": ["rpcregistry.dev"],
        "apiVersions": ["*"],
        "operations": ["CREATE"],
        "resources": ["rpcservices"],
    }
    policy = {
        "metadata": {"name": world.namespace},
        "spec": {
            "matchConstraints": {"resourceRules": [rule], "namespaceSelector": where},
            "validations": [{"expression": "false", "message": "not now"}],
        },
    }
    admission(world).create_validating_admission_policy(policy)
    binding = {"policyName": world.namespace, "validationActions": ["Deny"]}
    admission(world).create_validating_admission_policy_binding(
        {"metadata": {"name": world.namespace}, "spec": binding}
    )
    probe = {
        "apiVersion": "rpcregistry.dev/v1alpha1",
        "kind": "RpcService",
        "metadata": {"name": "probe"},
        "spec": {},
    }

    def refused() -> bool:
        try:
            world.custom.create_namespaced_custom_object(
                "rpcregistry.dev", "v1alpha1", world.namespace, "rpcservices", probe, dry_run="All"
            )
        except ApiException as error:
            return error.status == 422
        return False

    eventually(refused)
