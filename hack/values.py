"""The values of a chart with what their comments say: a row for each value that has no values of its own."""

from collections.abc import Iterator
from typing import NamedTuple

import yaml
from yaml.nodes import MappingNode, Node


class Value(NamedTuple):
    """A value: its keys joined by dots, its default as YAML, and the comment above it."""

    name: str
    default: str
    text: str


def documented(text: str) -> list[Value]:
    """The values of a ``values.yaml``, in its order.

    The comment of a value stands above it.  A mapping that has a comment of its own is one value.

    >>> documented("{image: {tag: a}}")
    [Value(name='image.tag', default='a', text='')]
    """
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(node, MappingNode)
    return list(_values(node, text.splitlines(), ""))


def table(values: list[Value]) -> str:
    """A Markdown table of the values."""
    rows = (
        f"| `{name}` | `{default}` | {text} |\n".replace("…|", "…\\\\|") for name, default, text in values
    )
    return "| value | default | what it is |\n| --- | --- | --- |\n" + "".join(rows)


def _values(node: MappingNode, lines: list[str], prefix: str) -> Iterator[Value]:
    for key, value in node.value:
        name, comment = f"{prefix}{key.value}", _above(lines, key.start_mark.line)
        if isinstance(value, MappingNode) and value.value and not comment:
            yield from _values(value, lines, f"{name}.")
        else:
            yield Value(name, _default(value), comment)


def _above(lines: list[str], number: int) -> str:
    """The comment that ends above line *number*."""
    begin = number
    while begin and lines[begin - 1].lstrip().startswith("# "):
        begin -= 1
    return " ".join(line.strip().removeprefix("# ") for line in lines[begin:number])


def _default(node: Node) -> str:
    value = yaml.safe_load(yaml.serialize(node))
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("...\n").strip()
