"""What annotations declare: entries of our own dialect, and what all dialects share."""

import json
import re

import pytest

from rpcregistry.dialects import read
from rpcregistry.model import Declaration
from tests.worlds.annotations import (
    KEY_VALUE,
    NAME_RULE,
    PLAIN,
    TEXT_RULE,
    entries,
    key_value,
    messages,
    plain,
)


def test_an_entry_declares_a_service():
    declarations, problems = entries(
        {
            "serviceName": "test-rpc-server-1",
            "version": "v0",
            "port": 20880,
            "group": "g",
            "protocol": "dubbo",
            "weight": 100,
            "metadata": {"k": "v"},
            "local": True,
        }
    )

    assert declarations == (
        Declaration(
            service_name="test-rpc-server-1",
            version="v0",
            port=20880,
            group="g",
            protocol="dubbo",
            weight=100,
            metadata={"k": "v"},
            local=True,
        ),
    )
    assert problems == ()


def test_a_name_is_enough():
    assert entries({"serviceName": "a"}) == ((Declaration(service_name="a"),), ())


def test_a_pod_may_serve_several_services():
    declarations, problems = entries(
        {"serviceName": "a"}, {"serviceName": "b"}, {"serviceName": "b", "port": 1}
    )

    assert [(declared.service_name, declared.port) for declared in declarations] == [
        ("a", None),
        ("b", None),
        ("b", 1),
    ]
    assert problems == ()


def test_keys_that_we_do_not_know_are_ignored():
    assert entries({"serviceName": "a", "x": {"y": [None]}}) == ((Declaration(service_name="a"),), ())


@pytest.mark.parametrize(
    ("labels", "annotations"),
    [
        pytest.param({}, {"rpc-service": '[{"serviceName": "a"}]'}, id="annotation without label"),
        pytest.param({"rpc-service": "false"}, {"rpc-service": '[{"serviceName": "a"}]'}, id="label false"),
        pytest.param({"rpc-service": "True"}, {"rpc-service": "x"}, id="another spelling of true"),
        pytest.param(PLAIN, {}, id="label without annotation"),
        pytest.param(KEY_VALUE, {"rpc-service": '[{"serviceName": "a"}]'}, id="the label of another dialect"),
        pytest.param({"app.io/label": "x"}, {"app.io/annotation": "x"}, id="another value of app.io/label"),
        pytest.param({}, {}, id="nothing"),
    ],
)
def test_who_does_not_speak_declares_nothing(labels, annotations):
    assert read(labels, annotations) == ((), ())


# What costs the whole text.  The names say what is wrong; the second value is what the user reads.
BAD_TEXTS = [
    pytest.param("", "not JSON: Expecting value: line 1 column 1 (char 0)", id="empty"),
    pytest.param(" \r\n\t", "not JSON: Expecting value", id="whitespace"),
    pytest.param("a,b", "not JSON: Expecting value", id="not JSON"),
    pytest.param("null", "null is not an array", id="null"),
    pytest.param("3", "3 is not an array", id="number"),
    pytest.param('"[]"', '"[]" is not an array', id="string"),
    pytest.param('{"serviceName": "a"}', '{"serviceName": "a"} is not an array', id="object"),
    pytest.param('{"a": 1, "a": 2}', '{"a": "..."} is not an array', id="object with a key twice"),
    pytest.param('[{"serviceName": "a"}', "not JSON: Expecting ',' delimiter", id="cut off"),
    pytest.param('[{"serviceName": "a"}] x', "not JSON: Extra data", id="more after the end"),
    pytest.param("[{'serviceName': 'a'}]", "not JSON: Expecting property name", id="single quotes"),
    pytest.param('\ufeff[{"serviceName": "a"}]', "not JSON: Unexpected UTF-8 BOM", id="byte order mark"),
    pytest.param('[{"serviceName": "a", "x": NaN}]', "not JSON: NaN is no JSON", id="NaN"),
    pytest.param('[{"serviceName": "a", "x": -Infinity}]', "not JSON: -Infinity is no JSON", id="Infinity"),
    pytest.param('[{"serviceName": "a\x00"}]', "not JSON: Invalid control character", id="NUL, raw"),
    pytest.param('[{"serviceName": "a\r\n"}]', "not JSON: Invalid control character", id="CRLF, raw"),
    pytest.param("\ud800", "not JSON: Expecting value", id="lone surrogate, raw"),
    pytest.param("[" * 16_000, "nested too deeply", id="16,000 deep"),
    pytest.param("[" * 100_000, "100000 bytes are more than the maximum of 16384", id="100,000 deep"),
    pytest.param("x" * 255 * 1024, "261120 bytes are more than the maximum of 16384", id="255 KiB"),
    pytest.param("é" * 8193, "16386 bytes are more than the maximum of 16384", id="bytes, not characters"),
    pytest.param(
        json.dumps([{"serviceName": f"s{n}"} for n in range(33)]),
        "33 entries are more than the maximum of 32",
        id="33 services",
    ),
]


