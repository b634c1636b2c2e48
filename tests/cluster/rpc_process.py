"""An RPC process of its own: it registers a service, follows it, and writes down each notification."""

import json
import subprocess
import sys
from pathlib import Path

from rpcregistry.sdk import Registry, Service, Update


class RpcProcess:
    """``main`` below in a process, for the pod *name*; it runs until ``stop``."""

    def __init__(self, kubeconfig: Path, namespace: str, name: str, service: str, notified: Path) -> None:
        self._notified = notified
        with notified.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.cluster.rpc_process", kubeconfig, namespace, name, service],
                stdin=subprocess.PIPE,
                stdout=output,
                cwd=Path(__file__).parents[2],
            )

    def notified(self) -> list[tuple[str, str]]:
        """(kind, pod name) of each update."""
        return [tuple(json.loads(line)) for line in self._notified.read_text().splitlines()]

    def stop(self) -> int:
        """End it by closing its standard input; return its exit code."""
        assert self._process.stdin
        self._process.stdin.close()
        return self._process.wait(60)

    def kill(self) -> None:
        """Kill it by SIGKILL."""
        self._process.kill()
        self._process.communicate()


def main(kubeconfig: str, namespace: str, name: str, service: str) -> None:
    """Follow until standard input ends."""

    def notified(update: Update) -> None:
        print(json.dumps([update.kind, update.instance.pod_name]), flush=True)

    with Registry.from_kubeconfig(kubeconfig, namespace=namespace, pod_name=name) as registry:
        registry.subscribe(service, notified)
        registry.register(Service(name=service, port=8080))
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
