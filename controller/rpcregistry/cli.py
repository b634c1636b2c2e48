"""The command line: one function per subcommand; flags and environment become ``RunSettings``."""

import os
import re
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from enum import Enum
from functools import wraps
from typing import Any, TypeVar

import click

from rpcregistry.errors import Failure, Misconfigured
from rpcregistry.layouts import Layout
from rpcregistry.layouts.forms import PerEndpoint
from rpcregistry.model import NODE
from rpcregistry.plan.findings import DRIFT, NO_DRIFT, exit_states
from rpcregistry.plan.publication import Adopt, CrossNamespace, Policy
from rpcregistry.plan.scope import Scope
from rpcregistry.selector import label_selector
from rpcregistry.settings import (
    RunSettings,
    Target,
    base_path,
    bind_address,
    check_bases,
    cluster_id,
    duration,
    label_name,
    layout,
    namespace,
    positive_duration,
    size,
    template,
    zk_servers,
)
from rpcregistry.zookeeper.access import SCHEMES, Access, AclEntries, acl, load

R = TypeVar("R")

Templates = tuple[tuple[str, PerEndpoint], ...]  # by name

CONTROLLERS = ("rpcservice", "localservice", "registry")
ENVIRONMENT = {"auto_envvar_prefix": "RPCREGISTRY"}  # the same variables for every command
KUBE2ZK_FLAGS = {
    "syncperiod": "--resync-period",
    "zkservers": "--zk-servers",
    "zkpath": "--zkpath",
    "mockregistry": "--dry-run",
    "namespace": "--namespace",
}


class _Parsed(click.ParamType[Any]):
    """A parameter whose text is read by a function that raises ``ValueError``."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _OneOf(click.Choice[Any]):
    """A member of an enum, by its value."""

    def __init__(self, members: type[Enum]) -> None:
        super().__init__([member.value for member in members])
        self._members = members

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return self._members(super().convert(value, param, ctx))


DURATION = _Parsed("duration", duration)
PERIOD = _Parsed("duration", positive_duration)
NAMESPACE = _Parsed("name", namespace)
SIZE = _Parsed("size", size)
TEMPLATE = _Parsed("name=file", template)
PATH = _Parsed("path", base_path)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    unknown = set(names) - set(CONTROLLERS)
    if unknown or not names:
        raise ValueError(f"{text!r}: choose from {', '.join(CONTROLLERS)}, separated by commas")
    return names


def _without_empty(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """An empty namespace is kube2zk's way to say: all."""
    return tuple(filter(None, values))


# Options that several commands have.
KUBECONFIG = click.option("--kubeconfig", metavar="FILE", help="Default: in-cluster, then the usual file.")
CONTEXT = click.option(
    "--context", metavar="NAME", help="A context of the kubeconfig.  Default: its current one."
)
TIMEOUT = click.option(
    "--timeout",
    type=PERIOD,
    default="15s",
    show_default=True,
    help="How long ZooKeeper may take to answer at first.",
)
ZOOKEEPER: Sequence[Callable[..., Any]] = (
    click.option(
        "--zk-servers",
        type=_Parsed("servers", zk_servers),
        envvar=["RPCREGISTRY_ZK_SERVERS", "zkservers"],
        default="127.0.0.1:2181",
        show_default=True,
        metavar="HOST:PORT,…[/CHROOT]",
        help="The ZooKeeper ensemble.",
    ),
    click.option(
        "--zk-auth-file", metavar="FILE", help="Our credentials: a file with one line, USER:PASSWORD."
    ),
    click.option(
        "--zk-auth-scheme",
        type=click.Choice(SCHEMES),
        default="digest",
        show_default=True,
        help="How they are given to ZooKeeper; sasl is DIGEST-MD5.",
    ),
    click.option(
        "--zk-acl",
        type=_Parsed("acl", acl),
        metavar="SCHEME:ID:PERMS,…",
        help="The ACL of all that is created.  "
        "Default: auth::cdrwa,world:anyone:r with credentials, world:anyone:cdrwa without.",
    ),
    click.option(
        "--zk-tls-ca", metavar="FILE", help="Connect by TLS, to servers with a certificate of this CA only."
    ),
    click.option("--zk-tls-cert", metavar="FILE", help="Our own certificate, where servers ask for one."),
    click.option("--zk-tls-key", metavar="FILE", help="Its key.  Default: in the same file."),
)
LAYOUTS = click.option(
    "--layout",
    "layouts",
    envvar="RPCREGISTRY_LAYOUT",
    multiple=True,
    metavar="NAME=BASEPATH",
    help="How and where services are written (repeatable).  [default: kube2zk=/rpc_v2]",
)
TEMPLATES = click.option(
    "--template",
    "templates",
    envvar="RPCREGISTRY_TEMPLATE",
    type=TEMPLATE,
    multiple=True,
    metavar="NAME=FILE",
    help="A layout of your own, for --layout to name (repeatable).",
)
POD_LABEL_SELECTOR = click.option(
    "--pod-label-selector",
    type=_Parsed("selector", label_selector),
    default="",
    help="Watch only these pods.  Default: all.",
)
REGISTER_PERMISSION = click.option(
    "--require-register-permission/--no-require-register-permission",
    default=False,
    help="A pod's entry counts only if its ServiceAccount may `register` that rpcservice.",
)
LEASE_NAMESPACE = click.option(
    "--lease-namespace",
    type=NAMESPACE,
    default="",
    help="Where the Lease lies.  Default: the own namespace; outside of a cluster that of the Lease that the "
    "heartbeat names, else rpcregistry.",
)
CLUSTER_ID = click.option(
    "--cluster-id",
    type=_Parsed("text", cluster_id),
    default="",
    help="Default: the UID of namespace kube-system.",
)


