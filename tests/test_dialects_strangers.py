"""What strangers write into annotations is no failure, and costs little time."""

import base64
import gc
import json
import re
import time
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rpcregistry import dialects
from rpcregistry.dialects import LONGEST_ANNOTATION, read
from tests.worlds.annotations import KEY_VALUE, PLAIN, encoded, key_value, messages, plain

KINDS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("a"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
FIELDS = ["serviceName", "port", "version", "group", "protocol", "weight", "metadata", "local", "k", "v"]
ENTRY = st.dictionaries(st.sampled_from(FIELDS), KINDS | st.integers(-1, 70_000), max_size=8)


def assert_sound(declarations, problems):
    """An independent reading of what a declaration may be."""
    for declared in declarations:
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._$-]{0,252}", declared.service_name)
        assert declared.service_name != "zookeeper"
        assert declared.port is None or (type(declared.port) is int and 1 <= declared.port <= 65535)
        assert declared.weight is None or (type(declared.weight) is int and 0 <= declared.weight <= 10_000)
        assert type(declared.local) is bool
        assert not declared.local or declared.port
        assert len(declared.metadata) <= 32
        for text in (declared.version, declared.group, declared.protocol):
            assert len(text.encode()) <= 256
        for key, value in declared.metadata.items():
            assert len(key.encode()) <= 256
            assert len(value.encode()) <= 256
    assert len({(declared.service_name, declared.port) for declared in declarations}) == len(declarations)
    assert all(len(problem.message) <= 900 and problem.message.isprintable() for problem in problems)


@given(st.text())
@example("[" * 990 + "]" * 990)
@example('[{"serviceName": ' + "[" * 480 + "]" * 480 + "}]")
def test_no_text_is_a_failure(text):
    for labels, annotations in (
        (PLAIN, {"rpc-service": text}),
        (KEY_VALUE, {"app.io/annotation": text}),
        (KEY_VALUE, {"app.io/annotation": base64.b64encode(text.encode(errors="replace")).decode()}),
    ):
        assert_sound(*read(labels, annotations))


@given(st.lists(ENTRY | KINDS, max_size=4))
def test_no_json_is_a_failure(array):
    assert_sound(*plain(json.dumps(array)))
    assert_sound(*read(KEY_VALUE, {"app.io/annotation": encoded(json.dumps(array))}))


@given(st.text(max_size=30), st.text(max_size=30) | st.builds("x://{}?{}".format, st.text(), st.text()))
def test_no_key_and_no_value_is_a_failure(key, value):
    assert_sound(
        *key_value({"k": key, "v": value}, {"k": f"/d/a/providers/{key}", "v": value}, {"k": "b", "v": value})
    )


HOSTILE = [
    pytest.param("[" * 16_000, id="deep"),
    pytest.param('[{"serviceName": ' + "[" * 900 + "]" * 900 + "}]", id="as deep as it is read"),
    pytest.param("[" + "0," * 8000 + "0]", id="many entries"),
    pytest.param(json.dumps([{f"{n}": 0 for n in range(1500)}] * 1), id="many keys"),
    pytest.param(
        json.dumps([{"serviceName": "a", "metadata": {f"{n}": 0 for n in range(1500)}}]), id="many bad values"
    ),
    pytest.param(
        json.dumps([{"serviceName": "a", "metadata": {f"{n}": "" for n in range(1400)}}]), id="much metadata"
    ),
    pytest.param(
        json.dumps([{"serviceName": f"{n}/", "port": 0, "weight": "x" * 400} for n in range(32)]),
        id="all bad",
    ),
    pytest.param(
        json.dumps(
            [{"serviceName": f"{n}", "metadata": {f"{k}": "v" for k in range(32)}} for n in range(32)]
        ),
        id="all good",
    ),
    pytest.param("[" + "9" * 16_000 + "]", id="a long number"),
    pytest.param('["' + "\\u0000" * 2700 + '"]', id="a long string"),
    pytest.param("x" * 255 * 1024, id="255 KiB"),
]


@pytest.fixture
def uncollected() -> Iterator[None]:
    """No garbage is collected: that of all tests before would count."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_costs_little_time(text):
    for labels, annotations in (
        (PLAIN, {"rpc-service": text}),
        (KEY_VALUE, {"app.io/annotation": encoded(text)}),
    ):
        start = time.thread_time()
        read(labels, annotations)
        assert time.thread_time() - start < 0.05


def test_a_text_over_the_cap_is_refused_before_it_is_decoded_or_parsed(monkeypatch):
    def never(*_):
        raise AssertionError

    monkeypatch.setattr(dialects, "parse", never)
    declarations, problems = plain("[" * (LONGEST_ANNOTATION + 1))
    assert declarations == ()
    assert messages(problems) == ["rpc-service: 32769 bytes are more than the maximum of 16384"]
    _, problems = read(KEY_VALUE, {"app.io/annotation": "%" * (LONGEST_ANNOTATION + 1)})
    assert messages(problems) == ["app.io/annotation: 32769 bytes are more than the maximum of 16384"]


@pytest.mark.parametrize("padding", [0, 5000], ids=["short", "long"])
def test_an_unchanged_text_is_parsed_once_though_others_change_theirs(monkeypatch, padding):
    parsed = []
    monkeypatch.setattr(dialects, "parse", lambda text: parsed.append(text) or [])
    mine = json.dumps([f"mine{padding}" + "x" * padding])
    for number in range(500):
        plain(mine)
        plain(json.dumps([f"{padding}-{number}"]))
    assert parsed.count(mine) == 1
