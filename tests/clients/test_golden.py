"""Our bytes beside those that each client's own library writes for the same endpoint."""

import json
from typing import Any
from urllib.parse import parse_qs, unquote_plus, urlsplit

import pytest
import yaml

from hack.clients.golden import RECORDINGS
from rpcregistry.layouts import LAYOUTS
from rpcregistry.layouts.forms import Child, PerEndpoint, PerService
from rpcregistry.layouts.template import layout as from_template
from rpcregistry.model import Endpoint
from tests.clients.journeys import TEMPLATES
from tests.clients.written import RECORDED, instance, recording


def ours(layout: str, **declared: Any) -> Child:
    """What we write for the endpoint of the layout's recording."""
    template = TEMPLATES / f"{layout}.yaml"
    form = from_template(yaml.safe_load(template.read_text())) if template.exists() else LAYOUTS[layout]
    assert isinstance(form, PerEndpoint)
    made = RECORDINGS[layout]
    port = int(made.more[-1].rpartition(":")[2])
    endpoint = Endpoint(
        pod_name="echo-1", pod_uid="u", ip=RECORDED, ips=(RECORDED,), port=port, ready=True, **declared
    )
    child = form.place(made.service, endpoint, "cluster")
    assert isinstance(child, Child)
    return child


def test_a_service_is_what_kube2zk_writes():
    (golden,) = [znode["data"] for znode in recording("kube2zk")["znodes"] if RECORDED in znode["data"]]
    endpoints = [
        Endpoint(pod_name=ip, pod_uid=ip, ip=ip, ips=(ip,), ready=True) for ip in ("10.0.0.10", RECORDED)
    ]
    form = LAYOUTS["kube2zk"]
    assert isinstance(form, PerService)
    assert form.render(endpoints, None, None, None, False).data == golden.encode()


def ordered(data: bytes, *, without: tuple[str, ...]) -> Any:
    """JSON as nested lists of keys and values, in its order; the values of *without* are left out."""

    def pairs(items: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
        return [(key, None if key in without else value) for key, value in items]

    return json.loads(data, object_pairs_hook=pairs)


@pytest.mark.parametrize("layout", ["curator", "spring-cloud"])
def test_an_instance_is_what_its_library_writes_but_for_id_and_time(layout: str):
    _, golden = instance(layout, RECORDED)
    own = ("id", "registrationTimeUTC")
    assert ordered(ours(layout).data, without=own) == ordered(golden, without=own)


def test_a_member_is_what_finagle_announces_but_for_the_shard():
    _, golden = instance("serverset", RECORDED)
    shard = b',"shard":0'
    assert shard in golden
    assert ours("serverset").data == golden.replace(shard, b"")


def test_an_instance_of_go_kit_is_what_its_registrar_writes():
    _, golden = instance("go-kit", RECORDED)
    assert ours("go-kit").data == golden


@pytest.mark.parametrize(
    ("layout", "declared", "same"),
    [
        pytest.param("dubbo", {"version": "1.0.0"}, {"dubbo", "interface", "side", "version"}, id="dubbo"),
        pytest.param("sofa", {"version": "1.0"}, {"interface", "protocol", "uniqueId", "version"}, id="sofa"),
    ],
)
def test_a_providers_url_is_its_librarys_in_all_that_consumers_compare(
    layout: str, declared: dict[str, str], same: set[str]
):
    path, _ = instance(layout, RECORDED)
    golden = path.rpartition("/")[2]
    theirs, mine = (urlsplit(unquote_plus(name)) for name in (golden, ours(layout, **declared).name))
    assert theirs[:3] == mine[:3]
    shown, published = (parse_qs(url.query, keep_blank_values=True) for url in (theirs, mine))
    assert {key: published[key] for key in same} == {key: shown[key] for key in same}
    assert published.keys() - shown.keys() == {"rpcregistry"}
