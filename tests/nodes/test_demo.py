"""``make demo NODES=real``: the journey on pods that kubelets run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hack.local import nodes

TOP = Path(__file__).parents[2]


def play(**variables: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k not in ("KUBECONFIG", "ZK_SERVERS")}
    command = [sys.executable, "-m", "hack.demo"]
    return subprocess.run(
        command, cwd=TOP, env={**environment, **variables}, capture_output=True, text=True, check=False
    )


@pytest.mark.deep
@pytest.mark.needs_root
def test_the_journey_on_real_nodes_ends_with_calls_that_the_pods_of_a_node_answer() -> None:
    if reason := nodes.missing():
        pytest.skip(reason)
    done = play(NODES="real")
    assert done.returncode == 0, done.stdout + done.stderr
    for sender in ("node1", "node2"):
        for target in ("node1", "node2"):
            url = f"http://localservice-app-{target}.default:8080/hostname"
            assert f"[{sender}] $ curl {url}\n  ✓ a pod of {target} answers\n" in done.stdout


def test_a_word_for_nodes_that_it_does_not_know_is_refused() -> None:
    done = play(NODES="kubelet")
    assert done.returncode == 1
    assert "NODES is kwok or real, not kubelet" in done.stdout
