"""Completion in shells: scripts that bind it, and the names in a cluster, within a moment."""

from collections.abc import Callable, Sequence
from typing import Any

import click
from click.shell_completion import get_completion_class

from rpcregistry.errors import Failure
from rpcregistry.layouts import LAYOUTS

SHELLS = ("bash", "zsh", "fish")
PATIENCE = 0.3  # seconds to connect, and for the answer: nobody waits longer for a name
VARIABLE = "_RPCREGISTRY_COMPLETE"


def script(command: click.Command, shell: str, program: str) -> str:
    """The script that has *shell* complete *program*."""
    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"no completion for {shell}: choose from {', '.join(SHELLS)}")
    return found(command, {}, program, VARIABLE).source()


def candidates(command: click.Command, words: Sequence[str], incomplete: str) -> list[str]:
    """What may follow *words* of a command line."""
    found = get_completion_class("bash")
    if found is None:
        return []
    complete = found(command, {}, "rpcregistry", VARIABLE)
    return [item.value for item in complete.get_completions(list(words), incomplete)]


def _completes(names: Callable[[click.Context], Sequence[str]]) -> Callable[..., list[str]]:
    def complete(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
        try:
            return [name for name in sorted(set(names(context))) if name.startswith(incomplete)]
        except (Failure, OSError):
            return []  # a shell that cannot complete says nothing

    return complete


def _kube(context: click.Context) -> Any:
    from rpcregistry.kube.client import Kube
    from rpcregistry.kube.requests import Timeouts

    given = context.params
    timeouts = Timeouts(read=(PATIENCE, PATIENCE), body=PATIENCE)
    return Kube.from_config(given.get("kubeconfig"), given.get("context"), timeouts=timeouts)


def _services(context: click.Context) -> Sequence[str]:
    from rpcregistry.manifests import RPCSERVICES

    kube = _kube(context)
    everywhere = context.params.get("all_namespaces") or "all_namespaces" not in context.params
    given = context.params.get("namespaces") or context.params.get("namespace") or ()
    namespaces = [given] if isinstance(given, str) and given else list(given)
    if not namespaces and not everywhere:
        namespaces = [kube.namespace]
    return [
        service.service_name
        for namespace in namespaces or ("",)
        for service in kube.list(RPCSERVICES, namespace).items
    ]


def _namespaces(context: click.Context) -> Sequence[str]:
    import msgspec

    listed = msgspec.json.decode(_kube(context).read("list namespaces", "/api/v1/namespaces"))
    return [item["metadata"]["name"] for item in listed["items"]]


def _layouts(_: click.Context) -> Sequence[str]:
    return [f"{name}=/" for name in LAYOUTS]


SERVICES = _completes(_services)
NAMESPACES = _completes(_namespaces)
LAYOUT_NAMES = _completes(_layouts)
