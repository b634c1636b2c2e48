"""The command line: one function per subcommand; flags and environment become ``RunSettings``."""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import click

from rpcregistry.errors import Failure, Misconfigured
from rpcregistry.model import NODE
from rpcregistry.options import (
    CLUSTER_ID,
    CONTEXT,
    DURATION,
    KUBECONFIG,
    LAYOUTS,
    LEASE_NAMESPACE,
    NAMESPACE,
    PERIOD,
    POD_LABEL_SELECTOR,
    REGISTER_PERMISSION,
    TEMPLATES,
    TIMEOUT,
    OneOf,
    Parsed,
    Templates,
    layouts_of,
    quietly,
    target_options,
    without_empty,
    zookeeper_options,
)
from rpcregistry.plan.findings import DRIFT, NO_DRIFT, exit_states
from rpcregistry.plan.publication import Policy
from rpcregistry.plan.scope import Scope
from rpcregistry.settings import (
    RunSettings,
    Target,
    bind_address,
    label_name,
)
from rpcregistry.zookeeper.access import Access

CONTROLLERS = ("rpcservice", "localservice", "registry")
ENVIRONMENT = {"auto_envvar_prefix": "RPCREGISTRY"}  # the same variables for every command
KUBE2ZK_FLAGS = {
    "syncperiod": "--resync-period",
    "zkservers": "--zk-servers",
    "zkpath": "--zkpath",
    "mockregistry": "--dry-run",
    "namespace": "--namespace",
}


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    unknown = set(names) - set(CONTROLLERS)
    if unknown or not names:
        raise ValueError(f"{text!r}: choose from {', '.join(CONTROLLERS)}, separated by commas")
    return names


