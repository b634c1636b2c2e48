"""The subcommands that only look: nothing that they do changes anything."""

import sys
from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from rpcregistry.completion import NAMESPACES, SERVICES, SHELLS, script
from rpcregistry.options import (
    CONTEXT,
    DURATION,
    KUBECONFIG,
    LAYOUTS,
    LEASE_NAMESPACE,
    NAMESPACE,
    POD_LABEL_SELECTOR,
    REGISTER_PERMISSION,
    TEMPLATES,
    TIMEOUT,
    Parsed,
    Templates,
    layouts_of,
    output_option,
    quietly,
    target_options,
    without_empty,
)
from rpcregistry.plan.findings import DRIFT, NO_DRIFT, Finding, exit_states
from rpcregistry.plan.overview import STATES
from rpcregistry.plan.scope import Scope
from rpcregistry.settings import Target
from rpcregistry.usage import command

if TYPE_CHECKING:
    from rpcregistry.kube.client import Kube

WHERE: Sequence[Callable[..., object]] = (
    KUBECONFIG,
    CONTEXT,
    click.option(
        "-n",
        "--namespace",
        "namespaces",
        type=NAMESPACE,
        multiple=True,
        callback=without_empty,
        shell_complete=NAMESPACES,
        help="Only this namespace (repeatable).  Default: the context's.",
    ),
    click.option("-A", "--all-namespaces", is_flag=True, help="All namespaces."),
)