@pytest.mark.parametrize(("text", "message"), BAD_TEXTS)
def test_a_bad_text_declares_nothing_and_says_why(text, message):
    declarations, problems = plain(text)

    assert declarations == ()
    assert len(problems) == 1
    assert messages(problems)[0].startswith(f"rpc-service: {message}")


def test_a_text_as_long_as_is_allowed_is_read():
    text = '[{"serviceName": "a"}]'

    assert plain(text + " " * (16 * 1024 - len(text)))[1] == ()
    assert plain(text + " " * (16 * 1024 - len(text) + 1))[0] == ()


def test_as_many_entries_as_are_allowed_are_read():
    assert len(entries(*({"serviceName": f"s{n}"} for n in range(32)))[0]) == 32


def as_shown(name: str) -> str:
    """A text as JSON: what can be seen as it is, all else escaped."""
    return json.dumps(name, ensure_ascii=not name.isprintable())


# What costs one entry: the entry's JSON, and what the user reads.
BAD_ENTRIES = [
    pytest.param("null", "/0: null is not of type 'object'", id="null"),
    pytest.param("[]", "/0: [] is not of type 'object'", id="array"),
    pytest.param("{}", "/0: 'serviceName' is a required property", id="no name"),
    pytest.param('{"serviceName": 3}', "/0/serviceName: 3 is not of type 'string'", id="name is no string"),
    pytest.param('{"serviceName": null}', "/0/serviceName: null is not of type 'string'", id="name is null"),
    pytest.param(
        '{"serviceName": "a", "serviceName": "b"}', '/0: the key "serviceName" is there twice', id="key twice"
    ),
    pytest.param(
        '{"serviceName": "a", "metadata": {"k": "1", "k": "2"}}',
        '/0/metadata: the key "k" is there twice',
        id="metadata key twice",
    ),
    *(
        pytest.param(f'{{"serviceName": "a", "port": {port}}}', f"/0/port: {message}", id=f"port {port:.12}")
        for port, message in {
            "0": "0 is less than the minimum of 1",
            "-1": "-1 is less than the minimum of 1",
            "65536": "65536 is greater than the maximum of 65535",
            "70000": "70000 is greater than the maximum of 65535",
            '"8080"': "\"8080\" is not of type 'integer'",
            "8080.0": "8080.0 is not of type 'integer'",
            "1e3": "1000.0 is not of type 'integer'",
            "1e400": "Infinity is not of type 'integer'",
            "true": "true is not of type 'integer'",
            "null": "null is not of type 'integer'",
            "9" * 30: "1e+30 is not of type 'integer'",
            "9" * 5000: "Infinity is not of type 'integer'",
        }.items()
    ),
    *(
        pytest.param(
            f'{{"serviceName": "a", "weight": {weight}}}', f"/0/weight: {message}", id=f"weight {weight}"
        )
        for weight, message in {
            "-1": "-1 is less than the minimum of 0",
            "10001": "10001 is greater than the maximum of 10000",
            "1.5": "1.5 is not of type 'integer'",
            "true": "true is not of type 'integer'",
        }.items()
    ),
    *(
        pytest.param(f'{{"serviceName": "a", "version": {version}}}', f"/0/version: {message}", id=name)
        for name, version, message in [
            ("version is a number", "1", "1 is not of type 'string'"),
            ("lone surrogate", r'"\ud800"', rf'"\ud800" {TEXT_RULE}'),
            ("NUL", r'"\u0000"', rf'"\u0000" {TEXT_RULE}'),
            ("line break", r'"a\r\nb"', rf'"a\r\nb" {TEXT_RULE}'),
            ("terminal escape", r'"\u001b[31m"', rf'"\u001b[31m" {TEXT_RULE}'),
            ("right-to-left override", r'"\u202e"', rf'"\u202e" {TEXT_RULE}'),
            ("257 bytes", f'"{"x" * 257}"', f'"{"x" * 58}… {TEXT_RULE}'),
            ("129 characters of 2 bytes", f'"{"é" * 129}"', f'"{"é" * 58}… {TEXT_RULE}'),
        ]
    ),
    pytest.param('{"serviceName": "a", "group": 1}', "/0/group: 1 is not of type 'string'", id="group"),
    pytest.param(
        '{"serviceName": "a", "protocol": {}}', "/0/protocol: {} is not of type 'string'", id="protocol"
    ),
    pytest.param(
        '{"serviceName": "a", "local": 1}', "/0/local: 1 is not of type 'boolean'", id="local is a number"
    ),
    pytest.param(
        '{"serviceName": "a", "local": true}',
        '/0: {"serviceName": "a", "local": true} needs a port, because of "local": true',
        id="local without a port",
    ),
    pytest.param(
        '{"serviceName": "a", "metadata": []}', "/0/metadata: [] is not of type 'object'", id="metadata"
    ),
    pytest.param(
        '{"serviceName": "a", "metadata": {"a/b~\\u00e9": 1}}',
        "/0/metadata/a~1b~0\\u00e9: 1 is not of type 'string'",
        id="a key that has to be escaped",
    ),
    pytest.param(
        json.dumps({"serviceName": "a", "metadata": {"k" * 257: "v"}}),
        f'/0/metadata: "{"k" * 58}… {TEXT_RULE}',
        id="metadata key of 257 bytes",
    ),
    pytest.param(
        json.dumps({"serviceName": "a", "metadata": {f"{n}": "v" for n in range(33)}}),
        '/0/metadata: {"0": "v", "1": "v", "2": "v", "3": "v", "4": "v", "5": "v"… has more than 32 keys',
        id="33 metadata keys",
    ),
    *(
        pytest.param(
            json.dumps({"serviceName": name}), f"/0/serviceName: {as_shown(name)} {NAME_RULE}", id=id_
        )
        for id_, name in {
            "empty name": "",
            "dot": ".",
            "dot dot": "..",
            "path upwards": "../x",
            "slash inside": "a/b",
            "slash before": "/a",
            "slashes inside": "a//b",
            "zookeeper": "zookeeper",
            "quoted dots": "%2e%2e",
            "newline after": "a\n",
            "NUL after": "a\x00",
            "space": "a b",
            "not ASCII": "ä",
            "emoji": "😀",
            "digit that is not ASCII": "٣",
            "dollar first": "$a",
            "lone surrogate in a name": "\ud800",
            "override in a name": "a\u202eb",
        }.items()
    ),
    *(
        pytest.param(
            json.dumps({"serviceName": "x" * length}),
            f'/0/serviceName: "{"x" * 58}… {NAME_RULE}',
            id=f"{length}",
        )
        for length in (254, 5000)
    ),
    pytest.param(
        '{"serviceName": "a/", "port": 0, "version": 3}',
        f'/0/serviceName: "a/" {NAME_RULE}; /0/port: 0 is less than the minimum of 1; '
        "/0/version: 3 is not of type 'string'",
        id="several mistakes",
    ),
]


