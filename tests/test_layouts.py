"""The bytes of each layout, and the rules that its clients need; what plans make of them is tested beside."""

import re
from pathlib import Path

import msgspec
import pytest

from rpcregistry.layouts import LAYOUTS, marks
from rpcregistry.layouts.forms import Child, PerEndpoint, PerService
from rpcregistry.layouts.templatefile import load
from rpcregistry.layouts.urls import encode
from rpcregistry.model import Endpoint, Problem

EXAMPLES = Path(__file__).parents[1] / "examples/layouts"
C1 = "5f0c6c5a-cluster-one"
ENDPOINT = Endpoint(
    pod_name="echo-1",
    pod_uid="uid-1",
    ip="10.0.0.1",
    ips=("10.0.0.1",),
    port=8080,
    ready=True,
    started_at="2026-11-21T02:02:02Z",
)
RICH = msgspec.structs.replace(
    ENDPOINT, version="1.0.0", group="g", weight=200, metadata={"zone": "a", "application": "prov"}
)
MARK = "47030bcb-6a3b5315"  # of C1 and ENDPOINT
PLACE = f"{MARK}-0a2991f0"  # with its address
URI_SPEC = (
    '{"parts":[{"value":"scheme","variable":true},{"value":"://","variable":false},'
    '{"value":"address","variable":true},{"value":":","variable":false},{"value":"port","variable":true}]}'
)
INSTANCE = "org.springframework.cloud.zookeeper.discovery.ZookeeperInstance"


def example(name: str) -> PerEndpoint:
    return load((EXAMPLES / f"{name}.yaml").read_text())


FORMS: dict[str, PerEndpoint] = {
    **{name: form for name, form in LAYOUTS.items() if isinstance(form, PerEndpoint)},
    **{file.stem: example(file.stem) for file in EXAMPLES.glob("*.yaml")},
}


def place(form: str, endpoint: Endpoint = ENDPOINT, service: str = "echo", cluster: str = C1) -> Child:
    placed = FORMS[form].place(service, endpoint, cluster)
    assert isinstance(placed, Child), placed
    return placed


