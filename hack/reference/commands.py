"""The commands: flags with variables and defaults, examples, exit codes."""

import re
from collections.abc import Iterator, Sequence

import click

from hack.reference.markdown import MADE, fenced, table
from rpcregistry.cli import main
from rpcregistry.usage import GROUPS, Command


def page() -> str:
    """The page."""
    context = click.Context(main, info_name="rpcregistry")
    commands = [command for command in main.commands.values() if isinstance(command, Command)]
    links = "".join(
        f"- [`{one.name}`](#rpcregistry-{one.name}): {one.get_short_help_str(200)}\n" for one in commands
    )
    parts = (
        _command(command, click.Context(command, context, command.name, **command.context_settings))
        for command in commands
    )
    return f"# Commands\n\n{MADE}\n{links}\n" + "\n".join(parts)


def _command(command: Command, context: click.Context) -> str:
    usage = command.get_usage(context).removeprefix("Usage: ")
    options = [option for option in command.params if isinstance(option, click.Option) and not option.hidden]
    return "\n".join([
        f"## rpcregistry {command.name}\n",
        f"`{' '.join(usage.split())}`\n",
        _prose(command.help or "") + "\n",
        *(
            (f"**{title}**\n\n" if title else "") + table(["flag", "variable", "default", ""], rows)
            for title, rows in _grouped(options, context)
        ),
        "**Examples**\n",
        fenced(command.examples),
        table(["exit code", "meaning"], ([f"{code}", text] for code, text in command.exit_codes.items())),
    ])  # fmt: skip


def _grouped(
    options: Sequence[click.Option], context: click.Context
) -> Iterator[tuple[str, list[Sequence[str]]]]:
    """The options by the groups of ``--help``; first those that are in none."""
    known = {name for names in GROUPS.values() for name in names}
    groups = {"": [option for option in options if option.name not in known]}
    groups |= {
        title: [option for option in options if option.name in names] for title, names in GROUPS.items()
    }
    for title, found in groups.items():
        if found:
            yield title, [_row(option, context) for option in found]


def _row(option: click.Option, context: click.Context) -> Sequence[str]:
    extra = option.get_help_extra(context)
    flags = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    metavar = "" if option.is_flag else f" `{option.make_metavar(context)}`"
    variables = ", ".join(f"`{name}`" for name in extra.get("envvars", ()))
    default = extra.get("default", "")
    bounds = f" ({extra['range']})" if "range" in extra else ""
    return [flags + metavar, variables, f"`{default}`" if default else "", _prose(option.help or "") + bounds]


def _prose(text: str) -> str:
    """A help text as Markdown: its flags and placeholders as code, one space after a sentence."""
    text = re.sub(r"(?<=\.)  +", " ", text.replace("\b", ""))
    text = re.sub(r"(?<![\w`-])(--?[a-z][\w-]*(?:=[\w./:]+)?)", r"`\1`", text)
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))
