"""The command line: what it takes, what it says, and with which exit code."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from kazoo.security import OPEN_ACL_UNSAFE

from rpcregistry.cli import CONTROLLERS, run_command, translate
from rpcregistry.plan.publication import Adopt, CrossNamespace, Policy
from tests.commandline import parsed
from tests.pages import TOP

UNREACHABLE = """
apiVersion: v1
kind: Config
clusters: [{name: a, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: a, user: {}}]
contexts: [{name: a, context: {cluster: a, user: a}}]
current-context: a
"""


@pytest.fixture
def kubeconfig(tmp_path: Path) -> str:
    file = tmp_path / "kubeconfig"
    file.write_text(UNREACHABLE)
    return str(file)


# What it takes


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param(["verify"], ["verify"], id="a command"),
        pytest.param(["--dry-run"], ["run", "--dry-run"], id="run is what it does"),
        pytest.param(["--help"], ["--help"], id="but for help"),
        pytest.param(["-namespace", "x"], ["run", "--namespace", "x"], id="one dash"),
        pytest.param(["--zkservers=a:1,b:2"], ["run", "--zk-servers=a:1,b:2"], id="two dashes, and ="),
        pytest.param(["-syncperiod=1h0m0s"], ["run", "--resync-period=1h0m0s"], id="a period"),
        pytest.param(["-mockregistry"], ["run", "--dry-run"], id="Go's bool"),
        pytest.param(["-mockregistry=FALSE"], ["run", "--no-dry-run"], id="Go's bool, false"),
        pytest.param(["run", "--zkpath", "/x"], ["run", "--zkpath", "/x"], id="after the command"),
    ],
)
def test_kube2zks_flags(arguments: list[str], expected: list[str]):
    assert translate(arguments) == expected


def test_kube2zks_own_command_line_means_what_it_meant():
    flags = parsed("-namespace=", "-zkservers=zk:2181", "-zkpath=/a/b", "-syncperiod=1h0m0s", "-mockregistry")

    assert (flags["namespaces"], flags["zk_servers"], flags["zkpath"]) == ((), "zk:2181", "/a/b")
    assert (flags["resync_period"], flags["dry_run"]) == (3600.0, True)


@pytest.mark.parametrize("flag", ["-syncperiod", "--syncperiod"])
def test_kube2zks_period_without_a_unit_is_in_seconds(flag: str):
    assert parsed(flag, "30")["resync_period"] == 30.0
    assert parsed(f"{flag}=30")["resync_period"] == 30.0
    assert parsed(flag, "1h0m0s")["resync_period"] == 3600.0


def test_kube2zks_variables_are_read(monkeypatch: pytest.MonkeyPatch):
    for name, value in {"namespace": "prod", "zkservers": "zk:2181", "zkpath": "/a"}.items():
        monkeypatch.setenv(name, value)
    flags = parsed("run")
    assert (flags["namespaces"], flags["zk_servers"], flags["zkpath"]) == (("prod",), "zk:2181", "/a")

    for name in ("namespace", "zkservers", "zkpath"):
        monkeypatch.setenv(name, "")
    flags = parsed("run")
    assert (flags["namespaces"], flags["zk_servers"], flags["zkpath"]) == ((), "127.0.0.1:2181", None)


DEFAULTS: dict[str, Any] = {
    "kubeconfig": None,
    "context": None,
    "namespaces": (),
    "pod_label_selector": "",
    "controllers": ("rpcservice", "localservice", "registry"),
    "node_label": "rpcregistry.dev/node",
    "zk_servers": "127.0.0.1:2181",
    "zk_auth_file": None,
    "zk_auth_scheme": "digest",
    "zk_acl": None,
    "zk_tls_ca": None,
    "zk_tls_cert": None,
    "zk_tls_key": None,
    "layouts": (),
    "templates": (),
    "cluster_id": "",
    "from_cluster": "",
    "cross_namespace": CrossNamespace.UNION,
    "require_register_permission": False,
    "leader_elect": True,
    "lease_namespace": "",
    "dry_run": False,
    "once": False,
    "batch_window": 0.1,
    "resync_period": 3600.0,
    "compare_period": 60.0,
    "policy": Policy.SYNC,
    "adopt": Adopt.UNOWNED,
    "guard_confirm": 30.0,
    "ownership_grace": 86400.0,
    "endpoints_per_object": 100,
    "services_per_namespace": 0,
    "max_znode_bytes": 512 * 1024,
    "generated_labels": {},
    "bind_address": "0.0.0.0:8080",
    "ui_bind_address": "127.0.0.1:8081",
    "ui_hosts": (),
    "ui_auth": "none",
    "ui_insecure": False,
    "log_format": None,
    "log_level": "info",
    "zkpath": None,
}


@pytest.fixture(autouse=True)
def default_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests that run controllers give each a port of its own."""
    monkeypatch.delenv("RPCREGISTRY_UI_BIND_ADDRESS")