def _zookeeper_options(command: Callable[..., R]) -> Callable[..., R]:
    """The options of every command that connects to ZooKeeper; how becomes its *zk_access*."""

    @wraps(command)
    def with_access(
        zk_auth_file: str | None,
        zk_auth_scheme: str,
        zk_acl: AclEntries | None,
        zk_tls_ca: str | None,
        zk_tls_cert: str | None,
        zk_tls_key: str | None,
        **flags: Any,
    ) -> R:
        try:
            access = Access(
                auth_file=zk_auth_file,
                auth_scheme=zk_auth_scheme,
                acl=zk_acl,
                tls_ca=zk_tls_ca,
                tls_cert=zk_tls_cert,
                tls_key=zk_tls_key,
            )
        except ValueError as error:
            raise click.UsageError(str(error), click.get_current_context()) from error
        load(access)  # what is wrong with a file is said before anything is done
        return command(zk_access=access, **flags)

    for option in reversed(ZOOKEEPER):
        with_access = option(with_access)
    return with_access


def _target_options(command: Callable[..., R]) -> Callable[..., R]:
    """The options of every command that compares a cluster with its registry; they become its *target*."""

    @wraps(command)
    def with_target(
        kubeconfig: str | None,
        context: str | None,
        namespaces: tuple[str, ...],
        zk_servers: str,
        zk_access: Access,
        layouts: tuple[str, ...],
        templates: Templates,
        zkpath: str | None,
        cluster_id: str,
        from_cluster: str,
        cross_namespace: CrossNamespace,
        adopt: Adopt,
        max_znode_bytes: int,
        **flags: Any,
    ) -> R:
        if from_cluster and from_cluster == cluster_id:
            raise click.UsageError(
                "--from-cluster and --cluster-id name the same cluster: --from-cluster is for one that is"
                " no more",
                click.get_current_context(),
            )
        target = Target(
            kubeconfig=kubeconfig,
            context=context,
            namespaces=namespaces,
            zk_servers=zk_servers,
            zk_access=zk_access,
            layouts=_layouts(layouts, zkpath, templates),
            cluster_id=cluster_id,
            from_cluster=from_cluster,
            cross_namespace=cross_namespace,
            adopt=adopt,
            max_znode_bytes=max_znode_bytes,
        )
        return command(target=target, **flags)

    with_options: Callable[..., R] = with_target
    for option in reversed(
        [
            KUBECONFIG,
            CONTEXT,
            click.option(
                "--namespace",
                "namespaces",
                type=NAMESPACE,
                multiple=True,
                callback=_without_empty,
                envvar=["RPCREGISTRY_NAMESPACE", "namespace"],
                help="Only this namespace (repeatable).  Default: all.",
            ),
            LAYOUTS,
            TEMPLATES,
            click.option("--zkpath", type=PATH, envvar=["RPCREGISTRY_ZKPATH", "zkpath"], hidden=True),
            CLUSTER_ID,
            click.option(
                "--from-cluster",
                type=_Parsed("text", cluster_id),
                default="",
                help="The id of a cluster that is no more: what it published is taken over.",
            ),
            click.option(
                "--cross-namespace",
                type=_OneOf(CrossNamespace),
                default="union",
                show_default=True,
                help="What the same service name in several namespaces means.",
            ),
            click.option(
                "--adopt",
                type=_OneOf(Adopt),
                default="unowned",
                show_default=True,
                help="Whether znodes that were there before are taken over.",
            ),
            click.option("--max-znode-bytes", type=SIZE, default="512KiB", show_default=True),
        ]
    ):
        with_options = option(with_options)
    return _zookeeper_options(with_options)


