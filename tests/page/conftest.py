"""The real cluster, the public command with its page, and a real browser."""

import http.client
import json
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import pytest
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from hack.local.binaries import Unavailable
from hack.local.chromium import chromium
from tests.cluster.conftest import cluster, namespace, zk
from tests.cluster.fixtures import (
    api,
    crds,
    pytest_runtest_makereport,
    start_controller,
    through_api,
    world,
)
from tests.cluster.waiting import PATIENCE, eventually
from tests.cluster.world import Controller

expect.set_options(timeout=1000 * PATIENCE)

# Fixtures and hooks are found by their names in here.
__all__ = [
    "api",
    "cluster",
    "crds",
    "namespace",
    "pytest_runtest_makereport",
    "start_controller",
    "through_api",
    "world",
    "zk",
]


class Answer(NamedTuple):
    """An answer of the page."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Served:
    """A controller's page, as programs see it."""

    def __init__(self, controller: Controller) -> None:
        self.controller = controller
        self.url = eventually(self._url)

    def _url(self) -> str:
        return next((line["url"] for line in self.controller.logged() if line["event"] == "the page"), "")

    def ask(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """The answer to a request; a header's name may have ``_`` for ``-``."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=30)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, f"/{path}", headers=sent)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, body)

    def row(self, name: str) -> dict[str, Any]:
        """The row of a service; empty if there is none."""
        found = self.ask(f"api/services?q={quote(name)}").json["services"]
        return next((row for row in found if row["name"] == name), {})


@pytest.fixture
def start_page(start_controller: Callable[..., Controller]) -> Callable[..., Served]:
    """Starts the public command with its page at any port."""

    def start(*flags: str, **options: Any) -> Served:
        return Served(start_controller("--ui-bind-address", "127.0.0.1:0", *flags, **options))

    return start


@pytest.fixture
def served(start_page: Callable[..., Served]) -> Served:
    """The page of a controller that leads."""
    return start_page()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, without a window."""
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    try:
        program = chromium()
    except Unavailable as error:
        pytest.skip(str(error))
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=str(program), args=sandbox)
        yield found
        found.close()


@pytest.fixture
def show(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens a page: no request may leave its origin, and nothing may go wrong in it."""
    opened: list[Page] = []
    wrong: list[str] = []

    def open_(url: str, **options: Any) -> Page:
        page = browser.new_page(**{"viewport": {"width": 1280, "height": 900}, **options})
        page.set_default_timeout(1000 * PATIENCE)
        opened.append(page)
        origin = urlsplit(url).netloc

        def leave(route: Route) -> None:
            wrong.append(f"a request left the origin: {route.request.url}")
            route.abort()

        page.route(lambda asked: urlsplit(asked).netloc != origin, leave)
        page.on("pageerror", lambda error: wrong.append(f"an error: {error}"))
        page.on("dialog", lambda dialog: wrong.append(f"a dialog: {dialog.message}"))
        page.goto(url)
        page.locator("main h1").wait_for()
        return page

    yield open_
    for page in opened:
        page.close()
    assert not wrong
