"""A version that cannot keep up what a newer one wrote does not lead, and says so."""

import msgspec
import pytest

from rpcregistry.plan.heartbeat import FORMAT, Heartbeat, path
from tests.cluster.waiting import eventually
from tests.cluster.world import World
from tests.faults.harness.kubelet import ask
from tests.faults.harness.stand import Stand

NEWER = Heartbeat(format=FORMAT + 1, version="9.0.0", lease="elsewhere/rpcregistry", holder="newer")
SAID = f"version 9.0.0 keeps up this registry in format {FORMAT + 1}"


@pytest.mark.full
@pytest.mark.allows(I9="it is never ready while it must not lead")
@pytest.mark.parametrize("flags", [(), ("--no-leader-elect",)], ids=["elected", "alone"])
def test_what_a_newer_version_wrote_is_left_to_it(stand: Stand, world: World, flags: tuple[str, ...]):
    before = stand.start(*flags)
    eventually(before.leads)
    assert before.stop() == 0
    heartbeat = path(world.cluster_id)
    stand.zk.ensure_path(heartbeat)
    stand.zk.set(heartbeat, msgspec.json.encode(NEWER))
    world.create_pod("p1", "echo", ip="10.0.0.1")

    controller = stand.start(*flags, restarts=False)
    if flags:  # it has no Lease to leave to others, so it ends
        assert controller.wait() == 1
    else:
        eventually(lambda: SAID in ask(controller.port, "/readyz")[1])
        assert not controller.leads()
    assert SAID in controller.text()
    eventually(lambda: any(SAID in event.message for event in world.events("NotLeading")))
    assert world.data("echo") is None

    stand.zk.delete(heartbeat)
    if flags:
        controller.start()
    eventually(lambda: world.servers("echo") == ["10.0.0.1"])
