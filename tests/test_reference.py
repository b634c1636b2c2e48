"""The pages of ``docs/reference``: the generated ones are current, and no reason or Event is missing."""

import ast
from collections.abc import Iterator

import pytest

from hack.reference import PAGES
from hack.reference.http import ROUTES, served
from hack.reference.markdown import FOLDER
from rpcregistry.plan.conditions import REASONS
from tests.pages import TOP, Page

# Only the page shows these: no condition and no Event has them.
OF_THE_PAGE = {"NotLookedAt", "Waiting"}


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_current(name: str):
    assert (FOLDER / name).read_text() == PAGES[name](), "write it anew: python -m hack.reference"


def test_the_page_on_http_has_each_path_of_the_application():
    assert [*ROUTES] == sorted(served(), key=[*ROUTES].index)


def test_each_reason_and_each_event_of_the_program_is_on_its_page():
    page = Page("docs/reference/reasons-and-events.md")
    assert set(page.first_column("Synced of an RpcService")) == {*REASONS}
    assert set(said()) - OF_THE_PAGE - set(page.code) == set()


def said() -> Iterator[str]:
    """The reasons that the program gives in conditions and Events, where it writes them out."""
    for file in (TOP / "controller" / "rpcregistry").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Call(func=ast.Name(id="Problem"), args=[ast.Constant(value=str(reason)), *_]):
                    yield reason
                case ast.keyword(arg="reason", value=ast.Constant(value=str(reason))) if reason[:1].isupper():
                    yield reason
                case ast.Call(func=ast.Name(id="audit"), args=[_, _, ast.Constant(value=str(reason)), *_]):
                    yield reason
