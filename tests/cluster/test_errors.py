"""What each command says of each cause, and with which exit code: each made for real."""

import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
import yaml
from kazoo.client import KazooClient
from kazoo.security import make_digest_acl

from hack.local.cluster import ADMIN_TOKEN, free_ports
from hack.local.controller import command as line_of
from hack.local.pki import Authority
from hack.local.zookeeper import Server, tls
from rpcregistry.kube.client import Kube
from rpcregistry.manifests import PODS
from rpcregistry.selector import label_selector
from tests.cluster.fixtures import CRDS
from tests.cluster.waiting import eventually
from tests.cluster.world import Controller

COMMANDS = {"verify": 2, "purge": 1, "release": 1}  # and with what they exit where they could not
TIMEOUT = "4s"  # longer than a server may take before it is said not to answer
NOWHERE = "no-such-host.invalid"


class Command:
    """A command that comes to an end: exit code and standard error."""

    def __init__(self, name: str, *flags: str) -> None:
        self.name = name
        self._process = subprocess.Popen(
            line_of(name, *flags),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )

    def end(self) -> tuple[int, str]:
        _, err = self._process.communicate(timeout=120)
        return self._process.returncode, err

    def assert_told(self, said: str) -> str:
        """It says so in one line, of ours, perhaps after one that says where it looks; return that.

        release goes on with what it may look at, and has a line for each thing that it may not.
        """
        code, err = self.end()
        assert code == COMMANDS[self.name], err
        where = [line for line in err.splitlines() if line.startswith("cluster ")]
        lines = [line for line in err.splitlines() if line not in where]
        assert len(where) <= (self.name == "verify"), err
        assert len(lines) == 1 or (lines and self.name == "release"), err
        assert all(line.startswith("rpcregistry: ") for line in lines), err
        assert re.search(said, lines[0]), err
        assert " object at 0x" not in err
        return lines[0]


class Run:
    """``rpcregistry run``, which goes on whatever is wrong."""

    def __init__(self, log: Path, kubeconfig: Path, zk_servers: str, *flags: str) -> None:
        (self._port,) = free_ports(1)
        bind = f"127.0.0.1:{self._port}"
        self.controller = Controller(
            kubeconfig, zk_servers, log, "--no-leader-elect", "--bind-address", bind, *flags
        ).start()

    def not_ready(self) -> str:
        """Why, by /readyz; empty where it does not answer yet, or is ready."""
        try:
            with urlopen(f"http://127.0.0.1:{self._port}/readyz", timeout=5):
                return ""
        except HTTPError as error:
            return error.read().decode()
        except OSError:
            return ""

    def assert_tells(self, said: str) -> None:
        """It goes on, says so by /readyz, and in its log once for each of its sources."""
        eventually(lambda: re.search(said, self.not_ready()))
        eventually(lambda: any(re.search(said, reason) for *_, reason in self._reasons()))
        assert self.controller.stop() == 0
        assert len(set(self._reasons())) == len(self._reasons()), self.controller.text()
        assert len(self.controller.logged()) == len(self.controller.text().splitlines())  # and nothing else
        assert "Traceback" not in self.controller.text()

    def _reasons(self) -> list[tuple[str, str, str]]:
        return [
            (line["event"], line.get("resource", ""), line["reason"])
            for line in self.controller.logged()
            if "reason" in line
        ]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Starts ``rpcregistry run``; ends it with the test."""
    with ExitStack() as stack:

        def start(*arguments: Any) -> Run:
            started = Run(tmp_path / "run.log", *arguments)
            stack.callback(started.controller.kill)
            return started

        yield start


# The API server


class Elsewhere:
    """What a kubeconfig can lead to besides the cluster."""

    def __init__(self, cluster: Any, folder: Path, stack: ExitStack) -> None:
        self.cluster = cluster
        self._folder = folder
        self._stack = stack

    def kubeconfig(
        self, server: str | None = None, token: str = ADMIN_TOKEN, ca: bytes | None = None
    ) -> Path:
        file = Path(self.cluster.kubeconfig_for(token, self._folder / "elsewhere", server))
        if ca:
            (self._folder / "ca.pem").write_bytes(ca)
            config = yaml.safe_load(file.read_text())
            config["clusters"][0]["cluster"]["certificate-authority"] = str(self._folder / "ca.pem")
            file.write_text(yaml.safe_dump(config))
        return file

    def full(self) -> int:
        """The port of a listener that takes no more connections: its backlog is full."""
        listening = self._stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        self._stack.enter_context(socket.create_connection(listening.getsockname()))
        return int(listening.getsockname()[1])

    def silent(self) -> int:
        """The port of a listener that takes connections and says nothing."""
        listening = self._stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64))
        return int(listening.getsockname()[1])

    def plain(self) -> int:
        """The port of a server of HTTP without TLS."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self._stack.callback(server.shutdown)
        return server.server_port

    def nobody(self) -> str:
        """The token of a ServiceAccount that may do nothing."""
        return str(self.cluster.kubectl("create", "token", "default", "--namespace", "default")).strip()


