"""A thousand services in a real browser, and many who look at once."""

import http.client
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.cluster.waiting import PATIENCE, eventually
from tests.cluster.world import World
from tests.page.conftest import Served

pytestmark = pytest.mark.full

A_POD = 25  # services that one pod serves
A_SERVICE = 10  # pods
WRITERS = 8
LONG = 300.0  # seconds, at most
STREAMS = 20
STOPS_WITHIN = 5.0  # seconds, as is promised of SIGTERM


def create(world: World, services: int) -> None:
    """Create *services* with ``A_SERVICE`` Ready pods each, and one of which nobody is Ready."""
    groups = [range(first, first + A_POD) for first in range(0, services, A_POD)]

    def pod(number: int) -> None:
        group, one = divmod(number, A_SERVICE)
        names = [f"com.acme.s{n:04}" for n in groups[group]]
        world.create_pod(f"p{group:02}-{one}", *names, ip=f"10.{group}.0.{one + 1}")

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(pod, range(len(groups) * A_SERVICE)))
    world.create_pod("sick", "zz.last", ip="10.99.0.1", ready=False)


@pytest.mark.parametrize("services", [250, 1000])
def test_many_services_are_searched_and_come_200_at_a_time(
    world: World, start_page: Callable[..., Served], show: Callable[..., Page], services: int
):
    create(world, services)
    served = start_page()
    sizes: dict[str, int] = {}
    eventually(lambda: served.ask("api/state").json["counts"]["written"] == services * A_SERVICE, LONG)
    page = show(served.url)
    page.on(
        "response", lambda answer: sizes.update({answer.url: int(answer.headers.get("content-length", 0))})
    )
    rows = page.locator("tbody tr")
    shown = page.locator(".foot [role=status]")

    # All are counted, and the one that needs a look is first, though it is the last by name.
    expect(page.locator(".titleline")).to_contain_text(f"1 of {services + 1:,} needs a look")
    expect(page.locator(".hop").nth(2)).to_contain_text(f"{services * A_SERVICE:,} written")
    expect(rows.first).to_contain_text("zz.last")
    for seen in range(200, min(services, 1_000), 200):
        expect(rows).to_have_count(seen)
        expect(shown).to_have_text(f"1\u2013{seen} of {services + 1:,}")
        page.get_by_role("button", name="Show 200 more").click()
    expect(rows).to_have_count(min(services + 1, 1_000))
    # Nothing offers rows that no answer has.
    expect(page.get_by_role("button", name="Show 200 more")).to_have_count(0)
    expect(page.get_by_text("Search to see others")).to_have_count(int(services >= 1_000))

    # By an address, a pod and a name: those that have it, and no others.
    for text, found in [("10.3.0.7", A_POD), ("p03-6", A_POD), ("acme.s0104", 1), ("zz.", 1)]:
        page.get_by_role("searchbox").fill(text)
        expect(rows).to_have_count(found)
    page.get_by_role("searchbox").fill("acme.s0104")
    page.get_by_role("link", name="com.acme.s0104").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("com.acme.s0104")
    expect(page.locator("tbody").first.locator("tr")).to_have_count(A_SERVICE)

    # A change far down leaves what is read in its place.
    page.go_back()
    expect(page.get_by_role("searchbox")).to_have_value("acme.s0104")
    page.get_by_role("searchbox").fill("")
    expect(rows).to_have_count(200)
    page.evaluate("scrollTo(0, document.body.scrollHeight / 2)")
    before = rows.locator("a").all_inner_texts()
    world.set_status("p00-0", "10.0.0.1", ready=False)
    expect(rows.filter(has_text="9/10")).to_have_count(A_POD)
    assert rows.locator("a").all_inner_texts() == before
    assert max(sizes.values()) < 40_000


def test_ten_tabs_of_one_browser_all_follow(world: World, served: Served, browser: Browser):
    world.create_pod("p1", "echo", ip="10.0.0.1")
    window = browser.new_context()
    window.set_default_timeout(1000 * PATIENCE)
    asked: list[str] = []
    window.on("request", lambda request: asked.append(request.url))
    tabs = [window.new_page() for _ in range(10)]
    try:
        for tab in tabs:
            tab.goto(served.url)
            expect(tab.get_by_role("row", name="echo")).to_contain_text("1/1")
        assert len([url for url in asked if url.endswith("api/stream")]) == 1
        world.create_pod("p2", "echo", ip="10.0.0.2")
        for tab in tabs:
            expect(tab.get_by_role("row", name="echo")).to_contain_text("2/2")
        # Another tab takes the stream over from one that is closed.
        tabs.pop(0).close()
        eventually(lambda: tabs[0].title() and len([u for u in asked if u.endswith("api/stream")]) == 2)
        world.delete_pod("p2")
        for tab in tabs:
            expect(tab.get_by_role("row", name="echo")).to_contain_text("1/1")
    finally:
        window.close()


def test_open_streams_say_look_and_keep_nothing_from_its_end(world: World, served: Served):
    streams: list[Any] = []
    for _ in range(STREAMS):
        connection = http.client.HTTPConnection(urlsplit(served.url).netloc, timeout=PATIENCE)
        connection.request("GET", "/api/stream")
        streams.append(connection.getresponse())
    assert {stream.readline() for stream in streams} == {b"retry: 2000\n"}
    world.create_pod("p1", "echo", ip="10.0.0.1")
    for stream in streams:
        assert eventually(lambda stream=stream: stream.readline() == b"event: changed\n")  # type: ignore[misc]
    served.controller.signal(signal.SIGTERM)
    assert served.controller.wait(STOPS_WITHIN) == 0
    assert "Traceback" not in served.controller.text()
