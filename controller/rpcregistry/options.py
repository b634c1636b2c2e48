"""The options that several commands have, and what reads their texts."""

from collections.abc import Callable, Sequence
from enum import Enum
from functools import wraps
from typing import Any, TypeVar

import click

from rpcregistry.completion import LAYOUT_NAMES, NAMESPACES
from rpcregistry.layouts import Layout
from rpcregistry.layouts.forms import PerEndpoint
from rpcregistry.plan.publication import Adopt, CrossNamespace
from rpcregistry.selector import label_selector
from rpcregistry.settings import (
    Target,
    base_path,
    check_bases,
    cluster_id,
    duration,
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


class Parsed(click.ParamType[Any]):
    """A parameter whose text *parse* reads; a ``ValueError`` of it becomes the error message."""

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


class OneOf(click.Choice[Any]):
    """A member of an enum, by its value."""

    def __init__(self, members: type[Enum]) -> None:
        super().__init__([member.value for member in members])
        self._members = members

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return self._members(super().convert(value, param, ctx))


DURATION = Parsed("duration", duration)
PERIOD = Parsed("duration", positive_duration)
NAMESPACE = Parsed("name", namespace)
SIZE = Parsed("size", size)
TEMPLATE = Parsed("name=file", template)
PATH = Parsed("path", base_path)


def without_empty(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Drop empty namespaces: kube2zk's ``-namespace ""`` means all."""
    return tuple(filter(None, values))


# Options that several commands have.
KUBECONFIG = click.option(
    "--kubeconfig",
    metavar="FILE",
    help="Default: $KUBECONFIG, else the pod's own cluster, else ~/.kube/config.",
)
CONTEXT = click.option(
    "--context", metavar="NAME", help="Which context of the kubeconfig.  Default: its current one."
)
TIMEOUT = click.option(
    "--timeout",
    type=PERIOD,
    default="15s",
    show_default=True,
    help="How long to wait for the connection to ZooKeeper.",
)
ZOOKEEPER: Sequence[Callable[..., Any]] = (
    click.option(
        "--zk-servers",
        type=Parsed("servers", zk_servers),
        envvar=["RPCREGISTRY_ZK_SERVERS", "zkservers"],
        default="127.0.0.1:2181",
        show_default=True,
        metavar="HOST:PORT,…[/CHROOT]",
        help="The ZooKeeper ensemble.",
    ),
    click.option(
        "--zk-auth-file", metavar="FILE", help="A file with the credentials: one line, USER:PASSWORD."
    ),
    click.option(
        "--zk-auth-scheme",
        type=click.Choice(SCHEMES),
        default="digest",
        show_default=True,
        help="How to send the credentials; sasl is DIGEST-MD5.",
    ),
    click.option(
        "--zk-acl",
        type=Parsed("acl", acl),
        metavar="SCHEME:ID:PERMS,…",
        help="The ACL of each znode that we create.  "
        "Default: auth::cdrwa,world:anyone:r with credentials, world:anyone:cdrwa without.",
    ),
    click.option(
        "--zk-tls-ca", metavar="FILE", help="Connect by TLS, and accept only certificates of this CA."
    ),
    click.option("--zk-tls-cert", metavar="FILE", help="The client certificate, if servers ask for one."),
    click.option(
        "--zk-tls-key", metavar="FILE", help="The key of the client certificate.  Default: in the same file."
    ),
)
LAYOUTS = click.option(
    "--layout",
    "layouts",
    envvar="RPCREGISTRY_LAYOUT",
    multiple=True,
    metavar="NAME=BASEPATH",
    shell_complete=LAYOUT_NAMES,
    help="The format and the base path to publish in (repeatable).  [default: kube2zk=/rpc_v2]",
)
TEMPLATES = click.option(
    "--template",
    "templates",
    envvar="RPCREGISTRY_TEMPLATE",
    type=TEMPLATE,
    multiple=True,
    metavar="NAME=FILE",
    help="Define a layout of your own by a file (repeatable).",
)
NAMESPACES_OPTION = click.option(
    "-n",
    "--namespace",
    "namespaces",
    type=NAMESPACE,
    multiple=True,
    callback=without_empty,
    envvar=["RPCREGISTRY_NAMESPACE", "namespace"],
    shell_complete=NAMESPACES,
    help="Only this namespace (repeatable).  Default: all.",
)
POD_LABEL_SELECTOR = click.option(
    "--pod-label-selector",
    type=Parsed("selector", label_selector),
    default="",
    help="Watch only these pods.  Default: all.",
)
REGISTER_PERMISSION = click.option(
    "--require-register-permission/--no-require-register-permission",
    default=False,
    help="Publish a pod only if its ServiceAccount has the verb `register` on that rpcservice.",
)
LEASE_NAMESPACE = click.option(
    "--lease-namespace",
    type=NAMESPACE,
    default="",
    help="The namespace of the Lease.  Default: the pod's own; outside of a cluster the one that the "
    "heartbeat names, else rpcregistry.",
)
CLUSTER_ID = click.option(
    "--cluster-id",
    type=Parsed("text", cluster_id),
    default="",
    help="The id of this cluster in ZooKeeper.  Default: the UID of namespace kube-system.",
)


def zookeeper_options(command: Callable[..., R]) -> Callable[..., R]:
    """Add the options of a command that connects to ZooKeeper; it receives them as *zk_access*."""

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
        load(access)  # report an unusable file before anything is done
        return command(zk_access=access, **flags)

    for option in reversed(ZOOKEEPER):
        with_access = option(with_access)
    return with_access


def target_options(command: Callable[..., R]) -> Callable[..., R]:
    """Add the options that say what to publish where; the command receives them as *target*."""

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
                "--from-cluster and --cluster-id name the same cluster: give --from-cluster the id of a"
                " cluster that no longer exists",
                click.get_current_context(),
            )
        target = Target(
            kubeconfig=kubeconfig,
            context=context,
            namespaces=namespaces,
            zk_servers=zk_servers,
            zk_access=zk_access,
            layouts=layouts_of(layouts, zkpath, templates),
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
            NAMESPACES_OPTION,
            LAYOUTS,
            TEMPLATES,
            click.option("--zkpath", type=PATH, envvar=["RPCREGISTRY_ZKPATH", "zkpath"], hidden=True),
            CLUSTER_ID,
            click.option(
                "--from-cluster",
                type=Parsed("text", cluster_id),
                default="",
                help="Take over the znodes of this id, whose cluster no longer exists.",
            ),
            click.option(
                "--cross-namespace",
                type=OneOf(CrossNamespace),
                default="union",
                show_default=True,
                help="Whether one service name in several namespaces is one service.",
            ),
            click.option(
                "--adopt",
                type=OneOf(Adopt),
                default="unowned",
                show_default=True,
                help="Whether to take over znodes that existed before.",
            ),
            click.option(
                "--max-znode-bytes",
                type=SIZE,
                default="512KiB",
                show_default=True,
                help="Publish no znode larger than this.",
            ),
        ]
    ):
        with_options = option(with_options)
    return zookeeper_options(with_options)