@pytest.fixture
def elsewhere(cluster: Any, tmp_path: Path) -> Iterator[Elsewhere]:
    with ExitStack() as stack:
        yield Elsewhere(cluster, tmp_path, stack)


Cause = Callable[[Elsewhere], Path]
API: list[Any] = [
    pytest.param(
        lambda e: e.kubeconfig(f"https://{NOWHERE}:6443"),
        rf"https://{NOWHERE}:6443: its name does not resolve: mend the address",
        id="no such name",
        marks=pytest.mark.full,
    ),
    pytest.param(
        lambda e: e.kubeconfig(f"https://127.0.0.1:{free_ports(1)[0]}"),
        r"https://127\.0\.0\.1:\d+: Connection refused: is the API server up",
        id="refused",
    ),
    pytest.param(
        lambda e: e.kubeconfig(f"https://127.0.0.1:{e.full()}"),
        r"https://127\.0\.0\.1:\d+: no connection in time: is there a route",
        id="no route",
        marks=pytest.mark.full,
    ),
    pytest.param(
        lambda e: e.kubeconfig(f"http://127.0.0.1:{e.silent()}"),
        r"http://127\.0\.0\.1:\d+: no answer in time",
        id="no answer",
        marks=pytest.mark.full,
    ),
    pytest.param(
        lambda e: e.kubeconfig(ca=Authority("another").pem),
        "its certificate is not accepted: .*: mend the certificate authority",
        id="another CA",
        marks=pytest.mark.full,
    ),
    pytest.param(
        lambda e: e.kubeconfig(f"https://127.0.0.1:{e.plain()}"),
        "it does not speak TLS: write http://",
        id="TLS to a plain port",
        marks=pytest.mark.full,
    ),
    pytest.param(
        lambda e: e.kubeconfig(e.cluster.server.replace("https", "http")),
        "400 Bad Request: it wants TLS: write https://",
        id="HTTP to a port for TLS",
        marks=pytest.mark.full,
    ),
    pytest.param(
        lambda e: e.kubeconfig(token="expired"),
        "401 Unauthorized: .*our credentials: renew the token",
        id="a token that is not valid",
        marks=pytest.mark.full,
    ),
    pytest.param(
        lambda e: e.kubeconfig(token=""),
        "403 Forbidden: .*: we have no credentials: mend the kubeconfig's user",
        id="no token",
        marks=pytest.mark.full,
    ),
    pytest.param(
        lambda e: e.kubeconfig(token=e.nobody()),
        r"403 Forbidden: .*:serviceaccount:default:default.* cannot .*: needs \w+ on \w+: see the role in",
        id="no rights",
    ),
]