@pytest.mark.parametrize(
    ("form", "endpoint", "name", "data"),
    [
        pytest.param(
            "curator",
            ENDPOINT,
            f"echo-1-{PLACE}",
            f'{{"name":"echo","id":"echo-1-{PLACE}","address":"10.0.0.1","port":8080,"sslPort":null,'
            '"payload":null,"registrationTimeUTC":1795226522000,"serviceType":"DYNAMIC","uriSpec":null}',
            id="curator: exactly nine keys",
        ),
        pytest.param(
            "curator",
            RICH,
            f"echo-1-{PLACE}",
            f'{{"name":"echo","id":"echo-1-{PLACE}","address":"10.0.0.1","port":8080,"sslPort":null,'
            '"payload":{"@class":"java.util.LinkedHashMap","application":"prov","zone":"a"},'
            '"registrationTimeUTC":1795226522000,"serviceType":"DYNAMIC","uriSpec":null}',
            id="curator: metadata",
        ),
        pytest.param(
            "spring-cloud",
            RICH,
            f"echo-1-{PLACE}",
            f'{{"name":"echo","id":"echo-1-{PLACE}","address":"10.0.0.1","port":8080,"sslPort":null,'
            f'"payload":{{"@class":"{INSTANCE}","id":"echo-1-{PLACE}","name":"echo","metadata":'
            '{"instance_status":"UP","application":"prov","group":"g","version":"1.0.0","weight":"200",'
            '"zone":"a"}},"registrationTimeUTC":1795226522000,"serviceType":"DYNAMIC",'
            f'"uriSpec":{URI_SPEC}}}',
            id="spring-cloud",
        ),
        pytest.param(
            "dubbo",
            ENDPOINT,
            encode(
                "dubbo://10.0.0.1:8080/echo?application=rpcregistry&dubbo=2.0.2&dynamic=false&interface=echo"
                f"&rpcregistry={MARK}&side=provider&timestamp=1795226522000"
            ),
            "",
            id="dubbo",
        ),
        pytest.param(
            "dubbo",
            RICH,
            encode(
                "dubbo://10.0.0.1:8080/echo?application=prov&dubbo=2.0.2&dynamic=false&group=g&interface=echo"
                f"&rpcregistry={MARK}&side=provider&timestamp=1795226522000&version=1.0.0&weight=200&zone=a"
            ),
            "",
            id="dubbo: with all there is",
        ),
        pytest.param(
            "sofa",
            ENDPOINT,
            encode(f"bolt://10.0.0.1:8080?interface=echo&protocol=bolt&rpcregistry={MARK}&uniqueId="),
            "",
            id="sofa: uniqueId even when empty",
        ),
        pytest.param(
            "serverset",
            ENDPOINT,
            "member_880258323847072514",
            '{"serviceEndpoint":{"host":"10.0.0.1","port":8080},"additionalEndpoints":{},"status":"ALIVE"}',
            id="serverset",
        ),
        pytest.param(
            "nerve",
            RICH,
            "echo-1_880258323847951985",
            '{"host":"10.0.0.1","port":8080,"name":"echo-1","weight":200,'
            '"labels":{"application":"prov","zone":"a"}}',
            id="nerve",
        ),
        pytest.param(
            "nerve",
            ENDPOINT,
            "echo-1_880258323847208723",
            '{"host":"10.0.0.1","port":8080,"name":"echo-1"}',
            id="nerve: what is not declared is left out",
        ),
        pytest.param("go-kit", ENDPOINT, f"{MARK}-120e9814", "10.0.0.1:8080", id="go-kit"),
        pytest.param(
            "d2",
            RICH,
            "echo-MARK",
            '{"clusterName":"echo","weights":{"http://10.0.0.1:8080":200}}',
            id="d2",
        ),
        pytest.param(
            "d2",
            ENDPOINT,
            "echo-MARK",
            '{"clusterName":"echo","weights":{"http://10.0.0.1:8080":1}}',
            id="d2: a weight is a must",
        ),
        pytest.param(
            "motan",
            RICH,
            "g/echo/server/10.0.0.1:8080-MARK",
            "\udcac\udced\0\5t\0hmotan://10.0.0.1:8080/echo?group=g&version=1.0.0&serialization=hessian2"
            "&nodeType=service&protocol=motan&",
            id="motan: as Java serializes it",
        ),
        pytest.param(
            "motan",
            ENDPOINT,
            "default_rpc/echo/server/10.0.0.1:8080-MARK",
            "\udcac\udced\0\5t\0pmotan://10.0.0.1:8080/echo?group=default_rpc&version=1.0&serialization="
            "hessian2&nodeType=service&protocol=motan&",
            id="motan: its defaults",
        ),
        pytest.param(
            "vertx",
            ENDPOINT,
            "MARK",
            '{"location":{"endpoint":"http://10.0.0.1:8080/","host":"10.0.0.1","port":8080,"root":"/",'
            f'"ssl":false}},"name":"echo","registration":"{MARK}","status":"UP","type":"http-endpoint"}}',
            id="vertx",
        ),
        pytest.param(
            "kratos",
            RICH,
            "MARK",
            f'{{"id":"{MARK}","name":"echo","version":"1.0.0","metadata":{{"application":"prov","zone":"a"}},'
            '"endpoints":["grpc://10.0.0.1:8080"]}',
            id="kratos",
        ),
    ],
)
def test_the_znode_of_an_endpoint(form: str, endpoint: Endpoint, name: str, data: str):
    placed = place(form, endpoint)

    marked = re.sub(r"47030bcb-([0-9a-f]{16}-)?6a3b5315-[0-9a-f]{8}$", "MARK", placed.name)
    assert (marked if "MARK" in name else placed.name) == name
    assert placed.data.decode(errors="surrogateescape") == data


@pytest.mark.parametrize("form", [pytest.param(form, id=form) for form in FORMS])
def test_a_name_tells_whose_it_is_and_which_endpoints(form: str):
    def slot(name: str, cluster: str) -> str | None:
        return FORMS[form].slot_of("echo", name, cluster)

    ours = place(form).name
    changed = place(form, msgspec.structs.replace(RICH, pod_name="echo-1")).name
    other = place(form, msgspec.structs.replace(ENDPOINT, port=9090)).name

    assert slot(ours, C1) is not None
    assert slot(ours, "another cluster") is None
    assert slot(ours, C1) == slot(changed, C1) != slot(other, C1)
    assert slot(place(form, cluster="another cluster").name, C1) is None


@pytest.mark.parametrize(
    "name", [f"f{MARK}", f"{MARK}0", f"{MARK[:8]}-0123", "member_0000000001", "member_1880258323847072514"]
)
def test_what_only_looks_like_ours_is_not(name: str):
    assert (marks.slot(name, C1), marks.number_slot(name, C1)) == (None, None)


@pytest.mark.parametrize("form", [pytest.param(form, id=form) for form in FORMS])
@pytest.mark.parametrize("moved", [{"ip": "10.0.0.2"}, {"port": 8081}], ids=["ip", "port"])
def test_another_address_is_another_name(form: str, moved: dict[str, object]):
    assert place(form).name != place(form, msgspec.structs.replace(ENDPOINT, **moved)).name


