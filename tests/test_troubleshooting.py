"""docs/troubleshooting.md: each text that it quotes is still one that the program says."""

import ast
import re
from collections.abc import Iterator
from functools import cache

import pytest

from tests.pages import TOP, Page

PAGE = Page("docs/troubleshooting.md")
PACKAGE = TOP / "controller" / "rpcregistry"
SYMPTOMS = [
    "My pod is not published",
    "A pod that is gone is still published",
    "It says Held",
    "SYNCED is False",
    "The controller does not start, or does not become Ready",
    "ZooKeeper",
    "A command says",
    "LocalServices",
]
QUOTES = [quote for heading in SYMPTOMS for quote in PAGE.first_column(heading)]
COMMANDS = {"rpcregistry verify"}  # say where a text stands


@cache
def said() -> tuple[str, ...]:
    """All texts in the package's code, those with values in them with ``…`` for each."""
    trees = [ast.parse(file.read_text()) for file in sorted(PACKAGE.rglob("*.py"))]
    return tuple(re.sub(r"\s+", " ", text) for tree in trees for text in _texts(tree))


def _texts(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
            yield re.sub(r"\{\w+\}", "…", "".join(map(str, parts)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.sub(r"\{\w*\}", "…", node.value)


@pytest.mark.parametrize("quote", [quote for quote in QUOTES if quote not in COMMANDS])
def test_each_text_that_the_page_quotes_is_one_that_the_program_says(quote: str):
    """A message is made of several texts at times, so each piece between two ``…`` is looked for."""
    pieces = [piece.strip() for piece in quote.split("…") if re.search(r"\w", piece)]
    assert pieces
    missing = [piece for piece in pieces if not any(piece in text for text in said())]
    assert not missing, f"no text of the program has {missing}"


def test_each_row_with_a_symptom_says_what_to_do():
    for heading in SYMPTOMS:
        assert PAGE.rows(heading), heading
