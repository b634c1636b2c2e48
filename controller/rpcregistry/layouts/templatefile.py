"""Template files: YAML, with messages that show the line."""

import yaml

from rpcregistry.layouts.forms import PerEndpoint
from rpcregistry.layouts.template import Path, Wrong, layout

# What PyYAML lets through, for "!!bool x", "!!timestamp x", "2026-99-99" or ten thousand brackets.
_UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)


def load(text: str) -> PerEndpoint:
    r"""The layout that a file with this *text* describes; ``ValueError`` says what is wrong in which line.

    >>> load("name: ${id}\nprotocol: 7")
    Traceback (most recent call last):
    ValueError: line 2 (protocol: 7): protocol: 7 is no text
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        says = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line if mark else 0
        message = f"no YAML: {error.problem or error}{_hint(text, line)}"
        raise ValueError(_shown(text, line, message)) from error
    except (yaml.YAMLError, *_UNREADABLE) as error:
        raise ValueError(f"no YAML: {' '.join(str(error).split())}") from error
    try:
        return layout(says)
    except Wrong as wrong:
        raise ValueError(_shown(text, _line(root, wrong.path), str(wrong))) from wrong


def _shown(text: str, line: int, message: str) -> str:
    return f"line {line + 1} ({_text_of(text, line)}): {message}"


def _hint(text: str, line: int) -> str:
    quote = '; between { } and [ ] quote each placeholder: "${port}"'
    return quote if "${" in _text_of(text, line) else ""


def _text_of(text: str, line: int) -> str:
    lines = text.split("\n")  # as YAML counts them, but for rarer ends of lines
    return lines[min(line, len(lines) - 1)].strip()


def _line(node: yaml.Node | None, path: Path) -> int:
    """The line of the value at *path*, or of the innermost one around it that there is."""
    line = 0
    for step in path:
        found: yaml.Node | None = None
        match node:
            case yaml.MappingNode():
                for key, value in node.value:
                    if key.value == step:
                        line, found = key.start_mark.line, value
            case yaml.SequenceNode() if isinstance(step, int) and step < len(node.value):
                found = node.value[step]
                line = found.start_mark.line
        node = found
    return line
