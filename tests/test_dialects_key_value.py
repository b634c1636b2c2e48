"""What annotations of keys and values declare, and those of both dialects at once."""

import base64
import json

import pytest

from rpcregistry.dialects import read
from rpcregistry.model import Declaration
from tests.worlds.annotations import KEY_VALUE, NAME_RULE, PLAIN, TEXT_RULE, encoded, key_value, messages


@pytest.mark.parametrize(
    ("key", "value", "declared"),
    [
        pytest.param("a", "", {}, id="a name"),
        pytest.param(
            "a",
            {"port": 80, "version": "v1", "group": "g", "protocol": "tri", "weight": 5, "zone": "z"},
            {
                "port": 80,
                "version": "v1",
                "group": "g",
                "protocol": "tri",
                "weight": 5,
                "metadata": {"zone": "z"},
            },
            id="an object: the rest is metadata",
        ),
        pytest.param(
            "a",
            {"retries": 3, "ratio": 0.5, "tls": True, "local": True},
            {"metadata": {"retries": "3", "ratio": "0.5", "tls": "true", "local": "true"}},
            id="metadata is text",
        ),
        pytest.param("a", ' {"port": 80}', {"port": 80}, id="an object's JSON"),
        pytest.param("a", "hello", {"metadata": {"value": "hello"}}, id="any text"),
        pytest.param("a", "x" * 300, {}, id="a text that is no metadata"),
        pytest.param(
            "a",
            "tri://10.0.0.1:50051/a?group=g&version=1.0.0&side=provider",
            {"port": 50051, "protocol": "tri", "group": "g", "version": "1.0.0"},
            id="a URL, without its address",
        ),
        pytest.param("/dubbo/a/providers", "", {}, id="a path"),
        pytest.param("/a/providers", "", {}, id="a path without a root"),
        pytest.param("/x/y/z/a/providers/", "", {}, id="a path with a slash after it"),
        pytest.param(
            "/dubbo/a/providers/dubbo%3A%2F%2F10.0.0.1%3A20880%2Fa%3Fweight%3D7%26version%3D1",
            "10.0.0.1",
            {
                "port": 20880,
                "protocol": "dubbo",
                "weight": 7,
                "version": "1",
                "metadata": {"value": "10.0.0.1"},
            },
            id="a path with a URL",
        ),
        pytest.param(
            "/dubbo/a/providers/dubbo%3A%2F%2F10.0.0.1%3A20880%2Fa%3Fversion%3D1",
            {"port": 1},
            {"port": 1, "protocol": "dubbo", "version": "1"},
            id="the value wins over the key's URL",
        ),
        pytest.param("/dubbo/a/providers/10.0.0.1%3A20880", "", {}, id="a path with what is no URL"),
    ],
)
def test_keys_and_values(key, value, declared):
    assert key_value({"k": key, "v": value}) == ((Declaration(service_name="a", **declared),), ())


