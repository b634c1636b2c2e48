"""RPC processes upgrade when they like: old and new ones, and both controllers, see each other."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable

import pytest

from tests.cluster.waiting import eventually
from tests.cluster.world import World
from tests.faults.harness.ground import TOP
from tests.faults.harness.stand import Package, Stand
from tests.upgrade.versions import package

OLD, NEW = package("0.1.0"), Package.of(TOP)
PROGRAM = """
import json, sys
from {sdk} import Registry, Service
kubeconfig, namespace, pod, registers = sys.argv[1:]
with Registry.from_kubeconfig(kubeconfig, namespace=namespace, pod_name=pod, rpcservices=True) as registry:
    registry.register(Service(name=registers, port=8080))
    assert registry.wait_until_synced(60)
    print(json.dumps({{
        name: sorted(instance.ip for instance in registry.instances(name))
        for name in ("declared", "old", "new")
    }}), flush=True)
    sys.stdin.read()  # stay registered
"""


class Process:
    """An RPC process in a pod, of some version of the SDK; *registers*: the service that it serves."""

    def __init__(self, stand: Stand, run: Package, pod: str, registers: str) -> None:
        sdk = "rpcregistry" if run.name == "rpcregistry" else "controller.sdk"
        config = str(stand.ground.cluster.kubeconfig)
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM.format(sdk=sdk), config, stand.namespaces[0], pod, registers],
            env={**os.environ, "PYTHONPATH": str(run.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout
        self.seen = json.loads(self._process.stdout.readline())

    def end(self) -> None:
        self._process.communicate(timeout=60)
        assert self._process.returncode == 0


def addresses(*numbers: int) -> list[str]:
    return [f"10.0.0.{number}" for number in numbers]


def see(stand: Stand, order: Iterable[tuple[Package, str, str]]) -> list[dict[str, list[str]]]:
    processes = [Process(stand, *each) for each in order]
    for process in processes:
        process.end()
    return [process.seen for process in processes]


@pytest.mark.full
@pytest.mark.parametrize("controller", [OLD, NEW], ids=["an old controller", "a new controller"])
def test_old_and_new_processes_see_each_other(stand: Stand, world: World, controller: Package):
    replica = stand.start(package=controller)
    eventually(replica.leads)
    world.create_pod("p1", ip="10.0.0.1", labels={"app": "declared"})
    world.apply_rpcservice("declared", serviceName="declared", selector={"matchLabels": {"app": "declared"}})
    for number, name in ((2, "old-process"), (3, "new-process"), (4, "another")):
        world.create_pod(name, ip=f"10.0.0.{number}")
    eventually(lambda: world.servers("declared") == addresses(1))

    first, second, third = see(
        stand, [(OLD, "old-process", "old"), (NEW, "new-process", "new"), (OLD, "another", "old")]
    )
    assert first["declared"] == second["declared"] == third["declared"] == addresses(1)
    assert second["old"] == addresses(2)
    assert (set(third["old"]) - {*addresses(4)}, third["new"]) == ({*addresses(2)}, addresses(3))
