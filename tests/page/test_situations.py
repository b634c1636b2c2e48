"""What goes wrong is made for real, and understood from the page alone."""

import json
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from hack.local.http_proxy import Answer, HttpProxy, is_of
from tests.cluster.waiting import eventually
from tests.cluster.world import World
from tests.page.conftest import Served

pytestmark = pytest.mark.full


def test_what_others_change_is_marked_and_again_and_again_is_a_notice(
    world: World, start_page: Callable[..., Served], show: Callable[..., Page]
):
    wider = start_page("--layout", f"kube2zk={world.base}", "--layout", f"curator={world.base}-c")
    world.create_pod("p1", {"serviceName": "echo", "port": 80}, ip="10.0.0.1")
    world.apply_rpcservice("by-hand", selector={"matchLabels": {"app": "nobody"}})
    path, other = f"{world.base}/echo", f"{world.base}-c/echo"
    eventually(lambda: world.zk.exists(path) and world.zk.exists(other) and world.zk.get_children(other))
    wider.controller.stop()

    # A layout that no flag covers any more is left, and says so.
    served = start_page()
    page = show(served.url)
    left = page.locator("section.notice.info")
    expect(left).to_contain_text(f"1 layout left: curator={world.base}-c (1 service).")
    expect(page.locator(".hop").nth(2)).to_contain_text("1 layout left")

    row = page.get_by_role("row", name="echo")
    ours = world.data("echo")
    for count in (1, 2, 3):
        world.zk.set(path, b'{"servers":["10.66.0.1"]}')
        eventually(lambda: world.data("echo") == ours)
        # Each is one that the page has seen, so that three are not told as one.
        eventually(lambda n=count: len(changes(served, "repaired")) >= n)  # type: ignore[misc]
        eventually(lambda: not recent(served))
    expect(row.locator(".pill")).to_contain_text("Repaired")
    notice = page.locator("section.notice.warn")
    expect(notice).to_contain_text("Others change what clients read of echo again and again.")
    expect(notice).to_contain_text("rpcregistry verify --service echo")
    page.get_by_role("link", name="echo", exact=True).click()
    expect(page.locator(".title .pill").nth(1)).to_contain_text("Repaired")
    expect(page.locator(".tl")).to_contain_text("others had edited its znode in kube2zk")
    expect(page.locator(".head.wrap")).to_contain_text("read")

    # A service that is gone says what became of it.
    page.goto(f"{served.url}service?name=by-hand")
    expect(page.get_by_role("heading", level=1)).to_have_text("by-hand")
    world.delete_rpcservice("by-hand")
    expect(page.get_by_role("heading", level=1)).to_have_text("Deleted")
    expect(page.locator(".tl")).to_contain_text("its RpcService was deleted")


def changes(served: Served, kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = served.ask(f"api/changes?kind={kind}").json["changes"]
    return found


def recent(served: Served) -> bool:
    """Whether the last repair is so young that the next one counts as a part of it."""
    return time.time() - changes(served, "repaired")[0]["at"] < 1.0


def test_who_may_not_register_is_named_with_commands_that_help(
    cluster: Any, world: World, start_page: Callable[..., Served], show: Callable[..., Page]
):
    served = start_page("--require-register-permission", "--resync-period", "1s")
    world.create_pod("p1", "echo", ip="10.0.0.1")
    page = show(f"{served.url}rejected")
    table = page.get_by_role("group", name="ServiceAccounts that may not register")
    expect(table).to_contain_text(f"{world.namespace}/default")
    expect(table).to_contain_text("p1")
    expect(page.get_by_role("link", name="Rejected pods")).to_contain_text("1")
    for typed in table.locator("code").all_inner_texts():
        cluster.kubectl(*shlex.split(typed)[1:])
    expect(table).to_have_count(0)
    page.goto(served.url)
    expect(page.get_by_role("row", name="echo")).to_contain_text("1/1")


@pytest.mark.deep
def test_a_path_of_another_and_a_port_that_is_missing_say_so_in_their_rows(
    world: World,
    start_controller: Callable[..., Any],
    start_page: Callable[..., Served],
    show: Callable[..., Page],
):
    other = start_controller("--cluster-id", f"other-{world.namespace}")
    world.create_pod("p1", "echo", ip="10.0.0.1")
    eventually(lambda: world.servers("echo"))
    other.stop()
    served = start_page("--layout", f"kube2zk={world.base}", "--layout", f"dubbo={world.base}-d")
    world.create_pod("p2", "portless", ip="10.0.0.2")
    page = show(served.url)
    row = page.get_by_role("row", name="echo")
    expect(row).to_contain_text("Owned elsewhere")
    expect(row).to_contain_text("0 of 1")
    row = page.get_by_role("row", name="portless")
    expect(row).to_contain_text("Missing port")
    row.get_by_role("link").click()
    expect(page.get_by_role("group", name="Endpoints", exact=True)).to_contain_text("Not in dubbo:")
    expect(page.locator(".message")).to_contain_text("port")


@pytest.mark.deep
def test_what_cannot_be_read_is_unknown_and_not_gone(
    world: World,
    api: HttpProxy,
    through_api: Path,
    start_page: Callable[..., Served],
    show: Callable[..., Page],
):
    served = start_page(kubeconfig=through_api)
    world.create_pod("p1", "echo", ip="10.0.0.1")
    page = show(served.url)
    expect(page.get_by_role("row", name="echo")).to_contain_text("In sync")
    refused = {"kind": "Status", "status": "Failure", "code": 403, "reason": "Forbidden"}

    def instead(_: str, path: str) -> Answer | None:
        text = 'pods is forbidden: User "ann" cannot list resource "pods"'
        return (403, json.dumps({**refused, "message": text}).encode()) if is_of(path, "pods") else None

    api.instead = instead
    api.cut_watches("pods")
    notice = page.locator("section.notice.bad")
    expect(notice).to_contain_text(
        "The controller cannot read pods: nothing of that is published or withdrawn"
    )
    expect(notice).to_contain_text("kubectl auth can-i list pods -A --as ann")
    expect(page.locator(".hop.bad")).to_contain_text("as last read")
    expect(page.get_by_role("row", name="echo")).to_contain_text("1/1")
    other = show(f"{served.url}controller")
    expect(other.get_by_role("row", name="pods")).to_contain_text("refused")
    expect(other.get_by_role("row", name="nodes")).not_to_contain_text("refused")
    api.instead = lambda *_: None
    expect(notice).to_have_count(0)