@pytest.mark.parametrize(("cause", "said"), API)
def test_an_api_server_that_cannot_be_asked(
    crds: None, elsewhere: Elsewhere, cause: Cause, said: str, run: Callable[..., Run]
) -> None:
    kubeconfig = cause(elsewhere)
    commands = [Command(name, "--kubeconfig", str(kubeconfig)) for name in COMMANDS]
    started = run(kubeconfig, elsewhere.cluster.zk_servers)
    for command in commands:
        command.assert_told(said)
    started.assert_tells(said)


@pytest.fixture
def no_crds(cluster: Any) -> Iterator[None]:
    """A cluster to which nobody has applied the CRDs."""
    cluster.kubectl("delete", "-f", str(CRDS), "--ignore-not-found")
    yield
    cluster.kubectl("apply", "-f", str(CRDS))
    cluster.kubectl("wait", "--for=condition=Established", "-f", str(CRDS), "--timeout=30s")


def test_crds_that_nobody_applied(cluster: Any, no_crds: None, run: Callable[..., Run]) -> None:
    said = r"the kind RpcService is not there: kubectl apply -f crds/"
    for name in ("verify", "release"):
        Command(name, "--kubeconfig", str(cluster.kubeconfig)).assert_told(said)
    run(cluster.kubeconfig, cluster.zk_servers).assert_tells(said)


def test_label_selectors_that_we_take_are_those_that_the_server_takes(cluster: Any) -> None:
    kube = Kube.from_config(str(cluster.kubeconfig))
    for text in (
        "a", "!a", "! a", "a=b", "a==b", "a!=b", "a=", "a in (b)", "a notin (b, c)", "a in (b,)", "a in ()",
        "a>1", "a < 1", "a.example/b=c", " a = b , !c ", "in=x", "in in (in)",
    ):  # fmt: skip
        assert label_selector(text) == text.strip()
        kube.list(PODS, "default", text)
    for text in ("a=b=c", "a b", "a in b", "a in (b", "a>b", ",a", "a,", "=b", "-a=b", "a=-b", "a in (b c)"):
        with pytest.raises(ValueError, match="no label selector"):
            label_selector(text)
        with pytest.raises(Exception, match="400"):
            kube.list(PODS, "default", text)


# ZooKeeper


