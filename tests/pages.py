"""The pages that people read, as tests see them: README, docs/ and the other Markdown of this repository."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token

TOP = Path(__file__).parents[1]
STEP = re.compile(r"^\$ (.*?)(?: +#.*)?\n((?:(?!\$ ).*\n)*)", re.MULTILINE)  # a command and its output
UNSEEN = re.compile(
    r"<!-- \$ (.*) -->"
)  # a command that is run before the block, and that readers do not see
FILE = re.compile(r"# ([\w.-]+\.yaml)\n")  # how a block begins that is a file


class Step(NamedTuple):
    """A command, and what a person sees of it."""

    command: str
    output: str = ""
    code: int = 0  # where a comment behind the command says "exit code N"


class Block(NamedTuple):
    """What stands below a heading: the *steps* of a console block, or a *file* and its text."""

    heading: str  # PATH#ANCHOR
    language: str
    text: str

    @property
    def steps(self) -> list[Step]:
        """What is run of it."""
        unseen = UNSEEN.match(self.text)
        if unseen:
            return [Step(unseen[1])]
        found = STEP.finditer(self.text) if self.language == "console" else ()
        return [Step(step[1], step[2], _code(step[0].partition("\n")[0])) for step in found]

    @property
    def file(self) -> str | None:
        """The name of the file that it is, if it is one."""
        found = FILE.match(self.text) if self.language == "yaml" else None
        return found[1] if found else None


def _code(line: str) -> int:
    """The exit code that a command's line promises.

    >>> _code("$ false    # exit code 1"), _code("$ true")
    (1, 0)
    """
    found = re.search(r"# .*\bexit code (\d+)", line)
    return int(found[1]) if found else 0


class Page:
    """One Markdown file; *path* is relative to the repository."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self._tokens = MarkdownIt().enable("table").parse((TOP / path).read_text())

    @cached_property
    def anchors(self) -> frozenset[str]:
        """What a link may have after its ``#``, as GitHub makes it of a heading."""
        return frozenset(self._slugs())

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """Its blocks of code and its comments, in order."""
        return tuple(
            Block(f"{self.path}#{slug}", token.info, token.content)
            for slug, (_, tokens) in zip(self._slugs(), self._sections(), strict=True)
            for token in tokens
            if token.type in ("fence", "code_block", "html_block")
        )

    @cached_property
    def links(self) -> tuple[str, ...]:
        """Where its links and pictures lead, in the order in which they stand."""
        targets = (token.attrGet("href") or token.attrGet("src") for token in self._inline())
        return tuple(str(target) for target in targets if target)

    @cached_property
    def code(self) -> tuple[str, ...]:
        """What stands between backticks in its text."""
        return tuple(token.content for token in self._inline() if token.type == "code_inline")

    def text(self, heading: str) -> str:
        """The text below a heading; empty if there is no such heading."""
        found = [tokens for title, tokens in self._sections() if title == heading]
        return " ".join(token.content for tokens in found for token in tokens if token.type == "inline")

    def first_column(self, heading: str) -> list[str]:
        """What stands between backticks in the first column of the tables below a heading."""
        rows = (
            tokens[number + 2]
            for title, tokens in self._sections()
            if title == heading
            for number, token in enumerate(tokens)
            if token.type == "tr_open"
        )
        return [code for row in rows for code in _codes(row)]

    def rows(self, heading: str) -> list[list[str]]:
        """What stands between backticks in each row of the tables below a heading."""
        rows: list[list[str]] = []
        tokens = [token for title, tokens in self._sections() if title == heading for token in tokens]
        for before, token in pairwise(tokens):
            if before.type == "tr_open":
                rows.append([])
            if before.type == "td_open":
                rows[-1] += _codes(token)
        return rows

    def shown(self, heading: str) -> list[tuple[str, str]]:
        """The commands of the console blocks below a heading, each with its output; never empty."""
        shown = [step for title, tokens in self._sections() if title == heading for step in _shown(tokens)]
        assert shown, f"{self.path} shows no commands below {heading!r}"
        return shown

    def commands(self, heading: str) -> list[str]:
        """What people type in the console blocks below a heading, without the comments; never empty."""
        return [command for command, _ in self.shown(heading)]

    def all_commands(self) -> list[str]:
        """What people type in all its console blocks."""
        return [command for command, _ in _shown(self._tokens)]

    def _inline(self) -> Iterator[Token]:
        for token in self._tokens:
            yield from token.children or ()

    def _slugs(self) -> Iterator[str]:
        seen: Counter[str] = Counter()
        for heading, _ in self._sections():
            slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
            yield f"{slug}-{seen[slug]}" if seen[slug] else slug
            seen[slug] += 1

    def _sections(self) -> Iterator[tuple[str, list[Token]]]:
        """Each heading, and what follows it up to the next."""
        starts = [n for n, token in enumerate(self._tokens) if token.type == "heading_open"]
        for start, end in zip(starts, [*starts[1:], len(self._tokens)], strict=True):
            title = "".join(child.content for child in self._tokens[start + 1].children or ())
            yield title, self._tokens[start + 3 : end]


def _codes(token: Token) -> list[str]:
    return [child.content for child in token.children or () if child.type == "code_inline"]


def _shown(tokens: Iterable[Token]) -> list[tuple[str, str]]:
    blocks = (token.content for token in tokens if token.type == "fence" and token.info == "console")
    return [step for block in blocks for step in STEP.findall(block)]


def pages() -> list[str]:
    """The paths of all pages."""
    found = [
        *TOP.glob("*.md"),
        *(path for top in ("deploy", "docs", "examples", "tests") for path in (TOP / top).rglob("*.md")),
    ]
    return sorted(str(path.relative_to(TOP)) for path in found)
