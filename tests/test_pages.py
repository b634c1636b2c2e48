"""README, docs/ and ARCHITECTURE: each link leads somewhere, and what they name is there."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from rpcregistry.cli import KUBE2ZK_FLAGS, main, translate
from rpcregistry.layouts import LAYOUTS
from rpcregistry.plan.findings import DRIFT, NO_DRIFT
from tests.pages import TOP, Page, pages

PACKAGE = TOP / "controller" / "rpcregistry"
ARCHITECTURE = Page("ARCHITECTURE.md")
KIND = re.compile(r"(?:\w+\.)?(_?[A-Z]\w+)(?:\.(\w+))?")


def people_type() -> list[str]:
    """The pages that say what users type; decisions and the changelog tell of other times, too."""
    return [
        path
        for path in pages()
        if path == "README.md" or re.fullmatch(r"docs/((reference|layouts)/)?[^/]+", path)
    ]


def resolved(page: Page, link: str) -> tuple[Path, str]:
    """The file that a relative link of a page leads to, and the anchor in it."""
    path, _, anchor = link.partition("#")
    return ((TOP / page.path).parent / path if path else TOP / page.path).resolve(), anchor


def relative_links(page: Page) -> list[str]:
    return [link for link in page.links if not re.match(r"[a-z]+:", link)]


# Links


@pytest.mark.parametrize("path", pages())
def test_each_relative_link_leads_to_a_file_and_its_anchor_to_a_heading(path: str):
    page = Page(path)
    for link in relative_links(page):
        target, anchor = resolved(page, link)
        assert target.is_relative_to(TOP), link
        assert target.exists(), link
        if anchor:
            assert anchor in Page(str(target.relative_to(TOP))).anchors, link


def test_each_page_of_docs_can_be_reached_from_the_readme():
    reached, waiting = set(), ["README.md"]
    while waiting:
        path = waiting.pop()
        if path not in reached:
            reached.add(path)
            page = Page(path)
            targets = (resolved(page, link)[0] for link in relative_links(page))
            waiting += [str(target.relative_to(TOP)) for target in targets if target.suffix == ".md"]
    assert set(pages()) - reached == {"tests/golden/README.md"}


@pytest.mark.parametrize("folder", ["docs", "docs/decisions"])
def test_an_index_has_a_line_for_each_page_of_its_folder(folder: str):
    index = Page(f"{folder}/README.md")
    listed = {resolved(index, link)[0] for link in relative_links(index)}
    below = set(map(TOP.joinpath, pages()))
    assert {page for page in below if page.parent == TOP / folder} - listed == {TOP / index.path}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_has_a_page_with_its_flag_and_its_znodes(layout: str):
    page = Page(f"docs/layouts/{layout}.md")
    assert TOP / page.path in {
        resolved(Page("docs/layouts.md"), link)[0] for link in Page("docs/layouts.md").links
    }
    shown = [command for command, output in page.shown("What is written") if "znodes:" in output]
    assert [f"--layout {layout}=" in command for command in shown] == [True]


# What users type


@pytest.mark.parametrize("path", pages())
def test_what_people_type_stands_in_console_blocks(path: str):
    wrong = [block for block in Page(path).blocks if re.search(r"^\$ ", block.text, re.MULTILINE)]
    assert [block.heading for block in wrong if block.language != "console"] == []


@pytest.mark.parametrize("path", people_type())
def test_each_command_of_ours_that_a_page_shows_is_one_with_these_flags(path: str):
    page = Page(path)
    for shown in (*page.code, *page.all_commands()):
        words = shown.split()
        if words[:1] == ["rpcregistry"] and len(words) > 1:
            assert words[1] in main.commands, shown
            assert flags(shown) <= options(words[1]), shown
        elif shown.startswith("--"):
            assert flags(shown) <= set().union(*map(options, main.commands)), shown


@pytest.mark.parametrize("path", people_type())
def test_each_file_that_a_command_names_and_each_target_of_make_is_there(path: str):
    targets = re.findall(r"^([a-z-]+):", (TOP / "Makefile").read_text(), re.MULTILINE)
    files = {block.file for block in Page(path).blocks}
    for shown in (*Page(path).code, *Page(path).all_commands()):
        if made := re.match(r"make ([a-z-]+)", shown):
            assert made[1] in targets, shown
        for file in re.findall(r"-f (\S+)", shown):
            assert file in files or (TOP / file).exists(), shown


def flags(command: str) -> set[str]:
    return set(re.findall(r"(?<!\S)--[a-z0-9-]+", command))


def options(command: str) -> set[str]:
    found = {
        name for option in main.commands[command].params for name in (*option.opts, *option.secondary_opts)
    }
    return {*found, "--help"}


def test_the_page_on_moving_has_each_flag_of_kube2zk_with_what_it_means():
    rows = [codes for codes in Page("docs/migrate-from-kube2zk.md").rows("Flags") if codes]
    assert {theirs.lstrip("-") for theirs, *_ in rows} == KUBE2ZK_FLAGS.keys()
    for theirs, *others in rows:
        (translated,) = translate(["run", theirs])[1:]
        ours, *_, variable = [code for code in others if code.startswith(("--", "RPCREGISTRY_"))]
        assert {translated, ours.split()[0]} <= options("run"), theirs
        assert field(ours.split()[0]) == field(translated), theirs
        assert variable == f"RPCREGISTRY_{ours.split()[0].lstrip('-').upper().replace('-', '_')}", theirs


def field(flag: str) -> str:
    """What a flag of ``run`` says; ``--zkpath`` is a short way to say a layout."""
    (found,) = {option.name for option in main.commands["run"].params if flag in option.opts}
    return {"zkpath": "layouts"}.get(found, found)


def test_the_page_on_verify_has_its_states_and_which_of_them_are_no_drift():
    page = Page("docs/reference/verify.md")
    assert page.first_column("States") == [*DRIFT, *NO_DRIFT]


@pytest.mark.parametrize("path", ["docs/operate.md", "docs/reference/reasons-and-events.md"])
def test_each_reason_event_and_metric_that_a_page_names_is_one_of_the_programs(path: str):
    source = "".join(file.read_text() for file in PACKAGE.rglob("*.py"))
    named = [text for text in Page(path).code if re.fullmatch(r"[A-Z][a-z]+[A-Za-z]*|rpcregistry_\w+", text)]
    assert named
    for text in set(named) - {"False"}:
        # The library adds _total to a counter's name.
        assert re.search(rf"[\"']{text.removesuffix('_total')}[\"']", source), text


# ARCHITECTURE


def test_each_path_that_architecture_names_is_there():
    named = [
        text for text in ARCHITECTURE.code if re.fullmatch(r"[\w.*-]*(/[\w.*-]*)+", text) or ".py" in text
    ]
    named = [text for text in named if not text.startswith("/") and not re.search(r"\bX\.", text)]
    assert named
    for text in named:
        assert [*TOP.glob(text.rstrip("/")), *PACKAGE.glob(text.rstrip("/"))], text


def test_each_folder_that_architecture_says_to_add_a_file_to_is_there():
    named = [text for text in ARCHITECTURE.code if re.search(r"\bX\.", text)]
    assert named
    for text in named:
        assert (TOP / text).parent.is_dir() or (PACKAGE / text).parent.is_dir(), text


def test_architecture_has_each_room_and_no_other():
    rooms = {
        path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert set(ARCHITECTURE.first_column("The rooms")) == rooms - {"__init__", "__main__"}


def test_architecture_has_each_class_with_a_lock_and_no_other():
    named = [KIND.fullmatch(text) for text in ARCHITECTURE.first_column("Threads")]
    locked = {name for name, body in classes() if re.search(r"threading\.(R?Lock|Condition)\(", body)}
    owners = {"Registration"}  # of _Answers, which has the lock
    assert {name[1] for name in named if name} - owners == locked


def test_what_architecture_names_of_a_class_is_in_it():
    bodies = dict(classes())
    named = [found for text in ARCHITECTURE.code if (found := KIND.fullmatch(text)) and found[2]]
    assert named
    for name, member in (found.groups() for found in named):
        assert re.search(rf"\b{member}\b", bodies[name]), f"{name}.{member}"


def classes() -> Iterator[tuple[str, str]]:
    """The classes of the package, and their code."""
    for file in sorted(PACKAGE.rglob("*.py")):
        text = file.read_text()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef):
                yield node.name, ast.get_source_segment(text, node) or ""
