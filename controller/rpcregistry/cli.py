"""The command line: one function per subcommand; flags and environment become ``RunSettings``."""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta

import click

from rpcregistry.cli_act import ACTING
from rpcregistry.cli_look import LOOKING
from rpcregistry.completion import VARIABLE, candidates
from rpcregistry.errors import Failure, Misconfigured
from rpcregistry.model import NODE
from rpcregistry.options import (
    DURATION,
    LEASE_NAMESPACE,
    PERIOD,
    POD_LABEL_SELECTOR,
    REGISTER_PERMISSION,
    OneOf,
    Parsed,
    target_options,
)
from rpcregistry.plan.publication import Policy
from rpcregistry.settings import (
    PageSettings,
    RunSettings,
    Target,
    bind_address,
    host_name,
    is_loopback,
    label_name,
    labels,
    page_address,
)
from rpcregistry.usage import ENVIRONMENT, Group, command, shown

CONTROLLERS = ("rpcservice", "localservice", "registry")
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


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], **ENVIRONMENT})
@click.version_option(package_name="rpcregistry")
def main() -> None:
    """Publish Kubernetes pods in ZooKeeper, where RPC frameworks look for their servers.

    Begin with `rpcregistry render FILE`, which shows without a cluster what a manifest publishes.
    If something is wrong, `rpcregistry status` and `rpcregistry explain SERVICE` say what to do.
    `rpcregistry COMMAND --help` has each command's flags, examples and exit codes.

    Each flag has an environment variable: RPCREGISTRY_ and its name, as in RPCREGISTRY_ZK_SERVERS.
    Separate the values of a repeatable flag by spaces in it.
    """


@command(
    "run",
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
    "--dry-run/--no-dry-run",
    default=False,
    help="Print each write as a line of a diff, and make none; take no Lease, no fence.",
)
@click.option("--once", is_flag=True, help="With --dry-run: end once all was looked at.")
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
    "--generated-labels",
    type=Parsed("labels", labels),
    default="",
    metavar="KEY=VALUE,…",
    help="Labels for the RpcServices and LocalServices that the controller generates.",
)
@click.option(
    "--bind-address",
    type=Parsed("host:port", bind_address),
    default="0.0.0.0:8080",
    show_default=True,
    help="Where to serve metrics and probes.",
)
@click.option(
    "--ui-bind-address",
    type=Parsed("host:port", page_address),
    default="127.0.0.1:8081",
    show_default=True,
    help="Where to serve the page, which `rpcregistry ui` opens.  none: nowhere.",
)
@click.option(
    "--ui-host",
    "ui_hosts",
    type=Parsed("name", host_name),
    multiple=True,
    envvar="RPCREGISTRY_UI_HOST",
    help="A name by which browsers may call the page, besides localhost (repeatable).",
)
@click.option(
    "--ui-auth",
    type=click.Choice(["none", "kubernetes"]),
    default="none",
    help="Who may look: everybody who reaches the page (none), or only who has the verb get on the URL /ui.",
)
@click.option(
    "--ui-insecure",
    is_flag=True,
    help="Serve the page without --ui-auth at an address that other machines reach.",
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
    once: bool,
    batch_window: float,
    resync_period: float,
    compare_period: float,
    policy: Policy,
    guard_confirm: float,
    ownership_grace: float,
    endpoints_per_object: int,
    services_per_namespace: int,
    generated_labels: Mapping[str, str],
    bind_address: str,
    ui_bind_address: str,
    ui_hosts: tuple[str, ...],
    ui_auth: str,
    ui_insecure: bool,
    log_format: str | None,
    log_level: str,
) -> None:
    """Run the controllers until SIGTERM.

    They publish annotated pods in ZooKeeper, and keep both equal.  Several replicas may run: one leads.
    """
    if once and not dry_run:
        raise click.UsageError("--once is for --dry-run: add it", click.get_current_context())
    if ui_bind_address and ui_auth == "none" and not (ui_insecure or is_loopback(ui_bind_address)):
        raise click.UsageError(
            f"--ui-bind-address={ui_bind_address} is reached from other machines, and anybody could look at"
            " all services: add --ui-auth=kubernetes (docs/page.md), or --ui-insecure if that is meant",
            click.get_current_context(),
        )
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
        once=once,
        batch_window=batch_window,
        resync_period=resync_period,
        compare_period=compare_period,
        policy=policy,
        guard_confirm=guard_confirm,
        ownership_grace=timedelta(seconds=ownership_grace),
        endpoints_per_object=endpoints_per_object,
        services_per_namespace=services_per_namespace,
        generated_labels=generated_labels,
        bind_address=bind_address,
        page=PageSettings(
            address=ui_bind_address, hosts=ui_hosts, auth=ui_auth, shown=shown(click.get_current_context())
        ),
    )
    sys.exit(run_controllers(settings))


for subcommand in (run, *LOOKING, *ACTING):
    main.add_command(subcommand)


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


def run_command(arguments: Sequence[str], program: str = "rpcregistry") -> int:
    """Run the command line; return the exit code: 0 done, 1 failed, 2 bad usage or configuration.

    *program*: its name in the help, ``kubectl rpcregistry`` for kubectl's plugin.
    """
    try:
        # With standalone_mode off, main returns the code of the Exit that a help page raises.
        return (
            main.main(
                translate(arguments) or ["--help"],
                prog_name=program,
                standalone_mode=False,
                complete_var=VARIABLE,
            )
            or 0
        )
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else program
        return _fail(2, f"{error.format_message()} (see {path} --help)")
    except click.ClickException as error:
        return _fail(2, error.format_message())
    except click.Abort:
        return _fail(1, "interrupted")
    except Misconfigured as failure:
        return _fail(2, str(failure))
    except Failure as failure:
        return _fail(1, str(failure))


def complete(arguments: Sequence[str]) -> str:
    """What may follow *arguments*, as kubectl asks a plugin: a line each, then a directive (no file names).

    Source: kubernetes #105867, cobra's protocol.
    """
    *words, incomplete = arguments or [""]
    return "".join(f"{candidate}\n" for candidate in candidates(main, words, incomplete)) + ":4\n"


def _fail(code: int, message: str) -> int:
    line = " ".join(message.split())
    os.write(2, f"rpcregistry: {line}\n".encode())
    return code
