"""The subcommands that change something: what is held, and what is in ZooKeeper."""

import sys

import click

from rpcregistry.completion import SERVICES
from rpcregistry.options import (
    CLUSTER_ID,
    CONTEXT,
    DURATION,
    KUBECONFIG,
    LEASE_NAMESPACE,
    NAMESPACE,
    NAMESPACES_OPTION,
    PERIOD,
    TEMPLATES,
    TIMEOUT,
    Templates,
    quietly,
    zookeeper_options,
)
from rpcregistry.usage import command
from rpcregistry.zookeeper.access import Access


@command(
    "release",
    examples=[
        "rpcregistry release test-rpc-server-1",
        "rpcregistry release --namespace shop",
        "rpcregistry release --all",
    ],
    exit_codes={
        0: "it released all that you asked for",
        1: "nothing is held, or something still is after --timeout",
        2: "a flag or the configuration is wrong",
    },
)
@KUBECONFIG
@CONTEXT
@NAMESPACES_OPTION
@click.option(
    "--lease-namespace",
    type=NAMESPACE,
    default="",
    help="The namespace of the Lease.  Default: the pod's own; outside of a cluster rpcregistry.",
)
@click.option(
    "--all",
    "everything",
    envvar="RPCREGISTRY_ALL",
    is_flag=True,
    help="Release all that is held, by one word on the Lease.",
)
@click.option(
    "--timeout",
    type=PERIOD,
    default="60s",
    show_default=True,
    help="How long to wait for the controller.",
)
@click.argument("services", nargs=-1, metavar="[SERVICE]…", shell_complete=SERVICES)
@quietly
def release(
    kubeconfig: str | None,
    context: str | None,
    namespaces: tuple[str, ...],
    lease_namespace: str,
    timeout: float,
    everything: bool,
    services: tuple[str, ...],
) -> None:
    """Withdraw at once what is Held.

    A controller holds what it would withdraw, if too much is missing at a time.  This command releases
    what is held of each SERVICE, or all.  It waits for the controller, and says what it withdrew.
    """
    from rpcregistry.commands.release import release_held

    if everything and (services or namespaces):
        raise click.UsageError(
            "--all releases all services of all namespaces: leave out SERVICE and --namespace, or --all",
            click.get_current_context(),
        )
    code = release_held(
        kubeconfig=kubeconfig,
        context=context,
        namespaces=namespaces,
        lease_namespace=lease_namespace,
        timeout=timeout,
        everything=everything,
        services=services,
    )
    sys.exit(code)


@command(
    "purge",
    examples=["rpcregistry purge --zk-servers zk1:2181", "rpcregistry purge --wait 60s --yes"],
    exit_codes={
        0: "it withdrew all, or without --yes showed it",
        1: "a controller runs, or something is left",
        2: "a flag or the configuration is wrong",
    },
)
@KUBECONFIG
@CONTEXT
@TIMEOUT
@zookeeper_options
@CLUSTER_ID
@TEMPLATES
@LEASE_NAMESPACE
@click.option(
    "--wait",
    type=DURATION,
    default="0",
    help="How long to wait for controllers to stop.  Default: not at all.",
)
@click.option("--yes", is_flag=True, help="Withdraw it.  Default: only show it.")
@quietly
def purge(
    kubeconfig: str | None,
    context: str | None,
    timeout: float,
    zk_servers: str,
    zk_access: Access,
    cluster_id: str,
    templates: Templates,
    lease_namespace: str,
    wait: float,
    yes: bool,
) -> None:
    """On uninstall: withdraw all znodes.

    It shows the services that this cluster published, by the ledger, and with --yes withdraws them.
    Stop the controllers first: while one runs, the command refuses.  If one was killed, the command
    watches its heartbeat for 25 s.
    """
    from rpcregistry.commands.purge import purge_registry

    code = purge_registry(
        kubeconfig=kubeconfig,
        context=context,
        timeout=timeout,
        zk_servers=zk_servers,
        zk_access=zk_access,
        cluster_id=cluster_id,
        lease_namespace=lease_namespace,
        templates=dict(templates),
        wait=wait,
        yes=yes,
    )
    sys.exit(code)


ACTING = (release, purge)
