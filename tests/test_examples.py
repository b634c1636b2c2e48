"""What ``examples/`` promises, without a cluster: layouts take its services, and servers end in order."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from rpcregistry.cli import run_command
from rpcregistry.layouts import LAYOUTS

EXAMPLES = Path(__file__).parents[1] / "examples"
SERVICES = 2
REPLICAS = 3


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_takes_the_services_of_the_example(layout: str, capfd: pytest.CaptureFixture[str]):
    """Most layouts need a port."""
    flags = ["--strict", "--layout", f"{layout}=/base"]
    with pytest.raises(SystemExit) as end:
        run_command(["render", *flags, str(EXAMPLES / "test-rpc-service.yaml")])
    out, err = capfd.readouterr()
    assert (end.value.code or 0, err) == (0, "")
    *_, last = yaml.safe_load_all(out)
    found = "".join(f"{path} {data}\n" for path, data in last["znodes"].items())
    assert found.count("192.0.2.") >= SERVICES * REPLICAS


def containers(manifest: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield each container that answers calls, and its pod's spec."""
    for found in yaml.safe_load_all((EXAMPLES / manifest).read_text()):
        if found["kind"] == "Deployment":
            pod = found["spec"]["template"]["spec"]
            yield from ((container, pod) for container in pod["containers"] if "ports" in container)


@pytest.mark.parametrize("manifest", ["localservice.yaml", "peer-cache/manifest.yaml"])
def test_a_server_serves_on_until_clients_have_heard_that_it_ends(manifest: str):
    """The kubelet waits for preStop before SIGTERM; both count towards the grace period, by default 30 s."""
    found = list(containers(manifest))
    assert found
    for container, pod in found:
        waits = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert 5 <= waits < pod.get("terminationGracePeriodSeconds", 30)