def test_the_defaults_are_those_of_the_contract():
    assert parsed("run") == DEFAULTS


@pytest.mark.parametrize(
    ("variable", "text", "flag", "value"),
    [
        ("KUBECONFIG", "/x", "kubeconfig", "/x"),
        ("CONTEXT", "prod", "context", "prod"),
        ("NAMESPACE", "a b", "namespaces", ("a", "b")),
        ("POD_LABEL_SELECTOR", "a=b", "pod_label_selector", "a=b"),
        ("CONTROLLERS", "registry", "controllers", ("registry",)),
        ("NODE_LABEL", "vm/rack", "node_label", "vm/rack"),
        ("ZK_SERVERS", "zk:1", "zk_servers", "zk:1"),
        ("ZK_AUTH_FILE", "/user", "zk_auth_file", "/user"),
        ("ZK_AUTH_SCHEME", "sasl", "zk_auth_scheme", "sasl"),
        ("ZK_ACL", "world:anyone:cdrwa", "zk_acl", tuple(OPEN_ACL_UNSAFE)),
        ("ZK_TLS_CA", "/ca", "zk_tls_ca", "/ca"),
        ("ZK_TLS_CERT", "/cert", "zk_tls_cert", "/cert"),
        ("ZK_TLS_KEY", "/key", "zk_tls_key", "/key"),
        ("LAYOUT", "kube2zk=/a kube2zk=/b", "layouts", ("kube2zk=/a", "kube2zk=/b")),
        ("CLUSTER_ID", "c", "cluster_id", "c"),
        ("FROM_CLUSTER", "old", "from_cluster", "old"),
        ("CROSS_NAMESPACE", "deny", "cross_namespace", CrossNamespace.DENY),
        ("REQUIRE_REGISTER_PERMISSION", "true", "require_register_permission", True),
        ("LEADER_ELECT", "false", "leader_elect", False),
        ("LEASE_NAMESPACE", "x", "lease_namespace", "x"),
        ("DRY_RUN", "1", "dry_run", True),
        ("ONCE", "1", "once", True),
        ("GENERATED_LABELS", "team=shop,a/b=", "generated_labels", {"team": "shop", "a/b": ""}),
        ("BATCH_WINDOW", "1s", "batch_window", 1.0),
        ("RESYNC_PERIOD", "0", "resync_period", 0.0),
        ("COMPARE_PERIOD", "5m", "compare_period", 300.0),
        ("POLICY", "upsert-only", "policy", Policy.UPSERT_ONLY),
        ("ADOPT", "never", "adopt", Adopt.NEVER),
        ("GUARD_CONFIRM", "1m30s", "guard_confirm", 90.0),
        ("OWNERSHIP_GRACE", "1h", "ownership_grace", 3600.0),
        ("ENDPOINTS_PER_OBJECT", "3", "endpoints_per_object", 3),
        ("SERVICES_PER_NAMESPACE", "100", "services_per_namespace", 100),
        ("MAX_ZNODE_BYTES", "1MiB", "max_znode_bytes", 1024 * 1024),
        ("BIND_ADDRESS", "127.0.0.1:0", "bind_address", "127.0.0.1:0"),
        ("UI_BIND_ADDRESS", "none", "ui_bind_address", ""),
        ("UI_BIND_ADDRESS", ":8081", "ui_bind_address", "0.0.0.0:8081"),
        ("UI_HOST", "a.example b.example", "ui_hosts", ("a.example", "b.example")),
        ("UI_AUTH", "kubernetes", "ui_auth", "kubernetes"),
        ("UI_INSECURE", "1", "ui_insecure", True),
        ("LOG_FORMAT", "json", "log_format", "json"),
        ("LOG_LEVEL", "DEBUG", "log_level", "debug"),
    ],
)
def test_each_flag_has_a_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, flag: str, value: object
):
    monkeypatch.setenv(f"RPCREGISTRY_{variable}", text)

    assert parsed("run") == {**DEFAULTS, flag: value}


