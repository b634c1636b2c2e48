"""What ``--help`` prints: options in groups with variables, examples, exit codes; and all flags as given."""

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any

import click
from click.core import ParameterSource

from rpcregistry.settings import Shown

ENVIRONMENT = {"auto_envvar_prefix": "RPCREGISTRY"}  # the same variables for every command

# The groups of options, in their order; what is in none comes first.
GROUPS: Mapping[str, Sequence[str]] = {
    "Cluster": (
        "kubeconfig", "context", "namespaces", "namespace", "all_namespaces", "pod_label_selector",
        "controllers",
    ),
    "ZooKeeper": (
        "zk_servers", "zk_auth_file", "zk_auth_scheme", "zk_acl", "zk_tls_ca", "zk_tls_cert", "zk_tls_key",
        "timeout",
    ),
    "What to publish where": (
        "layouts", "templates", "cluster_id", "from_cluster", "cross_namespace", "adopt", "max_znode_bytes",
        "node_label", "generated_labels", "endpoints_per_object", "services_per_namespace",
    ),
    "Safety": (
        "policy", "guard_confirm", "ownership_grace", "require_register_permission", "dry_run", "once",
    ),
    "Leader election": ("leader_elect", "lease_namespace"),
    "Tuning": ("batch_window", "resync_period", "compare_period"),
    "The page": ("ui_bind_address", "ui_hosts", "ui_auth", "ui_insecure"),
    "Metrics and logs": ("bind_address", "log_format", "log_level", "verbose"),
}  # fmt: skip
SHORTEST_GROUP = 12  # options; a shorter help is one list


class Command(click.Command):
    """A subcommand.  Its help names the variable of each option, and ends with examples and exit codes."""

    def __init__(
        self, *args: Any, examples: Sequence[str], exit_codes: Mapping[int, str], **options: Any
    ) -> None:
        super().__init__(*args, **{**options, "context_settings": dict(ENVIRONMENT)})
        self.examples = examples
        self.exit_codes = exit_codes
        for parameter in self.params:
            if isinstance(parameter, click.Option):
                parameter.show_envvar = True

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, in groups if they are many."""
        records: dict[str, list[tuple[str, str]]] = {"Options": []}
        params = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        grouped = len(params) >= SHORTEST_GROUP
        for title, names in GROUPS.items() if grouped else ():
            for param in params:
                record = param.get_help_record(ctx) if param.name in names else None
                if record:
                    records.setdefault(title, []).append(record)
        known = {name for names in GROUPS.values() for name in names} if grouped else set()
        for param in params:
            record = param.get_help_record(ctx) if param.name not in known else None
            if record:
                records["Options"].append(record)
        for title, found in records.items():
            if found:
                with formatter.section(title):
                    formatter.write_dl(found)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, one a line at any width of the terminal, and the exit codes."""
        with formatter.section("Examples"):
            for example in self.examples:
                formatter.write(f"  {example}\n")
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), meaning) for code, meaning in self.exit_codes.items()])


class Group(click.Group):
    """The commands in the order in which they were added, each with the whole first sentence of its help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in order."""
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a line a command."""
        shown = [(name, one.get_short_help_str(limit=200)) for name, one in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl(shown)


def command(name: str, **options: Any) -> Callable[[Callable[..., Any]], Command]:
    """Make a subcommand of a function; *options*: of ``Command``."""
    return click.command(name, cls=Command, **options)


def shown(context: click.Context) -> tuple[Shown, ...]:
    """All flags of a command as they were given; a file's name is shown, and not what it holds."""
    found = []
    for parameter in context.command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden and parameter.name:
            source = context.get_parameter_source(parameter.name)
            found.append(Shown(parameter.opts[-1], *_given(parameter, source, context)))
    return tuple(found)


def _given(option: click.Option, source: ParameterSource | None, context: click.Context) -> tuple[str, str]:
    """The value of an option as text, and whether the flag, a variable or the default gave it."""
    if source is ParameterSource.ENVIRONMENT:
        return str(option.resolve_envvar_value(context) or ""), "environment"
    if source is ParameterSource.COMMANDLINE:
        return _text(context.params.get(option.name or "")), "flag"
    return _text(option.get_default(context)), "default"


def _text(value: Any) -> str:
    """A parsed value as text.

    >>> _text(0.1), _text(("a", "b")), _text({"team": "shop"}), _text(None), _text(True)
    ('0.1s', 'a b', 'team=shop', '', 'true')
    """
    match value:
        case str() | int() if not isinstance(value, bool):
            return str(value)
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}s"
        case Enum(value=str(name)):
            return name
        case Mapping():
            return ",".join(f"{key}={each}" for key, each in value.items())
        case (str(name), other) if not isinstance(other, str):
            return name  # a template and its contents
        case tuple() | list():
            return " ".join(map(_text, value))
        case _:
            return ""
