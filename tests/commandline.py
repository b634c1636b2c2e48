"""Command lines, as the program takes them."""

from typing import Any

from rpcregistry.cli import main, translate


def parsed(*arguments: str) -> dict[str, Any]:
    """What a command would be called with."""
    command, *rest = translate(arguments)
    return main.commands[command].make_context(command, rest).params
