"""The host of real nodes stays as it was, while they run and after their end, whatever that is."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hack.local import nodes
from hack.local.lifeline import CGROUPS
from hack.local.netns import FILES, NAMESPACES
from tests.nodes.pods import eventually

TOP = Path(__file__).parents[2]
# What kubelet, kube-proxy, containerd or their plugins set, where they are let.
SETTINGS = (
    "vm/*",
    "kernel/panic*",
    "kernel/keys/*",
    "net/ipv4/ip_forward",
    "net/ipv4/conf/*/*",
    "net/netfilter/*max",
)
SHOWN = ("ip -o address", "ip route", "nft list ruleset")
PLACES = (
    "/var/lib/kubelet",
    "/var/lib/containerd",
    "/var/lib/cni",
    "/etc/cni",
    "/run/containerd",
    "/opt/cni",
)
MOUNTED = (*PLACES, " /var ", " /run ", " /sys", " /proc", "/cluster/state")

pytestmark = [pytest.mark.full, pytest.mark.needs_root]


def host() -> dict[str, str | bool]:
    """What the host shows of its settings, network, mounts and folders."""
    settings = {
        str(file): file.read_text()
        for pattern in SETTINGS
        for file in Path("/proc/sys").glob(pattern)
        if file.stat().st_mode & 0o222 and file.stat().st_mode & 0o444
    }
    outputs = {line: subprocess.run(line.split(), capture_output=True, text=True).stdout for line in SHOWN}
    # Of mounts, only such as a node has: others mount network namespaces and the layers of images.
    lines = Path("/proc/mounts").read_text().splitlines()
    mounts = [line for line in lines if any(place in line for place in MOUNTED)]
    places = {place: Path(place).exists() for place in PLACES}
    return {**settings, **outputs, **places, "mounts": "\n".join(mounts)}


def left(pid: int, folder: Path) -> Iterator[str]:
    """Yield what is left of the nodes that a process ran in a folder."""
    name = f"rpcregistry-nodes-{pid}"
    for place in (*CGROUPS.glob("*"), NAMESPACES, FILES):
        yield from map(str, place.glob(f"{name}*"))
    yield from map(str, folder.glob("state"))
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(folder) in (process / "cmdline").read_text() + (process / "environ").read_text():
                yield f"process {process.name}"
        except OSError:  # it has ended meanwhile
            continue


@pytest.mark.parametrize("end", ["killed", "killed while a node is frozen", "go", "fail"])
def test_nothing_is_left_of_nodes_and_the_host_is_as_it_was(end: str, tmp_path: Path) -> None:
    if reason := nodes.missing():
        pytest.skip(reason)
    folder, before = tmp_path / "cluster", host()
    command = [sys.executable, "-m", "tests.nodes.holder", str(folder)]
    holder = subprocess.Popen(
        command, cwd=TOP, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout
        assert holder.stdout.readline() == "up\n"
        assert [found for found in left(holder.pid, folder) if "process" not in found]
        assert host() == before
        if "frozen" in end:
            assert holder.stdin
            holder.stdin.write("freeze\n")
            holder.stdin.flush()
            assert holder.stdout.readline() == "frozen\n"
        if "killed" in end:
            holder.kill()
            holder.wait()
        else:
            holder.communicate(f"{end}\n")
            assert holder.returncode == (end == "fail")
        eventually(lambda: not list(left(holder.pid, folder)))
        assert host() == before
    finally:
        holder.kill()
        holder.communicate()
