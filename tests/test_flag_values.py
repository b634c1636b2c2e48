"""What the values of flags may look like: label selectors, servers and addresses."""

import click
import pytest

from tests.commandline import parsed


@pytest.mark.parametrize(
    "text",
    [
        "a", "!a", "! a", "a=b", "a==b", "a!=b", "a=", "a in (b)", "a notin (b, c)", "a in (b,)", "a>1",
        "a < -1", "a.example/b=c", " a = b , !c ", "in=x", "in in (in)", "",
    ],
)  # fmt: skip
def test_what_kubernetes_takes_for_a_label_selector_is_taken(text: str):
    assert parsed("run", "--pod-label-selector", text)["pod_label_selector"] == text.strip()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("a=b=c", "'=c' cannot follow 'a=b'", id="twice ="),
        pytest.param("a b", "'b' cannot follow 'a'", id="no comma"),
        pytest.param("x=y,a in b", "'in b' cannot follow 'a'", id="no brackets"),
        pytest.param("a in (b", "'in (b' cannot follow 'a'", id="an open bracket"),
        pytest.param("a in (b c)", "'b c' is no label's value", id="values without a comma"),
        pytest.param("a>b", "'>b' cannot follow 'a'", id="no number"),
        pytest.param(",a", "',a' begins with no label", id="a comma first"),
        pytest.param("a,", "nothing follows its last comma", id="a comma last"),
        pytest.param("=b", "'=b' begins with no label", id="no name"),
        pytest.param("-a=b", "'-a' is no label's name", id="a name"),
        pytest.param("A B/c=d", "'B/c=d' cannot follow 'A'", id="a prefix with a space"),
        pytest.param("B_/c=d", "'B_/c' is no label's name", id="a prefix"),
        pytest.param("a=-b", "'-b' is no label's value", id="a value"),
        pytest.param(f"a={'b' * 64}", "is no label's value", id="a long value"),
    ],
)
def test_a_label_selector_that_is_none_is_refused_with_the_place(text: str, said: str):
    with pytest.raises(click.BadParameter) as failed:
        parsed("run", "--pod-label-selector", text)
    assert said in str(failed.value)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("zk", "zk"),
        ("zk1:2181, zk2:2182", "zk1:2181,zk2:2182"),
        ("zk_1.example.:2181/", "zk_1.example.:2181"),
        ("[::1]:2181,[fe80::2]/a/b/", "[::1]:2181,[fe80::2]/a/b"),
        ("10.0.0.1:65535/a b", "10.0.0.1:65535/a b"),
    ],
)
def test_what_zookeepers_servers_may_look_like(text: str, meant: str):
    assert parsed("run", "--zk-servers", text)["zk_servers"] == meant


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("a:1;b:1", "by commas", id="semicolons"),
        pytest.param("a:1,", "a server is missing", id="a comma last"),
        pytest.param(":2181", "has no host", id="no host"),
        pytest.param("a:", "'' is no port", id="no port"),
        pytest.param("a:0", "'0' is no port", id="port 0"),
        pytest.param("a:65536", "'65536' is no port", id="a large port"),
        pytest.param("::1:2181", "in brackets, like [::1]:2181", id="no brackets"),
        pytest.param("[::1]2181", "after ':'", id="nothing after a bracket"),
        pytest.param("[x]:1", "'[x]' is no host", id="no address in brackets"),
        pytest.param("a$:1", "'a$' is no host", id="a character that no host has"),
        pytest.param("zk://a:1", "without zk://", id="a scheme"),
        pytest.param("a:1/b//c", "a segment", id="an empty segment"),
        pytest.param("a:1/../b", "a segment", id="a chroot that climbs"),
        pytest.param("a:1/zookeeper/a", "ZooKeeper's own", id="ZooKeeper's own chroot"),
        pytest.param("a:1/b,c:1/b", "after the last server", id="a chroot each"),
    ],
)
def test_zookeepers_servers_are_checked(text: str, said: str):
    with pytest.raises(click.BadParameter) as failed:
        parsed("verify", "--zk-servers", text)
    assert said in str(failed.value)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("8080", "0.0.0.0:8080"),
        (":8080", "0.0.0.0:8080"),
        ("localhost:08080", "localhost:8080"),
        ("[::]:0", "[::]:0"),
    ],
)
def test_what_a_bind_address_may_look_like(text: str, meant: str):
    assert parsed("run", "--bind-address", text)["bind_address"] == meant


@pytest.mark.parametrize("text", ["", "foo", "foo:", ":x", "::1:8080", "[::1]8080", "a b:1", "1:65536", "-1"])
def test_a_bind_address_that_is_none_is_refused(text: str):
    with pytest.raises(click.BadParameter, match=r"\[::1\]:|no host"):
        parsed("run", "--bind-address", text)
