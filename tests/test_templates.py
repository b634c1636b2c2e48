"""The template language: what it says, what it refuses in which words, and that it never raises."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from rpcregistry.layouts import Layout
from rpcregistry.layouts.forms import Child
from rpcregistry.layouts.placeholders import FIELDS, NAMES_ONLY
from rpcregistry.layouts.template import layout as from_template
from rpcregistry.layouts.templatefile import load
from rpcregistry.model import Endpoint, Problem
from rpcregistry.settings import template as read
from tests.test_layouts import C1, ENDPOINT, EXAMPLES, MARK, RICH


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        pytest.param({"name": "${pod}"}, "name: ", id="a name that nobody can tell from others"),
        pytest.param({"name": "${id}", "data": "${id}"}, "data: ", id="data made from itself"),
        pytest.param({"name": "${id}${nonsense}"}, "nonsense", id="a field that there is not"),
        pytest.param({"name": "${id}", "data": "$ip"}, "\\$ip", id="a dollar"),
        pytest.param({"name": "${id}", "data": {"a": ["${x.y}"]}}, "x.y", id="deep within"),
        pytest.param(
            {"name": "${id}", "bellow": "x"}, "bellow: .* name, data, directory", id="a key that there is not"
        ),
        pytest.param({"name": "${id}", "below": "../x"}, "below", id="out of the directory"),
        pytest.param({"data": "x"}, "name", id="no name"),
        pytest.param([], "mapping", id="no mapping"),
        pytest.param({"name": "x"}, "name: .*\\{id\\}", id="no placeholder in the name"),
        pytest.param({"name": "${id}/x"}, "name: .* no name of a znode", id="a name with a slash"),
        pytest.param({"name": "..${id}/.."}, "name: .* no name", id="a name that leads out"),
        pytest.param({"name": "0${id}0"}, "name: .* hides", id="a name that hides its mark always"),
        pytest.param({"name": "${id}", "data": 7}, "data: 7", id="a number as data"),
        pytest.param({"name": 7}, "name: 7", id="a number as name"),
        pytest.param({"name": "${id}", "data": "${hosst}"}, "hosst.*there is service, pod", id="the fields"),
        pytest.param({"name": "${id}", "data": "${ip|base64}"}, "base64.*there is url", id="the filters"),
        pytest.param(
            {"name": "${id}", "data": "${weight|1}"}, "filter '1'.*:-", id="a default like a filter"
        ),
        pytest.param(
            {"name": "${id}", "data": "${weight:-a}"}, "is a number", id="a default of another type"
        ),
        pytest.param({"name": "${id}", "data": "${metadata:-a}"}, "no default", id="a default of a mapping"),
        pytest.param(
            {"name": "${id}", "protocol": "${protocol}"}, "protocol: ", id="a placeholder in protocol"
        ),
        pytest.param(
            {"name": "${id}", "below": "${group}"}, "below: .*directory", id="a placeholder in below"
        ),
        pytest.param(
            {"name": "${id}", "directory": "${pod}"}, "pod.* service, group", id="a field of a directory"
        ),
        pytest.param({"name": "${id}", "directory": "/a"}, "directory: ", id="no segment"),
        pytest.param({"name": "${id}", "directory": "a", "below": "b"}, "write a/b", id="a directory, twice"),
        pytest.param(
            {"name": "${digits}", "directory": "a"}, "not \\$\\{digits\\}", id="digits among services"
        ),
        pytest.param({"name": "${id}", "encoding": "x"}, "there is java-string", id="an encoding"),
        pytest.param(
            {"name": "${id}", "encoding": "java-string", "data": {}}, "of a text", id="encoded JSON"
        ),
        pytest.param({"name": "${id}", "data": {1: 2}}, "quote it", id="a key that is no text"),
        pytest.param({"name": "${id}", "data": [float("nan")]}, "quote it", id="no JSON"),
        pytest.param({"name": "${id}", "data": [2**64]}, "quote it", id="a number that JSON readers lose"),
        pytest.param({"name": "${id}", "data": "\ud800"}, "no text", id="half a character"),
        pytest.param({"name": "${id}", "static": []}, "static: ", id="static: no mapping"),
        pytest.param({"name": "${id}", "static": {"a/${pod}": ""}}, "pod", id="static: an endpoint's path"),
        pytest.param(
            {"name": "${id}", "static": {"a/${group}": ""}}, "but .*service", id="static: a group's"
        ),
        pytest.param(
            {"name": "${id}", "static": {"a/b": "${ip}"}}, "ip.* endpoint's", id="static: an endpoint's data"
        ),
        pytest.param(
            {"name": "${id}", "static": {"a/b": "${service}"}},
            "one for all",
            id="static: whose it is by chance",
        ),
        pytest.param(
            {"name": "${id}", "static": {"${service}/a": ""}}, "among the endpoints", id="static: a child"
        ),
        pytest.param(
            {"name": "${id}-{pod}"}, r"name: \{pod\} .* write \$\{pod\}", id="a name without a dollar"
        ),
        pytest.param(
            {"name": "${id}", "directory": "${group:-a}/{service}"},
            r"directory: \{service\} .* write \$\{service\}",
            id="a directory without a dollar",
        ),
        pytest.param(
            {"name": "${id}", "directory": "{version:-1}"}, r"write \$\{version:-1\}", id="nor a default's"
        ),
        pytest.param({"name": "${id}", "below": "{group}"}, "below: .*group", id="below without a dollar"),
        pytest.param(
            {"name": "${id}", "static": {"{service}/a": ""}},
            r"write \$\{service\}",
            id="static: without a dollar",
        ),
    ],
)
def test_a_template_that_cannot_work_is_refused(fields: object, message: str):
    with pytest.raises((ValueError, msgspec.ValidationError), match=message):
        from_template(fields)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"data": "/{version}/{ip}"}, id="in data, which may be a template of its readers"),
        pytest.param({"directory": "{zone}"}, id="of no field"),
        pytest.param({"directory": "$${service}"}, id="after a dollar that is meant"),
    ],
)
def test_braces_that_are_no_forgotten_placeholder_stay(fields: dict[str, object]):
    from_template({"name": "${id}", **fields})


def test_what_a_template_can_say():
    data = {
        "u": "${version|url}",
        "$$": "${metadata.zone}",
        "n": [1, "${weight}", "${node}"],
        "w": "w=${weight}",
    }
    form = from_template({"name": "${service}:${id}", "data": data, "below": "a/b", "protocol": "p"})
    placed = form.place("echo", msgspec.structs.replace(RICH, version="a/b"), C1)

    assert placed.data == b'{"u":"a%2Fb","$":"a","n":[1,200],"w":"w=200"}'
    assert placed.name.startswith(f"echo:{MARK}-")


def test_a_template_may_change_how_it_marks_names():
    before, after = (from_template({"name": f"x-${{{mark}}}"}) for mark in ("id", "digits"))

    assert after.slot(before.place("echo", ENDPOINT, C1).name, C1) is not None


def test_a_name_that_is_no_path_segment_is_a_problem():
    form = from_template({"name": "${version}${id}"})

    assert form.place("echo", msgspec.structs.replace(ENDPOINT, version="a/b"), C1).reason == "InvalidName"


@pytest.mark.parametrize(
    ("name", "pod_name", "clear"),
    [
        pytest.param("${pod}_${digits}", "p1", True, id="apart"),
        pytest.param("${pod}${digits}", "echo-a", True, id="digits after a letter"),
        pytest.param("${pod}${digits}", "echo-1", False, id="digits after a digit"),
        pytest.param("${digits}${pod}", "1", False, id="digits before a digit"),
        pytest.param("${pod}${id}", "echo-x", True, id="the mark after what is no hexadecimal digit"),
        pytest.param("${pod}${id}", "echo-1", False, id="the mark after a hexadecimal digit"),
        pytest.param("${id}-${pod}", f"{MARK[:8]}-01234567", False, id="a second mark after it"),
        pytest.param("${pod}-${id}", f"{MARK[:8]}-01234567", True, id="a second mark before it"),
    ],
)
def test_a_name_that_hides_whose_it_is_is_a_problem(name: str, pod_name: str, clear: bool):
    """Nobody would know the znode again: it would be there for ever."""
    form = from_template({"name": name})
    placed = form.place("echo", msgspec.structs.replace(ENDPOINT, pod_name=pod_name), C1)

    if clear:
        assert isinstance(placed, Child)
        assert form.slot(placed.name, C1)
    else:
        assert placed.reason == "InvalidName"
        assert "'-'" in placed.message


def test_what_is_not_declared_is_null_a_default_or_nothing():
    data = {
        "null": None,
        "nothing": "${group}",
        "weight": "${weight:-1}",
        "text": "w=${weight:-1}&v=${version:-}",
        "zone": "${metadata.zone:-a/b|url}",
        "list": [None, "${node}", "${version:-0}"],
    }
    form = from_template({"name": "${id}", "data": data})

    assert form.place("echo", ENDPOINT, C1).data == (
        b'{"null":null,"weight":1,"text":"w=1&v=","zone":"a%2Fb","list":[null,"0"]}'
    )
    assert form.place("echo", RICH, C1).data == (
        b'{"null":null,"nothing":"g","weight":200,"text":"w=200&v=1.0.0","zone":"a","list":[null,"1.0.0"]}'
    )


def test_a_port_that_has_a_default_is_no_must():
    form = from_template({"name": "${id}", "data": "${ip}:${port:-80}"})

    assert form.place("echo", msgspec.structs.replace(ENDPOINT, port=None), C1).data == b"10.0.0.1:80"


@pytest.mark.parametrize(
    ("directory", "endpoint", "path"),
    [
        pytest.param("${service}/a", ENDPOINT, "/b/echo/a", id="below the service"),
        pytest.param("a/${service}", ENDPOINT, "/b/a/echo", id="above it"),
        pytest.param("${group}/${service}/${version:-0}", RICH, "/b/g/echo/1.0.0", id="divided"),
        pytest.param("${group:-x}/${service}/${version:-0}", ENDPOINT, "/b/x/echo/0", id="defaults"),
        pytest.param("${group}:${service}:${version}", RICH, "/b/g:echo:1.0.0", id="in one segment"),
        pytest.param("", ENDPOINT, "/b", id="flat"),
        pytest.param("all", ENDPOINT, "/b/all", id="one for all services"),
    ],
)
def test_where_children_lie(directory: str, endpoint: Endpoint, path: str):
    layout = Layout("mine", "/b", from_template({"name": "${id}", "directory": directory}))
    placed = layout.form.place("echo", endpoint, C1)
    found = f"{layout.directory('echo')}/{placed.name}"

    assert found.rpartition("/")[0] == path
    assert layout.is_child("echo", found)
    assert layout.form.slot_of("echo", placed.name, C1)
    assert all(layout.is_directory("echo", way) for way in ways(path))


def ways(path: str) -> list[str]:
    names = path.split("/")
    return ["/".join(names[:count]) for count in range(3, len(names) + 1)]


def test_only_a_directory_that_does_not_say_the_service_needs_it_in_the_mark():
    def slots(directory: str) -> set[str | None]:
        form = from_template({"name": "${id}", "directory": directory})
        name = form.place("echo", ENDPOINT, C1).name
        return {form.slot_of(service, name, C1) for service in ("echo", "other")}

    assert len(slots("${service}")) == 1
    assert None in slots("")
    assert None in slots("${group}-${service}")


def test_text_as_java_serializes_it():
    form = from_template({"name": "${id}", "data": "${metadata.k}", "encoding": "java-string"})

    def written(text: str) -> bytes:
        return form.place("echo", msgspec.structs.replace(ENDPOINT, metadata={"k": text}), C1).data

    assert written("a\0ü\U0001f600") == b"\xac\xed\0\5t\0\x0ba\xc0\x80\xc3\xbc\xed\xa0\xbd\xed\xb8\x80"
    assert written("x" * 70000) == b"\xac\xed\0\5|" + (70000).to_bytes(8, "big") + b"x" * 70000


# files


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            "name: ${id}\ndata:\n  a: 1\n  b: ${hosst}\n",
            r"line 4 \(b: \$\{hosst\}\): data.b: there is no field 'hosst'",
            id="a value",
        ),
        pytest.param(
            "name: ${id}\ndata: {port: ${port}}\n",
            r'line 2 \(data: \{port: \$\{port\}\}\): no YAML: .*quote each placeholder: "\$\{port\}"',
            id="a placeholder without quotes",
        ),
        pytest.param("name: ${id}\ndata:\n- a\n- $x\n", r"line 4 .*data.1: ", id="in a list"),
        pytest.param("name: ${id}\nbelow: ${x}\n", r"line 2 \(below: ", id="a key"),
        pytest.param("data: x\n", r"line 1 .*name: ", id="nothing of it"),
        pytest.param("", "mapping", id="empty"),
        pytest.param("a: [", "line .*no YAML", id="cut off"),
        pytest.param("name: !!bool x", "no YAML", id="what YAML's reader trips over"),
        pytest.param("[" * 5000, "no YAML", id="deep"),
        pytest.param("name: ${id}\ndata: &a [*a]\n", "contain itself", id="a loop"),
        pytest.param("\0", "no YAML", id="no text"),
    ],
)
def test_a_file_that_cannot_work_is_told_with_its_line(tmp_path: Path, text: str, message: str):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=message) as told:
        read(f"mine={file}")
    assert str(told.value).startswith(f"{file}: ")
    assert "\n" not in str(told.value).replace(text, "")


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.yaml")), ids=lambda file: file.stem)
def test_each_example_says_how_to_use_it_and_where_its_format_comes_from(file: Path):
    text = file.read_text()
    name, _ = read(f"{file.stem}={file}")

    assert f"--template {name}={file.name} --layout {name}=/" in text
    assert "# Source of the format: " in text


# whatever it says


TEXTS = st.lists(
    st.one_of(
        st.sampled_from(
            [
                *(f"${{{field}}}" for field in (*FIELDS, *NAMES_ONLY, "metadata.zone")),
                *("${id}", "-${id}-", "_${digits}", "$$", "${weight:-1}", "${version:-v|url}", "${group}"),
                *("${", "$", "}", "/", "-", "0", "..", "a", "${x}", "${ip|x}", ":-", "\0", "ü", "\ud800"),
            ]
        ),
        st.text(max_size=3),
    ),
    max_size=4,
).map("".join)
VALUES = st.recursive(
    st.one_of(TEXTS, st.none(), st.booleans(), st.integers(), st.floats()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=8,
)
TEMPLATES = st.one_of(
    VALUES,
    st.fixed_dictionaries(
        {"name": st.one_of(TEXTS, st.just("${id}"), st.just("${pod}-${id}"))},
        optional={
            "data": VALUES,
            "directory": TEXTS,
            "below": TEXTS,
            "protocol": TEXTS,
            "encoding": st.sampled_from(["", "java-string", "x"]),
            "static": st.one_of(st.dictionaries(TEXTS, VALUES, max_size=2), VALUES),
            "more": VALUES,
        },
    ),
)
WORDS = st.text(max_size=5).filter(lambda text: text.isprintable())
ENDPOINTS = st.builds(
    lambda port, weight, fields, metadata: msgspec.structs.replace(
        ENDPOINT, port=port, weight=weight, metadata=metadata, **fields
    ),
    st.sampled_from([None, 1, 65535]),
    st.sampled_from([None, 0, 10000]),
    st.fixed_dictionaries(
        {}, optional={"version": WORDS, "group": WORDS, "protocol": WORDS, "node_name": WORDS}
    ),
    st.dictionaries(st.one_of(st.just("zone"), WORDS), WORDS, max_size=3),
)


@settings(max_examples=400)
@given(TEMPLATES, ENDPOINTS, st.sampled_from(["echo", "com.foo.Outer$Inner", "a_b-c"]))
def test_a_template_renders_or_is_told_and_never_raises(says: Any, endpoint: Endpoint, service: str):
    try:
        form = from_template(says)
    except ValueError:
        return
    layout = Layout("mine", "/b", form)
    assert all(layout.is_directory(service, path) for path in layout.parents(service))
    match form.place(service, endpoint, C1):
        case Problem(reason, message):
            assert reason in ("MissingPort", "InvalidName")
            assert message
        case Child(name, data) as child:
            assert layout.is_child(service, f"{layout.directory(service)}/{name}")
            assert form.slot_of(service, name, C1)
            assert form.slot_of(service, name, "another") is None
            assert form.place(service, endpoint, C1) == child
            if isinstance(says.get("data", ""), Mapping | list):
                json.loads(data)


@settings(max_examples=200)
@given(
    st.one_of(TEMPLATES.map(lambda says: yaml.safe_dump(says) if is_plain(says) else ""), st.text(), TEXTS)
)
def test_a_file_is_read_or_told_and_never_raises(text: str):
    with suppress(ValueError):
        load(text)


def is_plain(says: Any) -> bool:
    """Whether YAML can be made of it."""
    try:
        yaml.safe_dump(says)
    except (yaml.YAMLError, UnicodeError):
        return False
    return True