def test_a_quoted_name_in_a_path_is_unquoted():
    (declaration,), () = key_value({"k": "/dubbo/com.foo.Bar%24Baz/providers", "v": ""})

    assert declaration.service_name == "com.foo.Bar$Baz"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        pytest.param([], "/0: [] is not of type 'object'", id="not an object"),
        pytest.param({"v": ""}, "/0: 'k' is a required property", id="no key"),
        pytest.param({"k": "a"}, "/0: 'v' is a required property", id="no value"),
        pytest.param({"k": 1, "v": ""}, "/0/k: 1 is not of type 'string'", id="key is a number"),
        pytest.param({"k": "a", "v": 1}, "/0/v: 1 is not of type 'string', 'object'", id="value is a number"),
        pytest.param(
            {"k": "/dubbo/a/consumers", "v": ""}, f'/0/k: "/dubbo/a/consumers" {NAME_RULE}', id="no provider"
        ),
        pytest.param({"k": "a/providers", "v": ""}, f'/0/k: "a/providers" {NAME_RULE}', id="relative path"),
        pytest.param({"k": "/x/%2e%2e/providers", "v": ""}, f'/0/k: ".." {NAME_RULE}', id="quoted dots"),
        pytest.param({"k": "/x/a%2Fb/providers", "v": ""}, f'/0/k: "a/b" {NAME_RULE}', id="quoted slash"),
        pytest.param(
            {"k": "a", "v": {"port": 0}}, "/0/v/port: 0 is less than the minimum of 1", id="port in an object"
        ),
        pytest.param(
            {"k": "a", "v": '{"port": 0}'}, "/0/v/port: 0 is less than the minimum of 1", id="port in JSON"
        ),
        pytest.param(
            {"k": "a", "v": "{x"}, "/0/v: not JSON: Expecting property name", id="bad JSON in a value"
        ),
        pytest.param({"k": "a", "v": '{"a":1,"a":2}'}, '/0/v: the key "a" is there twice', id="key twice"),
        pytest.param(
            {"k": "a", "v": "x://h:70000"}, '/0/v: "x://h:70000" is not a provider\'s URL', id="port of a URL"
        ),
        pytest.param(
            {"k": "a", "v": "x://h?weight=w"},
            '/0/v: "x://h?weight=w" is not a provider\'s URL',
            id="weight of a URL",
        ),
        pytest.param(
            {"k": "/d/a/providers/x%3A%2F%2F%5B", "v": ""},
            '/0/k: "x://[" is not a provider\'s URL',
            id="URL in a key",
        ),
        pytest.param(
            {"k": "a", "v": {"zone": {"x": 1}}},
            "/0/v/zone: {\"x\": 1} is not of type 'string'",
            id="metadata is an object",
        ),
        pytest.param(
            {"k": "a", "v": '{"x": 1e400}'},
            "/0/v/x: Infinity is not of type 'string'",
            id="metadata is too large a number",
        ),
        pytest.param(
            {"k": "a", "v": {"z": "\x00"}}, f'/0/v/z: "\\u0000" {TEXT_RULE}', id="metadata with NUL"
        ),
        pytest.param(
            {"k": "a", "v": {"x" * 257: ""}}, f'/0/v: "{"x" * 58}… {TEXT_RULE}', id="long metadata key"
        ),
        pytest.param(
            {"k": "a", "v": {f"{n}": "" for n in range(33)}},
            '/0/v: {"0": "", "1": "", "2": "", "3": "", "4": "", "5": "", "6":… has more than 32 keys',
            id="too much metadata",
        ),
    ],
)
def test_a_bad_key_or_value_costs_that_entry_and_says_why(entry, message):
    declarations, problems = key_value(entry, {"k": "good", "v": ""})

    assert declarations == (Declaration(service_name="good"),)
    assert len(problems) == 1
    assert messages(problems)[0].startswith(f"app.io/annotation: {message}")


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        pytest.param("", "not JSON: Expecting value", id="empty"),
        pytest.param("[]", "not base64 of UTF-8: Only base64 data is allowed", id="JSON"),
        pytest.param("W10", "not base64 of UTF-8: Incorrect padding", id="cut off"),
        pytest.param("ä", "not base64 of UTF-8: string argument should contain only ASCII", id="not ASCII"),
        pytest.param("//4=", "not base64 of UTF-8: 'utf-8' codec can't decode byte 0xff", id="not UTF-8"),
        pytest.param(encoded("{}"), "{} is not an array", id="not an array"),
        pytest.param(encoded("[" * 16_000), "nested too deeply", id="deep"),
        pytest.param(
            encoded(" " * 16_385), "16385 bytes are more than the maximum of 16384", id="over 16 KiB"
        ),
    ],
)
def test_a_bad_base64_text_declares_nothing_and_says_why(annotation, message):
    declarations, problems = read(KEY_VALUE, {"app.io/annotation": annotation})

    assert declarations == ()
    assert len(problems) == 1
    assert messages(problems)[0].startswith(f"app.io/annotation: {message}")


def test_the_limit_of_16_kib_is_for_what_base64_holds():
    text = '[{"k": "a", "v": ""}]'
    annotation = encoded(text + " " * (16 * 1024 - len(text)))

    assert len(annotation) > 16 * 1024
    assert read(KEY_VALUE, {"app.io/annotation": annotation})[1] == ()


def test_base64_may_be_broken_into_lines():
    annotation = base64.encodebytes(json.dumps([{"k": "a" * 200, "v": ""}]).encode()).decode()

    assert annotation.count("\n") > 1
    assert read(KEY_VALUE, {"app.io/annotation": annotation})[1] == ()


def test_a_pod_may_speak_both_dialects():
    declarations, problems = read(
        PLAIN | KEY_VALUE,
        {
            "rpc-service": '[{"serviceName": "a", "version": "plain"}, {"serviceName": "b"}]',
            "app.io/annotation": encoded('[{"k": "a", "v": {"version": "other"}}, {"k": "c", "v": ""}]'),
        },
    )

    assert [(declared.service_name, declared.version) for declared in declarations] == [
        ("a", "plain"),
        ("b", ""),
        ("c", ""),
    ]
    assert messages(problems) == ["app.io/annotation: /0: a without a port is declared already"]


def test_a_bad_text_of_one_dialect_costs_nothing_of_the_other():
    declarations, problems = read(
        PLAIN | KEY_VALUE,
        {"rpc-service": "x", "app.io/annotation": encoded('[{"k": "a", "v": ""}]')},
    )

    assert declarations == (Declaration(service_name="a"),)
    assert len(problems) == 1
