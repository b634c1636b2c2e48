"""``rpcregistry ui``: the leader's page in a browser, by a port-forward that follows the leader."""

import shutil
import socket
import subprocess
import sys
import time
import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path

from rpcregistry.commands.reading import lease_of
from rpcregistry.errors import Failure, Misconfigured, Retry
from rpcregistry.kube.client import Kube
from rpcregistry.leases import LEASE, NAMESPACE, own_namespace

LOOK_EVERY = 2.0  # seconds between two looks who leads
PATIENCE = 10.0  # seconds in which a port-forward has to listen


def show_page(
    kube: Kube,
    *,
    flags: Sequence[str],
    namespace: str,
    port: int,
    page_port: int,
    browser: bool,
) -> int:
    """Print the page's address and open it, and forward to it until interrupted; return the exit code.

    *flags*: kubectl's, which name the cluster.  *namespace*: the Lease's, or ``""``.  *port*: the local one,
    0 for any; *page_port*: the one in the pod.
    """
    namespace = namespace or own_namespace() or NAMESPACE
    kubectl = _kubectl()
    port = port or _free_port()

    def forward(pod: str) -> subprocess.Popen[bytes]:
        where = [kubectl, *flags, "-n", namespace, "port-forward", f"pod/{pod}", f"{port}:{page_port}"]
        return subprocess.Popen(where, stdout=subprocess.DEVNULL)  # noqa: S603  (what the user asked for)

    try:
        _follow(
            lambda: leader(kube, namespace),
            forward,
            port,
            lambda: open_url(f"http://127.0.0.1:{port}/", browser),
        )
    except KeyboardInterrupt:
        return 0
    return 1


def leader(kube: Kube, namespace: str) -> str:
    """The pod that leads; raises a ``Failure`` if nobody does."""
    found = lease_of(kube, namespace)
    holder = found.lease.holder if found else ""
    if not holder:
        where = f"the Lease {namespace}/{LEASE}"
        raise Retry(
            f"nobody leads: {where} {'has no holder' if found else 'does not exist'}; --lease-namespace"
        )
    return holder.rpartition("_")[0] or holder


def _follow(
    leads: Callable[[], str],
    forward: Callable[[str], subprocess.Popen[bytes]],
    port: int,
    ready: Callable[[], None],
) -> None:
    """Forward to the leader; return if the first port-forward fails, and begin anew if a later one does."""
    pod, process, shown = leads(), None, False
    try:
        while True:
            if process is None:
                process = forward(pod)
                if not _listens(port, process) and not shown:
                    return
                if not shown:
                    ready()
                shown = True
            time.sleep(LOOK_EVERY)
            now = _leads_now(leads, pod)
            if now != pod or process.poll() is not None:
                if now != pod:
                    sys.stderr.write(f"rpcregistry: {now} leads now\n")
                _end(process)
                pod, process = now, None
    finally:
        if process:
            _end(process)


def _leads_now(leads: Callable[[], str], before: str) -> str:
    """Who leads; *before* while nobody does, or that cannot be seen."""
    try:
        return leads()
    except Failure:
        return before


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait()


def _listens(port: int, process: subprocess.Popen[bytes]) -> bool:
    """Whether the port-forward accepts connections, within ``PATIENCE``."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return True
    return False


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _kubectl() -> str:
    beside = Path(sys.executable).with_name("kubectl")
    found = shutil.which("kubectl") or (str(beside) if beside.exists() else None)
    if not found:
        raise Misconfigured(
            "kubectl is not on PATH: it forwards the port; or give the page's address by --url"
        )
    return found


def open_url(url: str, browser: bool) -> None:
    """Print the address of the page, and open it in a browser if that is wanted."""
    print(f"The page:  {url}", flush=True)
    if browser:
        webbrowser.open(url)