@pytest.mark.parametrize(("entry", "message"), BAD_ENTRIES)
def test_a_bad_entry_costs_that_entry_and_says_why(entry, message):
    declarations, problems = plain(f'[{entry}, {{"serviceName": "good"}}]')

    assert declarations == (Declaration(service_name="good"),)
    assert messages(problems) == [f"rpc-service: {message}"]


@pytest.mark.parametrize(
    "name", ["a", "A", "0", "a.b", "com.foo.Bar$Baz", "a_b-c", "x" * 253, "Zookeeper", "zookeeper2"]
)
def test_names_that_rpc_frameworks_use(name):
    assert entries({"serviceName": name}) == ((Declaration(service_name=name),), ())


@pytest.mark.parametrize(
    "details",
    [
        pytest.param({"port": 1, "weight": 0}, id="least"),
        pytest.param({"port": 65535, "weight": 10_000, "local": True}, id="most"),
        pytest.param({"version": "é" * 128}, id="256 bytes"),
        pytest.param({"group": "größer 😀", "protocol": ""}, id="not ASCII, and empty"),
        pytest.param({"metadata": {f"{n}": "" for n in range(32)}}, id="32 metadata keys"),
        pytest.param({"metadata": {"k" * 256: "v" * 256}}, id="long metadata"),
        pytest.param({"local": False}, id="not local, no port"),
    ],
)
def test_what_is_just_allowed(details):
    assert entries({"serviceName": "a", **details}) == ((Declaration(service_name="a", **details),), ())


