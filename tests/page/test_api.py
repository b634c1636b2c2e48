"""The JSON API of the page, against the real cluster."""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest

from hack.local.cluster import free_ports
from tests.cluster.waiting import eventually
from tests.cluster.world import World
from tests.page.conftest import Served

pytestmark = pytest.mark.full


def test_what_happens_to_a_pod_is_answered(world: World, served: Served):
    assert served.ask("api/services").json["total"] == 0
    assert served.ask("api/state").json["role"] == "leader"
    world.create_pod("p1", "echo", ip="10.0.0.1")
    row = eventually(lambda: (row := served.row("echo")) and row["reason"] == "InRegistry" and row)
    assert (row["ready"], row["total"], row["found"], row["layouts"]) == (1, 1, 1, ["kube2zk"])
    assert row["lagMs"] > 0
    tag = served.ask("api/services").headers["etag"]
    assert eventually(lambda: served.ask("api/services", If_None_Match=tag).status == 304)

    world.create_pod("p2", annotation=json.dumps([{"serviceName": "echo", "port": 99999}]), ip="10.0.0.2")
    world.create_pod("p3", "echo", ip="10.0.0.3", ready=False)
    (mistake,) = eventually(lambda: served.ask("api/rejected").json["rejected"])
    assert (mistake["pod"], mistake["where"]) == ("p2", "rpc-service /0/port")
    one = eventually(lambda: (one := served.ask("api/services/echo").json)["total"] == 2 and one)
    assert [(row["pod"], row["published"]) for row in one["endpoints"]] == [
        ("p3", "No: not Ready"),
        ("p1", "Published"),
    ]
    (read,) = one["registry"]
    assert read["path"] == f"{world.base}/echo"
    assert json.loads(read["is"])["servers"] == ["10.0.0.1"]
    assert read["differences"] == []

    world.delete_pod("p1")
    eventually(lambda: served.row("echo")["found"] == 0)
    lines = served.ask("api/changes?service=echo").json["changes"]
    said = [(line["kind"], line["address"]) for line in lines if line["address"]]
    assert said == [("removed", "10.0.0.1"), ("added", "10.0.0.1")]
    assert all(line["parts"]["layout"] == "kube2zk" for line in lines if line["address"])
    state = served.ask("api/state").json
    assert (state["counts"]["nobodyReady"], state["counts"]["rejected"], state["lag"]["changes"]) == (1, 1, 2)


WRONG = {
    "api/services?stat=held": (400, "unknown: stat; there is after, layout"),
    "api/services?limit=1001": (400, "limit: 1001 is more than 1,000"),
    "api/services?state=bad": (400, "state: 'bad': choose from look"),
    "api/services/orderz": (404, "No service is called orderz."),
    "api/localservices/ns/x": (404, "no LocalService ns/x"),
    "a/b": (404, "JSON is below api/"),
    "assets/x/../../app.py": (404, ""),
}


def test_what_is_asked_wrongly_is_said(served: Served):
    for path, (status, detail) in WRONG.items():
        answer = served.ask(path)
        assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json"), path
        assert detail in answer.json["detail"]


def test_metrics_say_what_is_asked(start_page: Callable[..., Served]):
    (port,) = free_ports(1)
    served = start_page("--bind-address", f"127.0.0.1:{port}")
    assert served.ask("api/services/orderz").status == 404
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    assert 'rpcregistry_ui_requests_total{code="404",route="/api/services/{name}"} 1.0' in lines


def test_only_this_page_by_its_own_name_and_only_to_look(served: Served):
    port = urlsplit(served.url).port
    for host in ("localhost", f"127.0.0.1:{port}", "[::1]:1"):
        assert served.ask("api/state", Host=host).status == 200, host
    for host in ("evil.example", "localhost.evil.example", "", "127.0.0.1.evil.example:8081"):
        assert served.ask("api/state", Host=host).status == 400, host
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert served.ask("api/state", method).status == 405, method
    answer = served.ask("")
    assert "set-cookie" not in answer.headers
    assert "access-control-allow-origin" not in answer.headers
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert served.ask("api/state", "HEAD").body == b""


def test_a_token_of_the_cluster_opens_the_page(cluster: Any, world: World, start_page: Callable[..., Served]):
    token = {}
    for name in ("viewer", "stranger"):
        cluster.kubectl("-n", world.namespace, "create", "serviceaccount", name)
        token[name] = cluster.kubectl("-n", world.namespace, "create", "token", name).strip()
    role = f"{world.namespace}-page"
    cluster.kubectl("create", "clusterrole", role, "--verb=get", "--non-resource-url=/ui")
    cluster.kubectl(
        "create",
        "clusterrolebinding",
        role,
        f"--clusterrole={role}",
        f"--serviceaccount={world.namespace}:viewer",
    )
    try:
        served = start_page("--ui-auth", "kubernetes", "--ui-host", "page.example")

        def status(header: str) -> int:
            return served.ask("api/state", Host="page.example", Authorization=header).status

        assert eventually(lambda: status(f"Bearer {token['viewer']}") == 200)
        assert status(f"Bearer {token['stranger']}") == 403
        assert status("Bearer no-token") == 403
        assert status("Basic YTpi") == status("") == 401
        assert served.ask("", Host="page.example").status == 401
    finally:
        cluster.kubectl("delete", "clusterrole,clusterrolebinding", role)


def test_a_page_that_cannot_listen_keeps_the_registry_from_nothing(
    world: World, served: Served, start_controller: Callable[..., Any]
):
    address = urlsplit(served.url).netloc
    other = start_controller("--ui-bind-address", address, "--cluster-id", f"other-{world.namespace}")
    assert eventually(lambda: [line for line in other.logged() if line["event"] == "the page cannot listen"])
    assert other.running
    served.controller.stop()
    assert eventually(lambda: [line for line in other.logged() if line["event"] == "the page"])