class Secured:
    """A ZooKeeper server with TLS on one port and none on the other, that asks for users of SASL."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        authority = Authority("the ensemble's CA")
        self.ca = self._file("ca.pem", authority.pem)
        self.other_ca = self._file("other.pem", Authority("another CA").pem)
        certificate = self._file("server.pem", b"".join(authority.issue("zookeeper", ["localhost"])))
        options = {"enforce.auth.enabled": "true", "enforce.auth.schemes": "sasl"}
        self.server = Server(
            folder, options=options, tls=tls(certificate, self.ca), users={"registry": "right"}
        )
        self.user = self._file("user", b"registry:right")
        self.wrong_user = self._file("wrong", b"registry:wrong")

    @property
    def plain(self) -> str:
        return f"localhost:{self.server.port}"

    @property
    def secure(self) -> str:
        return f"localhost:{self.server.secure_port}"

    def _file(self, name: str, content: bytes) -> Path:
        file = self.folder / name
        file.write_bytes(content)
        return file


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    secured = Secured(tmp_path_factory.mktemp("secured"))
    secured.server.up()
    yield secured
    secured.server.process.kill()


SASL = ("--zk-auth-scheme", "sasl", "--zk-auth-file")
ZOOKEEPER: list[Any] = [
    pytest.param(
        lambda s, e: ["--zk-servers", f"{NOWHERE}:2181"],
        f"{NOWHERE}:2181: no address is found for that name",
        id="no such name",
        marks=pytest.mark.full,
    ),
    pytest.param(
        lambda s, e: ["--zk-servers", f"127.0.0.1:{free_ports(1)[0]}"],
        r"127\.0\.0\.1:\d+: Connection refused",
        id="refused",
        marks=pytest.mark.full,
    ),
    pytest.param(
        lambda s, e: ["--zk-servers", f"127.0.0.1:{e.silent()}"],
        r"127\.0\.0\.1:\d+: it takes the connection, and does not answer",
        id="no answer",
        marks=pytest.mark.full,
    ),
    pytest.param(
        lambda s, e: ["--zk-servers", s.secure, "--zk-tls-ca", str(s.other_ca)],
        r"localhost:\d+: its certificate is not accepted: unable to get local issuer",
        id="another CA",
        marks=pytest.mark.full,
    ),
    pytest.param(
        lambda s, e: ["--zk-servers", s.secure],
        r"localhost:\d+: it closes the connection at once: does it ask for .* or TLS \(--zk-tls-ca\)\?",
        id="a plain client on a port for TLS",
        marks=pytest.mark.full,
    ),
    pytest.param(
        lambda s, e: ["--zk-servers", s.plain, "--zk-tls-ca", str(s.ca)],
        r"localhost:\d+: no TLS: .*is that its port for TLS\?",
        id="TLS on a plain port",
        marks=pytest.mark.full,
    ),
    pytest.param(
        lambda s, e: ["--zk-servers", s.plain],
        "it asks for credentials: give --zk-auth-file",
        id="no credentials",
    ),
    pytest.param(
        lambda s, e: ["--zk-servers", s.plain, *SASL, str(s.wrong_user)],
        "it refuses our credentials: mend --zk-auth-file",
        id="wrong credentials",
        marks=pytest.mark.full,
    ),
    pytest.param(
        lambda s, e: ["--zk-servers", s.plain, "--zk-auth-file", str(s.user)],
        "it does not accept our credentials: mend --zk-auth-file, or --zk-auth-scheme",
        id="another scheme",
        marks=pytest.mark.full,
    ),
]


@pytest.mark.parametrize(("flags", "said"), ZOOKEEPER)
def test_a_zookeeper_that_cannot_be_asked(
    cluster: Any,
    crds: None,
    secured: Secured,
    elsewhere: Elsewhere,
    flags: Callable[[Secured, Elsewhere], Sequence[str]],
    said: str,
    run: Callable[..., Run],
) -> None:
    wrong = flags(secured, elsewhere)
    where = ("--kubeconfig", str(cluster.kubeconfig), "--timeout", TIMEOUT)
    commands = [Command(name, *where, *wrong) for name in ("verify", "purge")]
    # In one namespace where there is nothing: what other tests left would be looked at, too.
    started = run(cluster.kubeconfig, "unused", "--namespace", "empty", *wrong)
    for command in commands:
        assert "ZooKeeper at " in command.assert_told(said)
    started.assert_tells(said)


def test_a_znode_that_belongs_to_somebody_else(
    cluster: Any, crds: None, secured: Secured, zk: KazooClient, namespace: str
) -> None:
    """With digest, everybody is let in: who may not, shows at the znode."""
    acl = [make_digest_acl("somebody", "else", all=True)]
    zk.create(f"/{namespace}", acl=acl)
    flags = ("--kubeconfig", str(cluster.kubeconfig), "--zk-servers", cluster.zk_servers)
    wrong = ("--layout", f"kube2zk=/{namespace}", "--zk-auth-file", str(secured.user))
    Command("verify", *flags, *wrong).assert_told(
        rf"/{namespace}: its ACL .*: mend --zk-auth-file, or that ACL by"
    )


def test_with_verbose_a_command_lets_libraries_speak(cluster: Any, crds: None, secured: Secured) -> None:
    flags = ("--kubeconfig", str(cluster.kubeconfig), "--zk-servers", secured.plain, "--timeout", TIMEOUT)
    quiet, loud = Command("verify", *flags), Command("verify", *flags, "--verbose")
    assert quiet.end()[1].count("\n") == 2
    _, err = loud.end()
    assert "kazoo" in err
    assert "zookeeper not connected" in err