def output_option(*formats: str, text: str) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Add ``--output``; the first of *formats* is the default, *text* the help."""
    return click.option(
        "-o", "--output", type=click.Choice(formats), default=formats[0], show_default=True, help=text
    )


def quietly(command: Callable[..., R]) -> Callable[..., R]:
    """Add ``--verbose``; without it the command logs errors only, and nothing of libraries."""

    @wraps(command)
    def quiet(verbose: bool, **flags: Any) -> R:
        from rpcregistry.telemetry.logging import configure_logging

        configure_logging("console", "info" if verbose else "error", libraries=verbose)
        return command(**flags)

    return click.option("-v", "--verbose", is_flag=True, help="Log each step, and what libraries log.")(quiet)


def layouts_of(texts: tuple[str, ...], zkpath: str | None, templates: Templates) -> tuple[Layout, ...]:
    """What ``--layout``, or kube2zk's ``--zkpath``, says; raises ``click.UsageError``."""
    context = click.get_current_context()
    if texts and context.get_parameter_source("zkpath") == click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError(
            f"--zkpath is not for --layout: add --layout kube2zk={zkpath} instead", context
        )
    if templates and not texts:
        name = templates[0][0]
        raise click.UsageError(
            f"--template: no --layout uses {name}: add --layout {name}=/{name}, or another base path", context
        )
    try:
        layouts = tuple(
            layout(text, dict(templates)) for text in texts or (f"kube2zk={zkpath or '/rpc_v2'}",)
        )
        check_bases(layouts)
    except ValueError as error:
        raise click.UsageError(f"--layout: {error}", context) from error
    return layouts
