"""``make up`` and ``make down``: a local cluster with the controller running in it, to play with.

The controller runs as the ServiceAccount of ``examples/controller.yaml``, with its rights only.
"""

import json
import os
import shlex
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import click

from hack.local.binaries import Unavailable, find, unbuilt
from hack.local.cluster import ORDER, LocalCluster, free_ports
from hack.local.controller import controller
from hack.local.process import Process

TOP = Path(__file__).parents[1]
DIRECTORY = TOP / ".local"
ACCOUNT = ("rpcregistry", "rpcregistry")  # namespace and name of the controller's ServiceAccount
CRDS = TOP / "crds"
EXAMPLES = TOP / "examples"
TO_BUILD = """\
first, once: {programs} are built from their Go modules, some ten minutes of CPU in all.
  With a cluster that you have, nothing is built:  KUBECONFIG=FILE ZK_SERVERS=HOST:PORT make demo"""


class Playground:
    """The controller, with its files in *directory*, and a cluster; if none is given, one of kwok's nodes."""

    def __init__(self, directory: Path, cluster: LocalCluster | None = None) -> None:
        self.cluster = cluster or LocalCluster(directory / "cluster")
        self._directory = directory.resolve()
        self._port_file = self._directory / "controller.port"
        self._page_file = self._directory / "page.port"
        self._environment_file = self._directory / "controller.env"

    def up(self, say: Callable[[str], None]) -> None:
        """Start what does not run yet; restart the controller if its variables changed."""
        self._directory.mkdir(parents=True, exist_ok=True)
        if missing := unbuilt(ORDER):
            say(TO_BUILD.format(programs=", ".join(missing)))
        self.cluster.up(say)
        self.cluster.kubectl("apply", "-f", str(CRDS))
        self.cluster.kubectl("wait", "--for=condition=Established", "-f", str(CRDS), "--timeout=60s")
        self.cluster.kubectl("apply", "-f", str(EXAMPLES / "controller.yaml"))
        # The controller itself runs here: kwok only pretends to run pods, and real nodes lack its image.
        self.cluster.kubectl("-n", ACCOUNT[0], "scale", "deployment/rpcregistry", "--replicas=0")
        self._start_controller()
        say("the controller is ready")

    def down(self) -> None:
        """Stop the controller and the cluster."""
        if self._port_file.exists():
            self.controller.stop()
        self.cluster.down()

    @property
    def controller(self) -> Process:
        """The controller's process, with its port as an argument."""
        port = int(self._port_file.read_text())
        return controller(
            self._directory,
            lambda: _is_ready(port),
            kubeconfig=self._directory / "controller.kubeconfig",
            zk_servers=self.cluster.zk_servers,
            lease_namespace=ACCOUNT[0],
            bind_address=f"127.0.0.1:{port}",
            ui_bind_address=self.page,
        )

    @property
    def page(self) -> str:
        """Where the controller serves its page; that outlives a restart, so that a browser finds it again."""
        return f"127.0.0.1:{self._page_file.read_text()}"

    def _start_controller(self) -> None:
        if not self._port_file.exists():
            self._port_file.write_text(str(free_ports(1)[0]))
        if not self._page_file.exists():
            self._page_file.write_text(str(free_ports(1)[0]))
        namespace, name = ACCOUNT
        token = self.cluster.kubectl("-n", namespace, "create", "token", name, "--duration=8760h").strip()
        self.cluster.kubeconfig_for(token, self._directory / "controller.kubeconfig")
        process = self.controller
        wanted = json.dumps({k: v for k, v in sorted(os.environ.items()) if k.startswith("RPCREGISTRY_")})
        if not self._environment_file.exists() or self._environment_file.read_text() != wanted:
            process.stop()
        self._environment_file.write_text(wanted)
        process.start()
        process.wait_until_ready()

    def write_env(self, file: Path) -> None:
        """Write shell lines that point kubectl and rpcregistry at the playground."""
        programs = dict.fromkeys(str(Path(path).parent) for path in (sys.executable, find("kubectl")))
        file.write_text(
            f"export KUBECONFIG={shlex.quote(str(self.cluster.kubeconfig))}\n"
            f"export ZK_SERVERS={self.cluster.zk_servers}\n"
            f"export RPCREGISTRY_ZK_SERVERS={self.cluster.zk_servers}\n"
            f"export RPCREGISTRY_URL=http://{self.page}/\n"
            f"export PATH={shlex.quote(':'.join(programs))}:$PATH\n"
        )


def _is_ready(port: int) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@click.group()
def main() -> None:
    """The demo's playground, which goes on running."""


@main.command()
def up() -> None:
    """Start what does not run yet; then: . .local/env"""
    playground = Playground(DIRECTORY)
    try:
        playground.up(lambda message: click.echo(f"  {message}"))
    except (Unavailable, RuntimeError) as error:
        raise click.ClickException(str(error)) from error
    playground.write_env(DIRECTORY / "env")
    click.echo(f"The page:  http://{playground.page}/")
    click.echo("Ready.  Now:  . .local/env && kubectl apply -f examples/test-rpc-service.yaml")


@main.command()
def down() -> None:
    """Stop it."""
    Playground(DIRECTORY).down()


if __name__ == "__main__":
    main()