def test_verify_reads_the_variables_that_run_reads(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RPCREGISTRY_CLUSTER_ID", "c")
    monkeypatch.setenv("zkservers", "zk:1")
    flags = parsed("verify")

    assert (flags["cluster_id"], flags["zk_servers"]) == ("c", "zk:1")


@pytest.mark.parametrize(
    "command", ["run", "verify", "release", "purge", "status", "get", "explain", "watch", "check"]
)
def test_each_command_that_reads_a_cluster_takes_a_context(
    command: str, kubeconfig: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("RPCREGISTRY_CONTEXT", "staging")
    names = ["echo"] if command == "explain" else []
    assert parsed(command, *names)["context"] == "staging"
    assert parsed(command, "--context", "prod", *names)["context"] == "prod"

    assert exit_code(command, "--kubeconfig", kubeconfig, *names) == 2
    assert_one_line(capfd.readouterr().err, "there is no context 'staging': its contexts are a")


@pytest.mark.parametrize("command", ["verify", "purge"])
def test_how_long_zookeeper_may_take_can_be_said(command: str, monkeypatch: pytest.MonkeyPatch):
    assert parsed(command)["timeout"] == 15.0
    monkeypatch.setenv("RPCREGISTRY_TIMEOUT", "1m")
    assert parsed(command)["timeout"] == 60.0


def test_render_reads_the_variables_that_run_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    template, pod = tmp_path / "mine.yaml", tmp_path / "pod.yaml"
    template.write_text('name: "${pod}-${id}"\ndata: "${address}"\n')
    pod.write_text(
        "{kind: Pod, metadata: {name: p, labels: {rpc-service: 'true'}, annotations: {rpc-service: "
        '\'[{"serviceName": "echo", "port": 1}]\'}}, spec: {}}'
    )
    monkeypatch.setenv("RPCREGISTRY_TEMPLATE", f"mine={template}")
    monkeypatch.setenv("RPCREGISTRY_LAYOUT", "kube2zk=/a mine=/b")
    assert exit_code("render", str(pod)) == 0
    shown = capfd.readouterr().out
    assert "/a/echo" in shown
    assert "/b/echo/p-" in shown

    monkeypatch.setenv("RPCREGISTRY_LAYOUT", "kube2zk=/a,curator=/b")
    assert exit_code("render", str(pod)) == 2
    assert_one_line(capfd.readouterr().err, "by spaces in RPCREGISTRY_LAYOUT")


# What it refuses

WRONG = [
    pytest.param(["nonsense"], "nonsense", id="a command"),
    pytest.param(["run", "--nonsense"], "--nonsense", id="a flag"),
    pytest.param(["run", "--batch-window", "5"], "write 5s", id="a duration without a unit"),
    pytest.param(["run", "--resync-period", "30"], "write 30s", id="seconds, but not of kube2zk's flag"),
    pytest.param(["run", "--guard-confirm", "1d"], "units: h, m, s, ms", id="a duration in days"),
    pytest.param(["run", "--max-znode-bytes", "512 kib"], "units: B, KiB", id="a size's unit"),
    pytest.param(["run", "--max-znode-bytes", "0"], "more than 0", id="a size of nothing"),
    pytest.param(["run", "--ownership-grace", "99999999999h"], "too long", id="an endless duration"),
    pytest.param(["run", "--compare-period", "0"], "more than 0", id="a period of nothing"),
    pytest.param(["run", "--max-znode-bytes", "big"], "512KiB", id="a size"),
    pytest.param(["run", "--zk-acl", "mine"], "world:anyone:r", id="an ACL"),
    pytest.param(["run", "--zk-acl", "auth::cdrwa"], "--zk-auth-file", id="an ACL for nobody"),
    pytest.param(["run", "--zk-tls-cert", "/cert"], "--zk-tls-ca", id="half of TLS"),
    pytest.param(["run", "--zk-auth-file", "/no/file"], "/no/file: No such file", id="a missing file"),
    pytest.param(["run", "--layout", "kube2zk"], "NAME=BASEPATH", id="a layout without a path"),
    pytest.param(["run", "--layout", "dubbi=/x"], "kube2zk", id="an unknown layout"),
    pytest.param(
        ["run", "--layout", "nerve=/x"], "--template nerve=FILE", id="a layout without its template"
    ),
    pytest.param(["run", "--layout", "dubbo="], "write dubbo=/dubbo", id="a layout with no path"),
    pytest.param(["run", "--layout", "dubbo=/"], "write dubbo=/dubbo", id="a layout at the root"),
    pytest.param(["run", "--layout", "dubbo=x"], "write '/x'", id="a layout's path without its slash"),
    pytest.param(["run", "--layout", "dubbo=/a,curator=/b"], "repeat --layout", id="layouts and a comma"),
    pytest.param(
        ["run", "--zkpath", "/a", "--layout", "dubbo=/b"], "--layout kube2zk=/a", id="a layout and --zkpath"
    ),
    pytest.param(["run", "--layout", "kube2zk=/a", "--layout", "kube2zk=/a/"], "two", id="a layout twice"),
    pytest.param(
        ["run", "--layout", "dubbo=/a", "--layout", "kube2zk=/a/b"], "within", id="a layout within another"
    ),
    pytest.param(["run", "--template", "mine"], "NAME=FILE", id="a template without a file"),
    pytest.param(
        ["run", "--template", "mine=/no/such"], ": /no/such: No such file", id="a template that is not there"
    ),
    pytest.param(
        ["run", "--template", f"mine={TOP}/examples/layouts/nerve.yaml"],
        "add --layout mine=/mine",
        id="a template that no layout uses",
    ),
    pytest.param(["run", "--template", "dubbo=/x"], "another name", id="a template called as a layout is"),
    pytest.param(["-zkpath", "rpc_v2"], "'/rpc_v2'", id="K4: a base path without a leading slash"),
    pytest.param(["-zkpath", "/a/../b"], "/rpc_v2", id="a base path that climbs"),
    pytest.param(["-zkpath", "/zookeeper"], "reserved", id="ZooKeeper's own base path"),
    pytest.param(["-zkpath", "/"], "segments", id="the root as a base path"),
    pytest.param(["run", "--controllers", "registry,x"], "choose from", id="a controller"),
    pytest.param(["run", "--node-label", "a b"], "no label's name", id="a label"),
    pytest.param(["run", "--node-label", "/node"], "no label's name", id="a label with an empty prefix"),
    pytest.param(["run", "--controllers", ""], "choose from", id="no controller"),
    pytest.param(["run", "--namespace", ".."], "no namespace", id="a namespace that climbs"),
    pytest.param(["run", "--namespace", "a,b"], "repeat the flag", id="namespaces and a comma"),
    pytest.param(["run", "--lease-namespace", "A"], "no namespace", id="a namespace of the Lease"),
    pytest.param(
        ["verify", "--cluster-id", "a", "--from-cluster", "a"], "same cluster", id="a cluster's own heir"
    ),
    pytest.param(["run", "--pod-label-selector", "a=b=c"], "'=c' cannot follow 'a=b'", id="a selector"),
    pytest.param(["run", "--bind-address", "foo"], "0.0.0.0:8080", id="a bind address without a port"),
    pytest.param(["run", "--bind-address", ":99999"], "HOST:PORT", id="a port that there is not"),
    pytest.param(["run", "--zk-servers", ""], "a server is missing", id="no servers"),
    pytest.param(["run", "--zk-servers", "a:1 b:2"], "separate servers by commas", id="servers and a space"),
    pytest.param(["verify", "--zk-servers", "a:b"], "'b' is no port", id="no port of a server"),
    pytest.param(["purge", "--zk-servers", "a:1/b,c:1/b"], "comes once", id="a chroot for each server"),
    pytest.param(["release", "--namespace", "A B"], "no namespace", id="a namespace of release"),
    pytest.param(["release", "--all", "echo"], "all services", id="all services and one"),
    pytest.param(["release", "--all", "--namespace", "a"], "all namespaces", id="all namespaces and one"),
    pytest.param(["release", "--timeout", "0"], "more than 0", id="no time to wait for a release"),
    pytest.param(["run", "--cluster-id", "a/b"], "no cluster id", id="a cluster id with a slash"),
    pytest.param(["run", "--policy", "maybe"], "upsert-only", id="a policy"),
    pytest.param(["run", "--endpoints-per-object", "0"], "1", id="no endpoints an object"),
    pytest.param(["run", "--endpoints-per-object", "2001"], "2000", id="more endpoints than fit"),
    pytest.param(["verify", "--timeout", "15"], "write 15s", id="a timeout without a unit"),
    pytest.param(["purge", "--timeout", "0"], "more than 0", id="no time at all"),
    pytest.param(["render"], "FILE", id="nothing to render"),
]


@pytest.fixture
def everything_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Where the API server and ZooKeeper are, unless a flag says otherwise; nobody accepts there."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        file = tmp_path / "listening"
        file.write_text(UNREACHABLE.replace("127.0.0.1:1", address))
        monkeypatch.setenv("RPCREGISTRY_KUBECONFIG", str(file))
        monkeypatch.setenv("RPCREGISTRY_ZK_SERVERS", address)
        listening.setblocking(False)
        yield listening


@pytest.mark.parametrize(("arguments", "said"), WRONG)
def test_wrong_usage_is_said_in_one_line_and_exits_with_2_before_anything_is_connected(
    arguments: list[str], said: str, everything_listens: socket.socket, capfd: pytest.CaptureFixture[str]
):
    code = run_command(arguments)
    out, err = capfd.readouterr()

    assert (code, out) == (2, "")
    assert_one_line(err, said)
    with pytest.raises(BlockingIOError):
        everything_listens.accept()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["--kubeconfig", "/nowhere"], "/nowhere", id="no kubeconfig"),
        pytest.param(["--bind-address", "192.0.2.1:1"], "HOST:PORT", id="another machine's address"),
        pytest.param(["--ui-bind-address", ":8081"], "--ui-auth=kubernetes", id="a page for everybody"),
    ],
)
def test_a_wrong_configuration_is_said_in_one_line_and_exits_with_2(
    arguments: list[str], said: str, kubeconfig: str
):
    done = process("run", "--kubeconfig", kubeconfig, *arguments)

    assert (done.returncode, done.stdout) == (2, "")
    assert_one_line(done.stderr, said)