@pytest.mark.parametrize("form", ["serverset", "nerve", "go-kit"])
def test_where_clients_read_data_once_the_name_changes_with_it(form: str):
    if form == "go-kit":  # whose data is the address
        assert place(form).name == place(form, RICH).name
    else:
        assert place(form).name != place(form, RICH).name


@pytest.mark.parametrize("form", ["curator", "spring-cloud"])
def test_what_earlier_versions_wrote_is_known_again(form: str):
    before = FORMS[form].place_before("echo", ENDPOINT, C1)
    now = place(form)

    assert before
    assert before.name == f"echo-1-{MARK}"
    assert before.data == now.data.replace(now.name.encode(), before.name.encode())
    assert FORMS[form].slot_of("echo", before.name, C1) == FORMS[form].slot_of("echo", now.name, C1)


@pytest.mark.parametrize("form", ["curator", "spring-cloud", "serverset", "nerve", "go-kit"])
def test_which_children_are_one_address_to_clients(form: str):
    def one(a: Endpoint, b: Endpoint) -> bool:
        return FORMS[form].is_one_address(place(form, a), place(form, b))

    v6 = msgspec.structs.replace(ENDPOINT, ip="fd00::1")
    assert one(ENDPOINT, RICH)
    assert one(v6, msgspec.structs.replace(v6, weight=3))
    assert not one(ENDPOINT, msgspec.structs.replace(RICH, ip="10.0.0.11"))
    assert not one(ENDPOINT, v6)
    assert not FORMS[form].is_one_address(Child("x"), Child("x"))


def test_a_serversets_member_is_a_number_without_superfluous_zeros():
    for cluster in map(str, range(200)):
        digits = place("serverset", cluster=cluster).name.removeprefix("member_")
        assert f"{int(digits):010d}" == digits
        assert 10**10 < int(digits) < 10**18


@pytest.mark.parametrize(
    ("form", "fields", "reason"),
    [
        *(
            pytest.param(form, {"port": None}, "MissingPort", id=f"{form} needs a port")
            for form in FORMS
            if form != "curator"
        ),
        *(pytest.param(form, {"ip": "nowhere"}, "InvalidName", id=f"{form}: no address") for form in FORMS),
        pytest.param("dubbo", {"version": "1&weight=0"}, "InvalidName", id="dubbo: a version that is more"),
        pytest.param("dubbo", {"protocol": "a b"}, "InvalidName", id="dubbo: no scheme"),
        pytest.param("sofa", {"ip": "fd00::1"}, "InvalidName", id="sofa: IPv6"),
    ],
)
def test_an_endpoint_that_does_not_fit_a_layout(form: str, fields: dict[str, object], reason: str):
    placed = FORMS[form].place("echo", msgspec.structs.replace(ENDPOINT, **fields), C1)

    assert isinstance(placed, Problem)
    assert placed.reason == reason


def test_curator_knows_endpoints_without_a_port():
    assert b'"port":null' in place("curator", msgspec.structs.replace(ENDPOINT, port=None)).data


@pytest.mark.parametrize(
    ("form", "text"),
    [
        pytest.param("dubbo", encode("dubbo://[fd00::1]:8080/"), id="dubbo"),
        pytest.param("go-kit", "[fd00::1]:8080", id="go-kit"),
        pytest.param("serverset", '"host":"fd00::1"', id="serverset"),
    ],
)
def test_ipv6_addresses(form: str, text: str):
    placed = place(form, msgspec.structs.replace(ENDPOINT, ip="fd00::1"))

    assert text in f"{placed.name} {placed.data.decode()}"


def test_what_no_url_can_carry_is_left_out_of_it_and_nothing_of_ours_is_replaced():
    odd = {"a": "b&c=d", "x y": "z", "": "", "rpcregistry": "0", "interface": "other", "tag": "gray"}
    name = place("dubbo", msgspec.structs.replace(ENDPOINT, metadata=odd)).name

    assert encode(f"&interface=echo&rpcregistry={MARK}&side=provider&tag=gray&") in name
    assert not any(left in name for left in (encode("x y"), encode("b&c"), "other"))


def test_the_default_protocol_is_the_layouts():
    assert place("dubbo", msgspec.structs.replace(ENDPOINT, protocol="tri")).name.startswith("tri%3A")
    assert place("sofa").name.startswith("bolt%3A")


def test_names_are_encoded_as_java_encodes_them():
    assert encode("a b+c~d*e-f_g.h/ü$") == "a+b%2Bc%7Ed*e-f_g.h%2F%C3%BC%24"


def test_every_layout_is_of_one_of_the_two_forms():
    assert all(isinstance(form, PerService | PerEndpoint) for form in LAYOUTS.values())