def places(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say where to look; the command receives *kube* and *namespaces* (empty: all).

    As in kubectl, it is the context's namespace by default.
    """

    @wraps(command)
    def with_places(
        kubeconfig: str | None,
        context: str | None,
        namespaces: tuple[str, ...],
        all_namespaces: bool,
        **flags: Any,
    ) -> None:
        from rpcregistry.kube.client import Kube

        kube = Kube.from_config(kubeconfig, context)
        command(kube=kube, namespaces=() if all_namespaces else namespaces or (kube.namespace,), **flags)

    with_options: Callable[..., None] = with_places
    for option in reversed(WHERE):
        with_options = option(with_options)
    return with_options


def scope_of(
    target: Target, pod_label_selector: str = "", require_register_permission: bool = False
) -> Scope:
    """The flags that decide what is compared."""
    return Scope(
        layouts=tuple(f"{layout.name}={layout.base}" for layout in target.layouts),
        namespaces=tuple(dict.fromkeys(target.namespaces)),
        pod_label_selector=pod_label_selector,
        require_register_permission=require_register_permission,
    )


@command(
    "status",
    examples=["rpcregistry status --zk-servers zk1:2181", "rpcregistry status -o json"],
    exit_codes={
        0: "all is well",
        1: "something is not",
        2: "something could not be seen, or a flag is wrong",
    },
)
@target_options
@TIMEOUT
@POD_LABEL_SELECTOR
@REGISTER_PERMISSION
@LEASE_NAMESPACE
@quietly
@output_option("text", "json", "yaml", text="text: for people; json, yaml: for programs.")
def status(
    target: Target,
    timeout: float,
    pod_label_selector: str,
    require_register_permission: bool,
    lease_namespace: str,
    output: str,
) -> None:
    """Show whether all is well, and if not, what to type.

    It shows who leads, the heartbeat in ZooKeeper, how many services there are, which are not in sync, what
    is held until when, and how ZooKeeper differs from the RpcServices.
    """
    from rpcregistry.commands.status import show_status
    from rpcregistry.kube.client import Kube

    kube = Kube.from_config(target.kubeconfig, target.context)
    scope = scope_of(target, pod_label_selector, require_register_permission)
    sys.exit(
        show_status(kube, target, scope, lease_namespace=lease_namespace, timeout=timeout, output=output)
    )


@command(
    "get",
    examples=[
        "rpcregistry get",
        "rpcregistry get -A --state held",
        "rpcregistry get com.acme.Orders -o wide -w",
    ],
    exit_codes={0: "done", 1: "a SERVICE is none's", 2: "it could not look, or a flag is wrong"},
)
@places
@click.option(
    "--state",
    "states",
    type=click.Choice(STATES),
    multiple=True,
    help="Only services in this state (repeatable).  nobody: none of its pods is Ready.",
)
@output_option("table", "wide", "json", "yaml", "name", text="wide: with origin, message and paths.")
@click.option("-w", "--watch", "watching", is_flag=True, help="Go on, and print rows that change.")
@quietly
@click.argument("services", nargs=-1, metavar="[SERVICE]…", shell_complete=SERVICES)
def get(
    kube: "Kube",
    namespaces: tuple[str, ...],
    states: tuple[str, ...],
    output: str,
    watching: bool,
    services: tuple[str, ...],
) -> None:
    """List services, one a row, those that need a look first.

    The RpcServices of one service name are one row: its parts, and those of several namespaces.
    """
    from rpcregistry.commands.get import get_services

    sys.exit(get_services(kube, namespaces, services, states=states, output=output, watching=watching))


@command(
    "explain",
    examples=[
        "rpcregistry explain com.acme.Orders -n shop",
        "rpcregistry explain pod/orders-7d9c-x2k4p -n shop",
        "rpcregistry explain com.acme.Orders -A --zk-servers zk1:2181",
    ],
    exit_codes={
        0: "it is published as it should be",
        1: "it is not, or there is no such service",
        2: "that could not be seen, or a flag is wrong",
    },
)
@target_options
@TIMEOUT
@click.option("-A", "--all-namespaces", is_flag=True, help="All namespaces.")
@output_option("text", "json", "yaml", text="text: for people; json, yaml: for programs.")
@quietly
@click.argument("what", metavar="SERVICE|pod/NAME", shell_complete=SERVICES)
def explain(target: Target, timeout: float, all_namespaces: bool, output: str, what: str) -> None:
    """Show the way from pods to ZooKeeper, and where it is stuck.

    Each hop says why it is as it is, and what to type.  It needs the right to read pods and RpcServices of
    one namespace, by default the context's.  ZooKeeper is asked only with --zk-servers.
    """
    from rpcregistry.commands.explain import explain_one
    from rpcregistry.kube.client import Kube

    kube = Kube.from_config(target.kubeconfig, target.context)
    namespace = "" if all_namespaces else (target.namespaces or (kube.namespace,))[0]
    given = click.get_current_context().get_parameter_source("zk_servers")
    asks = given is not click.core.ParameterSource.DEFAULT

    def compare(service: str) -> Sequence[Finding]:
        from rpcregistry.commands.verify import compared

        return compared(kube, target, scope_of(target), service, timeout)

    sys.exit(explain_one(kube, namespace, what, compare=compare if asks else None, output=output))


@command(
    "watch",
    examples=["rpcregistry watch -A", "rpcregistry watch com.acme.Orders -o json"],
    exit_codes={0: "done", 1: "interrupted", 2: "it could not look, or a flag is wrong"},
)
@places
@output_option("text", "json", text="json: one object a line.")
@quietly
@click.argument("services", nargs=-1, metavar="[SERVICE]…", shell_complete=SERVICES)
def watch(kube: "Kube", namespaces: tuple[str, ...], output: str, services: tuple[str, ...]) -> None:
    """Print a line for each change of a service, until interrupted.

    It follows RpcServices: addresses that came or went, and when ZooKeeper has them (Synced).
    """
    from rpcregistry.commands.watch import watch_services

    sys.exit(watch_services(kube, namespaces, services, output=output))


@command(
    "check",
    examples=["rpcregistry check --zk-servers zk1:2181", "rpcregistry check --wait 2m"],
    exit_codes={
        0: "everything is installed and runs",
        1: "something does not",
        2: "something could not be seen, or a flag is wrong",
    },
)
@target_options
@TIMEOUT
@LEASE_NAMESPACE
@click.option(
    "--wait", type=DURATION, default="0", help="How long to wait until all is well.  Default: not at all."
)
@output_option("text", "json", text="text: for people; json: for programs.")
@quietly
def check(target: Target, timeout: float, lease_namespace: str, wait: float, output: str) -> None:
    """Check that everything is installed and runs.

    It looks at the API server, the kinds, ZooKeeper, the Lease, the heartbeat, and versions.
    """
    from rpcregistry.commands.check import check as check_all
    from rpcregistry.kube.client import Kube

    kube = Kube.from_config(target.kubeconfig, target.context)
    code = check_all(kube, target, lease_namespace=lease_namespace, timeout=timeout, wait=wait, output=output)
    sys.exit(code)


@command(
    "verify",
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
    "--service",
    "only",
    multiple=True,
    metavar="NAME",
    shell_complete=SERVICES,
    help="Compare only this service (repeatable).  Default: all.",
)
@click.option(
    "-w", "--watch", "watching", is_flag=True, help="Go on, and print what differs when that changes."
)
@output_option("table", "json", text="table: lines, on a terminal in columns; json: one object.")
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
    only: tuple[str, ...],
    watching: bool,
    output: str,
    exit_on: tuple[str, ...],
) -> None:
    """Compare pods, RpcServices and znodes.

    Changes in progress are no findings: it looks twice, 5 seconds apart, and shows what it found twice.
    It writes nothing.  Give it the flags that the controllers run with.
    """
    from rpcregistry.commands.verify import verify_registry

    scope = scope_of(target, pod_label_selector, require_register_permission)
    code = verify_registry(
        target, scope, timeout=timeout, output=output, exit_on=exit_on, only=only, watching=watching
    )
    sys.exit(code)


@command(
    "render",
    examples=[
        "rpcregistry render deployment.yaml",
        "rpcregistry render --layout dubbo=/dubbo pod.yaml service.yaml",
        "kubectl get pods -o yaml | rpcregistry render -",
    ],
    exit_codes={
        0: "done",
        1: "an annotation is wrong, a layout refuses a service; with --strict: or something leads to nothing",
        2: "a flag or a file is wrong",
    },
)
@click.argument("files", nargs=-1, required=True, metavar="FILE…")
@LAYOUTS
@TEMPLATES
@output_option("yaml", "json", text="yaml: one document an object, then the znodes; json: one object.")
@click.option("--strict", is_flag=True, help="Exit with 1 also where something leads to nothing.")
@quietly
def render(
    files: tuple[str, ...], layouts: tuple[str, ...], templates: Templates, output: str, strict: bool
) -> None:
    """Show what manifests publish, offline.

    FILE is YAML or JSON with pods, workloads with a pod template, RpcServices or LocalServices; - is standard
    input.  It prints the RpcServices with their status, the Services for nodes, and the znodes.  Standard
    error says what is wrong, and warns of labels, keys and places that lead to nothing.
    """
    from rpcregistry.commands.render import render_files

    sys.exit(render_files(files, layouts_of(layouts, None, templates), output=output, strict=strict))


@command(
    "completion",
    examples=[
        "rpcregistry completion bash",
        "rpcregistry completion zsh",
        "rpcregistry completion fish",
    ],
    exit_codes={0: "done", 1: "it failed", 2: "there is none for this shell"},
)
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print a script by which a shell completes names.

    In bash: `source <(rpcregistry completion bash)`.  It completes commands, flags and names.
    Names of services and namespaces come from the cluster, if it answers within a moment.
    """
    click.echo(script(click.get_current_context().find_root().command, shell, "rpcregistry"))


@command(
    "ui",
    examples=["rpcregistry ui", "rpcregistry ui --port 8081 --no-browser", "rpcregistry ui --url URL"],
    exit_codes={
        0: "done, or interrupted",
        1: "nobody leads, or the port cannot be forwarded",
        2: "a flag is wrong",
    },
)
@KUBECONFIG
@CONTEXT
@LEASE_NAMESPACE
@click.option(
    "--url", default="", help="The address of a page that is reached without a port-forward: only open it."
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="The local port.  Default: any that is free."
)
@click.option(
    "--page-port",
    type=click.IntRange(1, 65535),
    default=8081,
    show_default=True,
    help="The port of --ui-bind-address in the pod.",
)
@click.option("--browser/--no-browser", default=True, show_default=True, help="Open a browser, too.")
@quietly
def ui(
    kubeconfig: str | None,
    context: str | None,
    lease_namespace: str,
    url: str,
    port: int,
    page_port: int,
    browser: bool,
) -> None:
    """Open the page of the controller that leads.

    `kubectl port-forward` leads to its pod, and to the next leader's if another one takes over.
    """
    from rpcregistry.commands.ui import open_url, show_page
    from rpcregistry.kube.client import Kube

    if url:
        open_url(url, browser)
        return
    flags = [
        f"--{name}={value}" for name, value in (("kubeconfig", kubeconfig), ("context", context)) if value
    ]
    kube = Kube.from_config(kubeconfig, context)
    code = show_page(
        kube, flags=flags, namespace=lease_namespace, port=port, page_port=page_port, browser=browser
    )
    sys.exit(code)


LOOKING = (status, get, explain, watch, check, verify, render, ui, completion)
