"""The page in a real browser, against the real cluster: what a person sees of each situation."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from hack.local.http_proxy import Answer, HttpProxy, error_event, is_list, is_of, is_watch, without_items
from hack.local.proxy import Proxy
from tests.cluster.waiting import eventually
from tests.cluster.world import World
from tests.page.below import Below
from tests.page.conftest import Served

pytestmark = pytest.mark.full

HOSTILE = {
    "x": "<img src=x onerror=alert(1)>",
    "y": "</script><script>alert(2)</script>",
    "z": "javascript:alert(3)",
}
SCREENS = (
    "",
    "service?name=echo",
    "local",
    "localservice?namespace={}&name=app",
    "rejected",
    "changes",
    "controller",
)
LOOKS = [(1280, "light"), (1280, "dark"), (320, "light")]


def test_a_pod_comes_and_goes(world: World, served: Served, show: Callable[..., Page]):
    page = show(served.url)
    expect(page.get_by_role("heading", name="No pod says yet what it serves")).to_be_visible()
    world.create_pod("p1", "com.acme.Echo", ip="10.0.0.1")
    world.create_pod("p2", "com.acme.Echo", "other", ip="10.0.0.2")
    row = page.get_by_role("row", name="com.acme.Echo")
    expect(row).to_contain_text("2/2")
    expect(row).to_contain_text("In sync")
    expect(page.locator(".hop").nth(2)).to_contain_text("3 written")

    # Filters are in the address: a reload keeps them, and so does Back.
    page.keyboard.press("/")
    page.keyboard.type("10.0.0.9")
    expect(page.get_by_role("heading", name="No service, pod, node or address contains")).to_be_visible()
    page.reload()
    expect(page.get_by_role("searchbox")).to_have_value("10.0.0.9")
    page.get_by_role("button", name="Clear").click()
    expect(page.get_by_role("status").filter(has_text="2 services")).to_be_visible()

    # By keys alone: to the second row and into it.
    page.keyboard.press("Escape")
    for key in ("j", "j"):
        page.keyboard.press(key)
    expect(page.get_by_role("link", name="other")).to_be_focused()
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("com.acme.Echo")
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    expect(page).to_have_title("com.acme.Echo · rpcregistry")
    expect(page.locator(".diff")).to_contain_text('"10.0.0.1"')

    world.delete_pod("p1")
    expect(page.locator(".tl")).to_contain_text("10.0.0.1 p1 ended")
    page.keyboard.press("g")
    page.keyboard.press("c")
    expect(page.get_by_role("table")).to_contain_text("+ 10.0.0.1 p1 is Ready")
    page.go_back()
    expect(page.get_by_role("heading", level=1)).to_have_text("com.acme.Echo")
    page.goto(f"{served.url}service?name=com.acme.Ech")
    expect(page.get_by_role("heading", name="Not found")).to_be_visible()


def lack(api: HttpProxy, resource: str) -> None:
    """Break the watch of *resource*, and empty each LIST from now on."""
    broken: list[str] = []

    def instead(_: str, path: str) -> Answer | None:
        if broken or not (is_watch(path) and is_of(path, resource)):
            return None
        broken.append(path)
        return error_event(410, "Expired")

    def rewrite(method: str, path: str, status: int, body: bytes) -> Answer:
        return status, without_items(body) if is_list(method, path, resource) else body

    api.instead, api.rewrite = instead, rewrite
    api.cut_watches(resource)


def test_what_is_held_says_until_when_and_what_to_type(
    world: World,
    api: HttpProxy,
    through_api: Path,
    start_page: Callable[..., Served],
    show: Callable[..., Page],
):
    served = start_page("--guard-confirm", "10m", kubeconfig=through_api)
    for number in range(1, 7):
        world.create_pod(f"p{number}", "echo", ip=f"10.0.0.{number}")
    eventually(lambda: served.row("echo").get("found") == 6)
    page = show(served.url)
    expect(page.get_by_role("row", name="echo")).to_contain_text("6/6")
    lack(api, "pods")
    notice = page.locator("section.notice.hold")
    expect(notice).to_contain_text("6 endpoints of 1 service held, and still published.")
    expect(notice).to_contain_text("rpcregistry release echo")
    expect(notice.locator(".clock")).to_contain_text("min left")
    row = page.get_by_role("row", name="echo")
    expect(row).to_contain_text("0/6 +6 held")
    expect(row).to_contain_text("Held")
    expect(page.locator(".hop").nth(2)).to_contain_text("6 written")
    expect(page.get_by_role("button", name="Held 1")).to_be_visible()


def test_a_zookeeper_that_is_away_is_a_banner_until_it_is_back(
    cluster: Any, world: World, start_page: Callable[..., Served], show: Callable[..., Page]
):
    with Proxy(cluster.zk_servers) as proxy:
        served = start_page("--zk-servers", proxy.address)
        world.create_pod("p1", "echo", ip="10.0.0.1")
        page = show(served.url)
        expect(page.get_by_role("row", name="echo")).to_contain_text("In sync")
        proxy.close()
        notice = page.locator("section.notice.bad")
        expect(notice).to_contain_text("ZooKeeper is away. Nothing is withdrawn")
        expect(page.locator(".hop.bad")).to_contain_text("Not connected")
        expect(page.locator(".link.bad")).to_contain_text("cut")
        world.create_pod("p2", "echo", ip="10.0.0.2")
        expect(page.get_by_role("row", name="echo")).to_contain_text("Waiting")
        page.get_by_role("link", name="echo", exact=True).click()
        expect(page.get_by_role("row", name="10.0.0.2")).to_contain_text("Not yet: it waits for ZooKeeper")
        expect(page.get_by_role("row", name="10.0.0.1")).to_contain_text("Published")
        page.goto(served.url)
        proxy.pass_through()
        expect(notice).to_have_count(0)
        expect(page.get_by_role("row", name="echo")).to_contain_text("2/2")


def test_a_follower_says_so(world: World, start_page: Callable[..., Served], show: Callable[..., Page]):
    start_page(leader_elect=True)
    world.create_pod("p1", "echo", ip="10.0.0.1")
    follower = start_page(leader_elect=True, wait=False)
    page = show(follower.url)
    expect(page.locator("section.notice.info")).to_contain_text(
        "This replica is waiting to lead. The leader is "
    )
    expect(page.get_by_role("row", name="echo")).to_contain_text("1/1")
    expect(page.locator(".hop").nth(2)).to_contain_text("Not looked at")


def test_hostile_text_stays_text(world: World, served: Served, show: Callable[..., Page]):
    entry = {"serviceName": "echo", "version": "<b>v1</b>", "metadata": HOSTILE}
    world.create_pod("p1", entry, ip="10.0.0.1")
    world.create_pod("p2", annotation='[{"serviceName": "<script>alert(4)</script>"}]', ip="10.0.0.2")
    eventually(lambda: served.row("echo").get("found"))
    other = f"{world.base}/foreign"
    world.zk.create(other, b"\xff<script>alert(5)</script>", makepath=True)
    page = show(f"{served.url}service?name=echo")
    expect(page.get_by_role("table").first).to_contain_text(HOSTILE["x"])
    expect(page.get_by_role("table").first).to_contain_text("<b>v1</b>")
    page.get_by_role("link", name="Rejected pods").click()
    expect(page.get_by_role("table")).to_contain_text("<script>alert(4)</script>")
    assert page.locator("main img, main script, main b").count() == 0
    assert page.evaluate("document.querySelectorAll('a[href^=\"javascript\"]').length") == 0


def test_everybody_can_read_every_screen(world: World, served: Served, show: Callable[..., Page]):
    world.create_node(f"{world.namespace}-n1")
    world.create_localservice()
    world.create_pod("p1", "echo", ip="10.0.0.1")
    world.create_pod("p2", "echo", ip="10.0.0.2", ready=False)
    world.create_pod("p3", annotation=json.dumps([{"serviceName": "echo", "port": 99999}]), ip="10.0.0.3")
    eventually(lambda: served.row("echo").get("found"))
    eventually(lambda: served.ask(f"api/localservices/{world.namespace}/app").json.get("nodes"))
    found = []
    for width, colours in LOOKS:
        page = show(served.url, viewport={"width": width, "height": 900}, color_scheme=colours)
        for screen in SCREENS:
            page.goto(served.url + screen.format(world.namespace))
            page.locator("main h1").wait_for()
            expect(page.locator("[aria-busy]")).to_have_count(0)
            for violation in Axe().run(page).response["violations"]:
                nodes = [node["html"][:120] for node in violation["nodes"][:3]]
                found.append((screen, width, colours, violation["id"], nodes))
            if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                found.append((screen, width, colours, "scrolls sideways", []))
    assert found == []


def test_it_works_below_a_path_and_without_a_stream(world: World, served: Served, show: Callable[..., Page]):
    world.create_pod("p1", "echo", ip="10.0.0.1")
    with Below(served.url, "/x/y/", refuse="api/stream") as url:
        page = show(url)
        page.get_by_role("link", name="echo").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("echo")
        page.reload()
        expect(page.get_by_role("heading", level=1)).to_have_text("echo")
        world.create_pod("p2", "echo", ip="10.0.0.2")
        expect(page.locator(".diff")).to_contain_text('"10.0.0.2"')


def test_a_controller_that_ends_leaves_its_last_answer_and_says_so(served: Served, show: Callable[..., Page]):
    page = show(served.url)
    expect(page.locator(".hop").first).to_contain_text("Pods")  # it had an answer
    served.controller.kill()
    expect(page.locator(".live.off")).to_contain_text("Last answer")
    expect(page.get_by_role("heading", level=1)).to_have_text("Services")


def test_without_javascript_it_names_the_commands(served: Served, browser: Any):
    page = browser.new_page(java_script_enabled=False)
    page.goto(served.url)
    expect(page.locator("noscript code").first).to_have_text("kubectl get rpcservices -A")
    page.close()