def exit_code(*arguments: str) -> int:
    """Of a command, which either returns or exits with it."""
    try:
        return run_command(arguments)
    except SystemExit as end:
        return int(end.code or 0)


def process(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rpcregistry", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def assert_one_line(err: str, said: str) -> None:
    assert err.count("\n") == 1
    assert err.startswith("rpcregistry: ")
    assert said in err


@pytest.mark.parametrize("command", ["run", "verify", "release", "purge"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(None, "no such file", id="missing"),
        pytest.param("", "it is empty", id="empty"),
        pytest.param("{", "it is no YAML", id="no YAML"),
        pytest.param("[]", "it is no kubeconfig", id="no kubeconfig"),
        pytest.param(
            UNREACHABLE.replace("current-context: a", ""),
            "no current-context is set: name one by --context; its contexts are a",
            id="no current context",
        ),
    ],
)
def test_a_kubeconfig_that_cannot_be_used_is_bad_configuration(
    command: str, content: str | None, said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    file = tmp_path / "kubeconfig"
    if content is not None:
        file.write_text(content)

    assert exit_code(command, "--kubeconfig", str(file)) == 2
    err = capfd.readouterr().err
    assert_one_line(err, said)
    assert str(file) in err


def test_a_cluster_that_cannot_be_reached_is_2_for_verify_and_1_for_release(kubeconfig: str):
    verify, release = (process(name, "--kubeconfig", kubeconfig) for name in ("verify", "release"))

    assert (verify.returncode, release.returncode) == (2, 1)
    assert_one_line(verify.stderr, "cannot look")
    assert_one_line(release.stderr, "127.0.0.1")


def test_the_module_is_the_command():
    assert process("--version").stdout.startswith("rpcregistry, version ")


def test_durations_that_pass_fit_the_clocks_that_count_them():
    grace = parsed("run", "--ownership-grace", "87840h")["ownership_grace"]

    assert timedelta(seconds=grace).days == 3660


def test_every_part_of_the_process_can_be_chosen():
    from rpcregistry.run import PARTS

    assert set(CONTROLLERS) == PARTS.keys()