class _Command(click.Command):
    """A subcommand.  Its help names the variable of each option, and ends with examples and exit codes."""

    def __init__(
        self, *args: Any, examples: Sequence[str], exit_codes: Mapping[int, str], **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self.examples = examples
        self.exit_codes = exit_codes
        for parameter in self.params:
            if isinstance(parameter, click.Option):
                parameter.show_envvar = True

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, one a line at any width of the terminal, and the exit codes."""
        with formatter.section("Examples"):
            for example in self.examples:
                formatter.write(f"  {example}\n")
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), meaning) for code, meaning in self.exit_codes.items()])


@click.group(context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "RPCREGISTRY"})
@click.version_option(package_name="rpcregistry")
def main() -> None:
    """Publish Kubernetes pods in ZooKeeper, where RPC frameworks look for their servers.

    Begin with `rpcregistry render FILE`, which shows without a cluster what a manifest publishes.
    `rpcregistry COMMAND --help` has each command's flags, examples and exit codes.

    Each flag has an environment variable: RPCREGISTRY_ and its name, as in RPCREGISTRY_ZK_SERVERS.
    Separate the values of a repeatable flag by spaces in it.
    """


main.command_class = _Command


@main.command(
    context_settings=ENVIRONMENT,
    examples=[
        "rpcregistry run --zk-servers zk1:2181,zk2:2181",
        "rpcregistry run --layout kube2zk=/rpc_v2 --layout dubbo=/dubbo",
        "rpcregistry run --dry-run --log-format console",
    ],
    exit_codes={
        0: "SIGTERM or SIGINT ended it",
        1: "it failed: the last log line says why",
        2: "a flag or the configuration is wrong",
    },
)
@target_options
@POD_LABEL_SELECTOR
@click.option(
    "--controllers",
    type=Parsed("names", _names),
    default=",".join(CONTROLLERS),
    show_default=True,
    help="Which controllers to run, separated by commas.",
)
@REGISTER_PERMISSION
@click.option(
    "--leader-elect/--no-leader-elect",
    default=True,
    show_default=True,
    help="Write only while this process holds the Lease.  Without it, run one replica.",
)
@LEASE_NAMESPACE
@click.option(
    "--dry-run/--no-dry-run", default=False, help="Log each write and make none; take no Lease, no fence."
)
@click.option(
    "--batch-window",
    type=DURATION,
    default="100ms",
    show_default=True,
    help="How long to gather the changes of a service that keeps changing.",
)
@click.option(
    "--node-label",
    type=Parsed("label", label_name),
    default=NODE,
    show_default=True,
    help="The label by which a node Service selects the pods of its node.",
)
@click.option(
    "--resync-period",
    type=DURATION,
    default="1h",
    show_default=True,
    help="How often to reconcile every object again.  0: never.",
)
@click.option(
    "--compare-period",
    type=PERIOD,
    default="60s",
    show_default=True,
    help="How often to compare every znode with what is published.",
)
@click.option(
    "--policy",
    type=OneOf(Policy),
    default="sync",
    show_default=True,
    help="sync withdraws pods that end; upsert-only never removes a znode.",
)
@click.option(
    "--guard-confirm",
    type=DURATION,
    default="30s",
    show_default=True,
    help="How long many pods have to be missing before they are withdrawn.",
)
@click.option(
    "--ownership-grace",
    type=DURATION,
    default="24h",
    show_default=True,
    help="How long the ledger remembers a withdrawn service.",
)
@click.option(
    "--endpoints-per-object",
    type=click.IntRange(1, 2000),
    default=100,
    show_default=True,
    help="The most endpoints in one RpcService; a larger service has several.",
)
@click.option(
    "--services-per-namespace",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="The most RpcServices in one namespace before no other is made there.  0: no bound.",
)
@click.option(
    "--bind-address",
    type=Parsed("host:port", bind_address),
    default="0.0.0.0:8080",
    show_default=True,
    help="Where to serve metrics and probes.",
)
@click.option(
    "--log-format", type=click.Choice(["json", "console"]), help="Default: console on a terminal, else json."
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
    default="info",
    show_default=True,
    help="Log this level and above.",
)
def run(
    target: Target,
    pod_label_selector: str,
    controllers: tuple[str, ...],
    node_label: str,
    require_register_permission: bool,
    leader_elect: bool,
    lease_namespace: str,
    dry_run: bool,
    batch_window: float,
    resync_period: float,
    compare_period: float,
    policy: Policy,
    guard_confirm: float,
    ownership_grace: float,
    endpoints_per_object: int,
    services_per_namespace: int,
    bind_address: str,
    log_format: str | None,
    log_level: str,
) -> None:
    """Run the controllers until SIGTERM.

    They publish annotated pods in ZooKeeper, and keep both equal.  Several replicas may run: one leads.
    """
    from rpcregistry.run.process import run_controllers
    from rpcregistry.telemetry.logging import configure_logging

    configure_logging(log_format, log_level)
    settings = RunSettings(
        target=target,
        pod_label_selector=pod_label_selector,
        controllers=controllers,
        node_label=node_label,
        require_register_permission=require_register_permission,
        leader_elect=leader_elect,
        lease_namespace=lease_namespace,
        dry_run=dry_run,
        batch_window=batch_window,
        resync_period=resync_period,
        compare_period=compare_period,
        policy=policy,
        guard_confirm=guard_confirm,
        ownership_grace=timedelta(seconds=ownership_grace),
        endpoints_per_object=endpoints_per_object,
        services_per_namespace=services_per_namespace,
        bind_address=bind_address,
    )
    sys.exit(run_controllers(settings))


@main.command(
    context_settings=ENVIRONMENT,
    examples=[
        "rpcregistry verify --zk-servers zk1:2181",
        "rpcregistry verify --layout dubbo=/dubbo --namespace shop",
        "rpcregistry verify --output json --exit-on any",
    ],
    exit_codes={
        0: "all is in sync",
        1: "a finding is in a state of --exit-on",
        2: "it could not look, or a flag is wrong",
    },
)
@target_options
@TIMEOUT
@POD_LABEL_SELECTOR
@REGISTER_PERMISSION
@quietly
@click.option(
    "--output",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="table: lines, on a terminal in columns; json: one object.",
)
@click.option(
    "--exit-on",
    type=Parsed("states", exit_states),
    default=",".join(DRIFT),
    metavar="STATE,…|any|none",
    help=f"Exit with 1 on findings in these states.  Default: all but {', '.join(NO_DRIFT)}.",
)
def verify(
    target: Target,
    timeout: float,
    pod_label_selector: str,
    require_register_permission: bool,
    output: str,
    exit_on: tuple[str, ...],
) -> None:
    """Compare pods, RpcServices and znodes.

    Changes in progress are no findings: it looks twice, 5 seconds apart, and shows what it found twice.
    It writes nothing.  Give it the flags that the controllers run with.
    """
    from rpcregistry.commands.verify import verify_registry

    scope = Scope(
        layouts=tuple(f"{layout.name}={layout.base}" for layout in target.layouts),
        namespaces=tuple(dict.fromkeys(target.namespaces)),
        pod_label_selector=pod_label_selector,
        require_register_permission=require_register_permission,
    )
    sys.exit(verify_registry(target, scope, timeout=timeout, output=output, exit_on=exit_on))


@main.command(
    context_settings=ENVIRONMENT,
    examples=[
        "rpcregistry render deployment.yaml",
        "rpcregistry render --layout dubbo=/dubbo pod.yaml service.yaml",
        "kubectl get pods -o yaml | rpcregistry render -",
    ],
    exit_codes={0: "done", 1: "an annotation is wrong", 2: "a flag or a file is wrong"},
)
@click.argument("files", nargs=-1, required=True, metavar="FILE…")
@LAYOUTS
@TEMPLATES
@quietly
def render(files: tuple[str, ...], layouts: tuple[str, ...], templates: Templates) -> None:
    """Show what manifests publish, offline.

    FILE is YAML or JSON with pods, workloads with a pod template, or RpcServices; - is standard input.
    It prints the RpcServices and znodes as YAML.  Wrong annotations go to standard error.
    """
    from rpcregistry.commands.render import render_files

    sys.exit(render_files(files, layouts_of(layouts, None, templates)))


@main.command(
    context_settings=ENVIRONMENT,
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
@click.option(
    "--namespace",
    "namespaces",
    type=NAMESPACE,
    multiple=True,
    callback=without_empty,
    help="Only this namespace (repeatable).  Default: all.",
)
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
@click.argument("services", nargs=-1, metavar="[SERVICE]…")
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


@main.command(
    context_settings=ENVIRONMENT,
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


def translate(arguments: Sequence[str]) -> list[str]:
    """Translate kube2zk's flags (one dash or two, ``-flag=value``); without a command, it is ``run``.

    >>> translate(["-zkservers", "zk:2181", "-mockregistry=true"])
    ['run', '--zk-servers', 'zk:2181', '--dry-run']
    """
    translated = []
    for argument, before in zip(arguments, ["", *arguments], strict=False):
        match = re.fullmatch(r"--?([a-z0-9]+)(=.*)?", argument, re.DOTALL)
        flag = KUBE2ZK_FLAGS.get(match[1]) if match else None
        if re.fullmatch(r"--?syncperiod", before):
            translated.append(_seconds(argument))
        elif match is None or flag is None:
            translated.append(argument)
        elif flag == "--dry-run":
            off = (match[2] or "").lower() in ("=false", "=f", "=0")
            translated.append("--no-dry-run" if off else flag)
        else:
            translated.append(flag + _seconds(match[2] or ""))
    if translated and translated[0].startswith("-") and translated[0] not in ("-h", "--help", "--version"):
        translated.insert(0, "run")
    return translated


def _seconds(text: str) -> str:
    """Give a number without a unit, which is kube2zk's seconds, the unit; ``=`` may precede it."""
    return f"{text}s" if re.fullmatch(r"=?[0-9]+", text) else text


def run_command(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit code: 0 done, 1 failed, 2 bad usage or configuration."""
    try:
        # With standalone_mode off, main returns the code of the Exit that a help page raises.
        return (
            main.main(translate(arguments) or ["--help"], prog_name="rpcregistry", standalone_mode=False) or 0
        )
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "rpcregistry"
        return _fail(2, f"{error.format_message()} (see {command} --help)")
    except click.ClickException as error:
        return _fail(2, error.format_message())
    except click.Abort:
        return _fail(1, "interrupted")
    except Misconfigured as failure:
        return _fail(2, str(failure))
    except Failure as failure:
        return _fail(1, str(failure))


def _fail(code: int, message: str) -> int:
    line = " ".join(message.split())
    os.write(2, f"rpcregistry: {line}\n".encode())
    return code
