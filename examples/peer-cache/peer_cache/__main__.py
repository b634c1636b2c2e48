"""The command: ``python -m peer_cache``.  Every option has a variable ``PEER_CACHE_…``, but for ``POD_…``."""

import logging
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import click

from peer_cache.addresses import join, loopback_twin
from peer_cache.entries import Cache
from peer_cache.links import Links
from peer_cache.replica import Peer, Replica
from peer_cache.rest import RestServer
from peer_cache.service import serve
from rpcregistry import Failure, PeerUpdate, Registry, Service

SERVICE = "peer-cache"
CALLS_END_WITHIN = 3.0  # seconds
STOP = {signal.SIGTERM, signal.SIGINT}

_log = logging.getLogger("peer_cache")


@click.command(context_settings={"auto_envvar_prefix": "PEER_CACHE", "show_default": True})
@click.option("--grpc-port", default=50051, help="Where peers and other clients call; the same in all pods.")
@click.option("--http-port", default=8080, help="Where the REST interface and the probes are.")
@click.option("--heal-period", default=30.0, help="Seconds between two exchanges with the oldest peer.")
@click.option("--fill-patience", default=30.0, help="Seconds to wait for peers that do not answer at start.")
@click.option("--namespace", envvar="POD_NAMESPACE", required=True, help="This pod's namespace.")
@click.option("--pod-name", envvar="POD_NAME", required=True, help="This pod's name.")
@click.option("--kubeconfig", help="How to reach the API server from outside of the cluster.")
@click.option(
    "--loopback-of",
    "loopback",
    metavar="POD_IP",
    type=loopback_twin,
    help="For development: this pod's address; 127.x.y.z stands for n.x.y.z, here and at all peers.",
)
@click.option("--log-level", default="info", type=click.Choice(["debug", "info", "warning"]))
def main(
    grpc_port: int,
    http_port: int,
    heal_period: float,
    fill_patience: float,
    namespace: str,
    pod_name: str,
    kubeconfig: str | None,
    loopback: str | None,
    log_level: str,
) -> None:
    """Run one process of the peer cache, until SIGTERM."""
    layout = f"%(asctime)s {pod_name} %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=log_level.upper(), format=layout)

    def address(peer: Peer) -> str:
        return join(loopback_twin(peer.ip) if loopback else peer.ip, grpc_port)

    def keep() -> None:
        registry.wait_until_synced()
        registry.subscribe_peers(log_change, SERVICE)
        replica.fill(fill_patience)
        replica.heal(heal_period)

    def log_change(update: PeerUpdate) -> None:
        if update.kind != "changed":
            _log.info("peer %s: %s at %s", update.kind, update.peer.name, update.peer.ip)

    # Block the signals in all threads, and wait for them below: no handler interrupts anything.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP)
    with _failures_reported():
        # Each pod registers itself, so we need no RpcServices that select pods.
        if kubeconfig:
            registry = Registry.from_kubeconfig(
                kubeconfig, namespace=namespace, pod_name=pod_name, rpcservices=False
            )
        else:
            registry = Registry.in_cluster(namespace, pod_name, rpcservices=False)
        cache = Cache(writer=uuid.uuid4().hex, now=lambda: time.time_ns() // 1000)
        replica = Replica(cache, lambda: registry.peers(SERVICE), address, Links())
        with registry:
            # Serve before registering: peers call as soon as they see this pod.
            calls = serve(replica, join(loopback or "::", grpc_port))
            rest = RestServer(replica, loopback or "", http_port)
            threading.Thread(target=rest.serve_forever, name="rest", daemon=True).start()
            registry.register(Service(name=SERVICE, port=grpc_port))
            _log.info("registered, at port %d", grpc_port)
            threading.Thread(target=keep, name="keep", daemon=True).start()
            signal.sigwait(STOP)
            _log.info("stopping")
            rest.shutdown()
            calls.stop(CALLS_END_WITHIN).wait(CALLS_END_WITHIN + 1)
            replica.stop()


@contextmanager
def _failures_reported() -> Iterator[None]:
    try:
        yield
    except (Failure, OSError, RuntimeError) as error:  # gRPC raises RuntimeError if the port is taken
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main(prog_name="python3 -m peer_cache")
