"""Markdown of generated pages."""

from collections.abc import Iterable, Sequence
from pathlib import Path

TOP = Path(__file__).parents[2]
FOLDER = TOP / "docs" / "reference"
MADE = "`python -m hack.reference` makes this page from the program.\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    r"""A table; line breaks and bars in its cells do no harm.

    >>> print(table(["a", "b"], [["x|y", ""]]), end="")
    | a | b |
    | --- | --- |
    | x\|y | |
    """
    lines = [head, ["---"] * len(head), *([_cell(cell) for cell in row] for row in rows)]
    return "".join(f"|{'|'.join(f' {cell} ' if cell else ' ' for cell in line)}|\n" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def fenced(lines: Iterable[str], language: str = "text") -> str:
    """A block of code."""
    return f"```{language}\n" + "".join(f"{line}\n" for line in lines) + "```\n"