def _quiet(command: Callable[..., R]) -> Callable[..., R]:
    """A command that says what it finds; libraries are heard by ``--verbose`` only."""

    @wraps(command)
    def quiet(verbose: bool, **flags: Any) -> R:
        from rpcregistry.telemetry.logging import configure_logging

        configure_logging("console", "info" if verbose else "error", libraries=verbose)
        return command(**flags)

    return click.option("-v", "--verbose", is_flag=True, help="Show what happens on the way, too.")(quiet)


class _Command(click.Command):
    """Its help names the variable of each option."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for parameter in self.params:
            if isinstance(parameter, click.Option):
                parameter.show_envvar = True


@click.group(context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "RPCREGISTRY"})
@click.version_option(package_name="rpcregistry")
def main() -> None:
    """Publish Kubernetes pods in ZooKeeper, where RPC frameworks look for their servers.

    Each flag has an environment variable: RPCREGISTRY_ and its name, as in RPCREGISTRY_ZK_SERVERS.
    """


main.command_class = _Command


@main.command(context_settings=ENVIRONMENT)
@_target_options
@POD_LABEL_SELECTOR
@click.option(
    "--controllers",
    type=_Parsed("names", _names),
    default=",".join(CONTROLLERS),
    show_default=True,
    help="Which controllers to run, separated by commas.",
)
@REGISTER_PERMISSION
@click.option("--leader-elect/--no-leader-elect", default=True, show_default=True)
@LEASE_NAMESPACE
@click.option(
    "--dry-run/--no-dry-run", default=False, help="Log each write instead; take no Lease, no fence."
)
@click.option("--batch-window", type=DURATION, default="100ms", show_default=True)
@click.option(
    "--node-label",
    type=_Parsed("label", label_name),
    default=NODE,
    show_default=True,
    help="The label by which node Services find the pods of their node.",
)
@click.option("--resync-period", type=DURATION, default="1h", show_default=True, help="0: never.")
@click.option("--compare-period", type=PERIOD, default="60s", show_default=True)
@click.option(
    "--policy",
    type=_OneOf(Policy),
    default="sync",
    show_default=True,
    help="upsert-only never removes a znode.",
)
@click.option(
    "--guard-confirm",
    type=DURATION,
    default="30s",
    show_default=True,
    help="How long a large absence has to last before it is believed.",
)
@click.option(
    "--ownership-grace",
    type=DURATION,
    default="24h",
    show_default=True,
    help="How long the ledger remembers a service that was withdrawn.",
)
@click.option("--endpoints-per-object", type=click.IntRange(1, 2000), default=100, show_default=True)
@click.option(
    "--bind-address",
    type=_Parsed("host:port", bind_address),
    default="0.0.0.0:8080",
    show_default=True,
    help="Of metrics and probes.",
)
@click.option("--log-format", type=click.Choice(["json", "console"]), help="Default: json off a terminal.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
    default="info",
    show_default=True,
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
    bind_address: str,
    log_format: str | None,
    log_level: str,
) -> None:
    """Run the controllers until SIGTERM."""
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
        bind_address=bind_address,
    )
    sys.exit(run_controllers(settings))


@main.command(context_settings=ENVIRONMENT)
@_target_options
@TIMEOUT
@POD_LABEL_SELECTOR
@REGISTER_PERMISSION
@_quiet
@click.option("--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option(
    "--exit-on",
    type=_Parsed("states", exit_states),
    default=",".join(DRIFT),
    metavar="STATE,…|any|none",
    help=f"In which states what is found means exit 1.  Default: all but {', '.join(NO_DRIFT)}.",
)
def verify(
    target: Target,
    timeout: float,
    pod_label_selector: str,
    require_register_permission: bool,
    output: str,
    exit_on: tuple[str, ...],
) -> None:
    """Compare the pods with the RpcServices, and those with the registry.

    What is found counts where a second look, 5 seconds later, finds it again.  Exits with 0 where all is in
    sync, 1 on drift (see --exit-on), 2 where it could not look.
    """
    from rpcregistry.commands.verify import verify_registry

    scope = Scope(
        layouts=tuple(f"{layout.name}={layout.base}" for layout in target.layouts),
        namespaces=tuple(dict.fromkeys(target.namespaces)),
        pod_label_selector=pod_label_selector,
        require_register_permission=require_register_permission,
    )
    sys.exit(verify_registry(target, scope, timeout=timeout, output=output, exit_on=exit_on))


@main.command(context_settings=ENVIRONMENT)
@click.argument("files", nargs=-1, required=True, metavar="FILE…")
@LAYOUTS
@TEMPLATES
@_quiet
def render(files: tuple[str, ...], layouts: tuple[str, ...], templates: Templates) -> None:
    """Show, offline, the RpcServices and znodes that manifests would give.

    FILE is YAML or JSON: pods, workloads with a pod template, RpcServices; ``-`` is standard input.
    Exits with 1 where an annotation is wrong.
    """
    from rpcregistry.commands.render import render_files

    sys.exit(render_files(files, _layouts(layouts, None, templates)))


@main.command(context_settings=ENVIRONMENT)
@KUBECONFIG
@CONTEXT
@click.option(
    "--namespace",
    "namespaces",
    type=NAMESPACE,
    multiple=True,
    callback=_without_empty,
    help="Only in this namespace (repeatable).",
)
@click.option(
    "--lease-namespace",
    type=NAMESPACE,
    default="",
    help="Where the Lease lies.  Default: the own namespace; outside of a cluster rpcregistry.",
)
@click.option(
    "--all",
    "everything",
    envvar="RPCREGISTRY_ALL",
    is_flag=True,
    help="All that is held, by one word on the Lease.",
)
@click.option(
    "--timeout",
    type=PERIOD,
    default="60s",
    show_default=True,
    help="How long to wait until the controller has let go.",
)
@click.argument("services", nargs=-1, metavar="[SERVICE]…")
@_quiet
def release(
    kubeconfig: str | None,
    context: str | None,
    namespaces: tuple[str, ...],
    lease_namespace: str,
    timeout: float,
    everything: bool,
    services: tuple[str, ...],
) -> None:
    """Withdraw now what is Held: all that can be seen, or that of the SERVICEs named.

    Waits until that is done, and says what was withdrawn.  Exits with 1 where nothing is held.
    """
    from rpcregistry.commands.release import release_held

    if everything and (services or namespaces):
        raise click.UsageError(
            "--all is for all services of all namespaces: give neither SERVICE nor --namespace with it",
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


@main.command(context_settings=ENVIRONMENT)
@KUBECONFIG
@CONTEXT
@TIMEOUT
@_zookeeper_options
@CLUSTER_ID
@TEMPLATES
@LEASE_NAMESPACE
@click.option(
    "--wait",
    type=DURATION,
    default="0",
    help="How long to wait for controllers to stop.  Default: not at all.",
)
@click.option("--yes", is_flag=True, help="Withdraw it; without this, it is only shown.")
@_quiet
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
    """On uninstall: withdraw all that the ledger says this cluster published.

    Stop the controllers first.  While anything shows that one of them lives, nothing is withdrawn; where
    one did not say that it stopped, its heartbeat is watched for 25 s.
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


def _layouts(texts: tuple[str, ...], zkpath: str | None, templates: Templates) -> tuple[Layout, ...]:
    context = click.get_current_context()
    if texts and context.get_parameter_source("zkpath") == click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError(
            f"--zkpath is not for --layout: add --layout kube2zk={zkpath} instead", context
        )
    try:
        layouts = tuple(
            layout(text, dict(templates)) for text in texts or (f"kube2zk={zkpath or '/rpc_v2'}",)
        )
        check_bases(layouts)
    except ValueError as error:
        raise click.UsageError(f"--layout: {error}", context) from error
    return layouts


def translate(arguments: Sequence[str]) -> list[str]:
    """kube2zk's flags (one dash or two, Go's ``-flag=value``) as ours; ``run`` where no command is named.

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
    """A number without a unit is kube2zk's seconds, after ``=`` or not."""
    return f"{text}s" if re.fullmatch(r"=?[0-9]+", text) else text


def run_command(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit code: 0 done, 1 failed, 2 bad usage or configuration."""
    try:
        # With standalone_mode off a help page's Exit comes back as its code.
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