def test_the_first_of_two_entries_for_the_same_port_counts():
    declarations, problems = entries(
        {"serviceName": "a", "port": 80, "version": "first"},
        {"serviceName": "a", "port": 80, "version": "second"},
        {"serviceName": "a", "port": 81},
        {"serviceName": "a"},
        {"serviceName": "a"},
    )

    assert [(declared.port, declared.version) for declared in declarations] == [
        (80, "first"),
        (81, ""),
        (None, ""),
    ]
    assert messages(problems) == [
        "rpc-service: /1: a at port 80 is declared already",
        "rpc-service: /4: a without a port is declared already",
    ]


def test_a_message_fits_into_an_event():
    metadata = {str(n) + chr(0x1F600) * 50: "\x00" * 30 for n in range(9)}
    (), (problem,) = entries({"serviceName": "a", "metadata": metadata})

    assert len(problem.message) == 900
    assert problem.message.endswith("…")


def test_nothing_that_a_user_wrote_reaches_a_log_raw():
    nasty = "\x1b[2J\r\n\u202e\u2028"
    texts = [
        json.dumps([{"serviceName": nasty}]),
        json.dumps([{"serviceName": "a", "metadata": {nasty: nasty}}]),
        json.dumps([{"serviceName": "a", "metadata": {nasty: 1}}]),
        json.dumps(nasty),
        json.dumps({nasty: 1}),
        f"[{nasty}]",
        f'[{{"{nasty}": 1}}]',
    ]
    problems = [problem for text in texts for problem in plain(text)[1]]
    problems += key_value(
        {"k": nasty, "v": ""}, {"k": "a", "v": f"x://{nasty}:a"}, {"k": "a", "v": {nasty: {}}}
    )[1]

    assert len(problems) == 10
    assert not any(re.search(r"[^ -~…]", message) for message in messages(problems))


def test_pods_with_the_same_annotation_share_what_it_declares():
    text = '[{"serviceName": "shared"}]'

    assert plain(text)[0][0] is plain(text)[0][0]
