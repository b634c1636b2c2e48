"""Pictures of each screen for people to look at, at three widths, in both colours: in ``build/pictures``."""

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from hack.local.http_proxy import HttpProxy
from hack.local.proxy import Proxy
from tests.cluster.waiting import eventually
from tests.cluster.world import World
from tests.page.conftest import Served
from tests.page.test_browser import lack

pytestmark = [pytest.mark.full, pytest.mark.deep]

PICTURES = Path(__file__).parents[2] / "build" / "pictures"
WIDTHS = {320: 640, 1280: 900, 2560: 1440}  # and heights
COLOURS = ("light", "dark")
PRICE = "com.acme.catalog.PriceService"
SCREENS = {
    "services": "",
    "service": f"service?name={PRICE}",
    "local": "local",
    "localservice": "localservice?namespace={}&name=app",
    "rejected": "rejected",
    "changes": "changes",
    "controller": "controller",
}
FLEET = {
    "auth.TokenService": 4,
    "auth.UserService": 4,
    "billing.InvoiceService": 3,
    "geo.AddressService": 2,
    "ledger.LedgerService": 2,
    "orders.CartService": 3,
    "orders.OrderService": 5,
    "search.IndexService": 3,
}


@pytest.fixture
def namespace(cluster: Any) -> Iterator[str]:
    """A namespace whose name fits what is in it."""
    name = f"shop-{uuid.uuid4().hex[:6]}"
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


def fill(world: World) -> None:
    """Create what a shop may have: most of it well, something of each kind not."""
    for number in range(1, 9):
        world.create_node(f"{world.namespace[-6:]}-k{number}")
    nodes = sorted(f"{world.namespace[-6:]}-k{number}" for number in range(1, 9))
    world.create_localservice()
    for number in range(1, 8):
        entry = {"serviceName": PRICE, "version": "v2", "port": 20880, "weight": 100}
        name, node = f"catalog-7f6c9-{number}", nodes[number % 5]
        labels = {"app": "app"}
        world.create_pod(name, entry, ip=f"10.12.3.{40 + number}", node=node, labels=labels, ready=number < 7)
    debug = json.dumps([{"serviceName": PRICE, "port": 99999}])
    world.create_pod("catalog-debug", annotation=debug, ip="10.12.9.9", node=nodes[0])
    for index, (service, pods) in enumerate(FLEET.items()):
        for number in range(pods):
            entry = {"serviceName": f"com.acme.{service}", "version": "v1", "port": 20880}
            world.create_pod(
                f"{service.partition('.')[0]}-{index}-{number}",
                entry,
                ip=f"10.12.{20 + index}.{number + 1}",
                node=nodes[number % 8],
                ready=service != "search.IndexService",
            )
    world.create_pod(
        "mail-0", {"serviceName": "com.acme.mail.TemplateService"}, ip="10.12.40.1", node=nodes[1]
    )


def picture(page: Page, name: str) -> None:
    """Take a picture of what is seen; nothing may reach over the edge."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.locator("main h1").wait_for()
    expect(page.locator("[aria-busy]")).to_have_count(0)
    page.screenshot(path=PICTURES / f"{name}.png", animations="disabled")
    assert not page.evaluate("document.documentElement.scrollWidth > innerWidth"), name


def test_pictures_of_each_screen(
    cluster: Any,
    world: World,
    api: HttpProxy,
    through_api: Path,
    start_page: Callable[..., Served],
    show: Callable[..., Page],
):
    fill(world)
    with Proxy(cluster.zk_servers) as zookeeper:
        layouts = ("--layout", f"kube2zk={world.base}", "--layout", f"dubbo={world.base}-d")
        served = start_page(
            *layouts, "--zk-servers", zookeeper.address, "--guard-confirm", "10m", kubeconfig=through_api
        )
        eventually(lambda: served.row(PRICE).get("found") == 6)
        eventually(lambda: served.ask(f"api/localservices/{world.namespace}/app").json.get("nodes"))
        for ready, found in [(False, 5), (True, 6)] * 2:
            world.set_status("catalog-7f6c9-1", "10.12.3.41", ready=ready)
            eventually(lambda found=found: served.row(PRICE)["found"] == found)  # type: ignore[misc]
        pages = {
            (width, colour): show(
                served.url, viewport={"width": width, "height": height}, color_scheme=colour
            )
            for width, height in WIDTHS.items()
            for colour in COLOURS
        }
        for (width, colour), page in pages.items():
            for name, path in SCREENS.items():
                page.goto(served.url + path.format(world.namespace))
                picture(page, f"{name}-{width}-{colour}")
            page.goto(served.url)
        lack(api, "pods")
        for (width, colour), page in pages.items():
            expect(page.locator("section.notice.hold")).to_contain_text("held, and still published")
            picture(page, f"held-{width}-{colour}")
        zookeeper.close()
        for (width, colour), page in pages.items():
            expect(page.locator("section.notice.bad")).to_contain_text("ZooKeeper is away")
            picture(page, f"away-{width}-{colour}")
    assert len(list(PICTURES.glob("*.png"))) >= len(pages) * (len(SCREENS) + 2)
