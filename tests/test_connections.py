"""Every way that a kubeconfig or a pod has to connect to an API server, each to a real TLS server."""

import socket
import ssl
import stat
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hack.local.pki import Authority
from rpcregistry.errors import Retry, Unknown
from rpcregistry.kube.client import Kube
from rpcregistry.manifests import PODS
from tests.test_kube import FAST, Answer, Request, Server, page, serving, set_proxy, status

NAME = "api.test"  # resolves nowhere


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("the cluster's CA")


@pytest.fixture(scope="module")
def stranger() -> Authority:
    return Authority("another CA")


@pytest.fixture
def tls(authority: Authority, tmp_path: Path) -> Callable[..., ssl.SSLContext]:
    """Makes what a server needs, with a certificate for *names*; its clients show one of *clients*."""

    def make(*names: str, clients: Authority | None = None) -> ssl.SSLContext:
        key, certificate = authority.issue("kube-apiserver", names)
        (tmp_path / "server.pem").write_bytes(key + certificate)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "server.pem")
        if clients:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata=clients.pem.decode())
        return context

    return make


@contextmanager
def api(context: ssl.SSLContext, token: Callable[[], str] = str, host: str = "127.0.0.1") -> Iterator[Server]:
    """An API server that lists no pods to whoever has the *token*, if there is one."""

    def answer(request: Request) -> Answer:
        given = request.headers.get("Authorization", "")
        return page() if given == (f"Bearer {token()}" if token() else "") else status(401, "Unauthorized")

    server = Server(answer, host)
    # Each connection shakes hands in its own thread, for one that fails is no failure of the server's.
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    with serving(server):
        yield server


def connect(folder: Path, cluster: dict[str, Any], user: dict[str, Any] | None = None) -> Kube:
    """A client by a kubeconfig."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user or {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (folder / "kubeconfig").write_bytes(msgspec.json.encode(config))
    return Kube.from_config(str(folder / "kubeconfig"), timeouts=FAST)


def trusting(authority: Authority, server: str, **more: str) -> dict[str, Any]:
    """A kubeconfig's cluster at the URL *server*, whose certificate *authority* signed."""
    return {"server": server, "certificate-authority-data": text(authority.pem), **more}


def text(pem: bytes) -> str:
    return b64encode(pem).decode()


def fails(kube: Kube, *said: str) -> None:
    with pytest.raises(Retry) as caught:
        kube.list(PODS)
    for part in said:
        assert part in str(caught.value)


def test_the_authority_may_be_a_file_or_in_the_kubeconfig(tls, authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_bytes(authority.pem)
    with api(tls("localhost")) as server:
        url = f"https://localhost:{server.port}"
        connect(tmp_path, {"server": url, "certificate-authority": str(tmp_path / "ca.crt")}).list(PODS)
        connect(tmp_path, trusting(authority, url)).list(PODS)
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("names", "mistaken", "said"),
    [
        pytest.param(["localhost"], True, "issuer", id="by another authority"),
        pytest.param(["elsewhere"], False, "localhost", id="of another host"),
    ],
)
def test_a_server_with_a_wrong_certificate_gets_no_request(
    tls,
    authority: Authority,
    stranger: Authority,
    tmp_path: Path,
    names: list[str],
    mistaken: bool,
    said: str,
) -> None:
    trusted = stranger if mistaken else authority
    with api(tls(*names)) as server:
        cluster = trusting(trusted, f"https://localhost:{server.port}")
        fails(connect(tmp_path, cluster), "certificate is not accepted", said)
        assert server.requests == []
        connect(tmp_path, {"server": cluster["server"], "insecure-skip-tls-verify": True}).list(PODS)


def test_a_server_may_be_known_by_another_name(tls, authority: Authority, tmp_path: Path) -> None:
    with api(tls(NAME)) as server:
        cluster = trusting(authority, f"https://127.0.0.1:{server.port}")
        fails(connect(tmp_path, cluster), "certificate is not accepted")
        connect(tmp_path, {**cluster, "tls-server-name": NAME}).list(PODS)
        assert server.requests[0].headers["Host"] == f"127.0.0.1:{server.port}"
        fails(connect(tmp_path, {**cluster, "tls-server-name": "elsewhere"}), "certificate is not accepted")


def test_a_path_before_that_of_the_api_is_kept(tls, authority: Authority, tmp_path: Path) -> None:
    with api(tls("localhost")) as server:
        url = f"https://localhost:{server.port}/k8s/clusters/c-1"
        connect(tmp_path, trusting(authority, url)).list(PODS)
        assert server.requests[0].path == "/k8s/clusters/c-1/api/v1/pods"


def test_a_client_certificate_is_shown_and_read_again_if_it_is_refused(
    tls, authority: Authority, stranger: Authority, tmp_path: Path
) -> None:
    right, wrong = authority.issue("us"), stranger.issue("us")

    def user(key: bytes, certificate: bytes) -> dict[str, str]:
        return {"client-key-data": text(key), "client-certificate-data": text(certificate)}

    with api(tls("localhost", clients=authority)) as server:
        cluster = trusting(authority, f"https://localhost:{server.port}")
        connect(tmp_path, cluster, user(*right)).list(PODS)
        assert len(server.requests) == 1
        kube = connect(tmp_path, cluster, user(*wrong))
        connect(tmp_path, cluster, user(*right))  # writes the file
        fails(kube, "no TLS")
        kube.list(PODS)
        assert len(server.requests) == 2


@pytest.mark.parametrize("kind", ["tokenFile", "exec"])
def test_a_token_that_changes_is_asked_for_again(
    tls, authority: Authority, tmp_path: Path, kind: str
) -> None:
    """Of a file, or of a program."""
    token = tmp_path / "token"
    program = tmp_path / "program"
    version = "client.authentication.k8s.io/v1"
    credential = f'{{"apiVersion": "{version}", "kind": "ExecCredential", "status": {{"token": "%s"}}}}'
    program.write_text(f"#!/bin/sh\nprintf '{credential}' \"$(cat {token})\"\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    plugin = {
        "apiVersion": version,
        "command": str(program),
        "interactiveMode": "Never",
    }
    user = {"exec": plugin} if kind == "exec" else {"tokenFile": str(token)}
    token.write_text("one")
    with api(tls("localhost"), token.read_text) as server:
        cluster = trusting(authority, f"https://localhost:{server.port}")
        kube = connect(tmp_path, cluster, user)
        kube.list(PODS)
        token.write_text("two")
        kube.list(PODS)
        assert [request.headers["Authorization"] for request in server.requests] == [
            "Bearer one",
            "Bearer one",
            "Bearer two",
        ]


def test_a_token_that_stays_refused_is_a_failure(tls, authority: Authority, tmp_path: Path) -> None:
    with api(tls("localhost"), lambda: "right") as server:
        cluster = trusting(authority, f"https://localhost:{server.port}")
        with pytest.raises(Unknown):
            connect(tmp_path, cluster, {"token": "wrong"}).list(PODS)


# Proxies


class Proxy(Server):
    """A proxy that leads every CONNECT to the port *leads_to*; one of 0 refuses."""

    def __init__(self, leads_to: int) -> None:
        super().__init__(lambda _: page())
        self.RequestHandlerClass = _ProxyHandler
        self.leads_to = leads_to
        self.asked: list[tuple[str, str]] = []  # the target, and the credentials


class _ProxyHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def do_CONNECT(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Proxy-Authorization", "")))
        if not self.server.leads_to:
            self.send_error(403)
            return
        self.send_response(200)
        self.end_headers()
        with socket.create_connection(("127.0.0.1", self.server.leads_to)) as upstream:
            back = threading.Thread(target=_pump, args=(upstream, self.connection), daemon=True)
            back.start()
            _pump(self.connection, upstream)
            back.join()
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("by", ["the kubeconfig", "the environment"])
def test_a_proxy_leads_to_the_server_and_sees_nothing(
    tls,
    authority: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scheme: str,
    by: str,
) -> None:
    context = tls("localhost")
    with api(tls(NAME), lambda: "t", "0.0.0.0") as server:
        proxy = Proxy(server.port)
        if scheme == "https":
            proxy.socket = context.wrap_socket(proxy.socket, server_side=True, do_handshake_on_connect=False)
        with serving(proxy):
            url = f"{scheme}://localhost:{proxy.port}"
            cluster = trusting(authority, f"https://{NAME}:6443")
            if by == "the kubeconfig":
                cluster["proxy-url"] = url
            else:
                set_proxy(monkeypatch, "https", url)
            kube = connect(tmp_path, cluster, {"token": "t"})
            for _ in range(3):
                kube.list(PODS)
            assert [target for target, _ in proxy.asked] == [f"{NAME}:6443"]
            assert len(server.requests) == 3
            assert server.requests[0].headers["Host"] == f"{NAME}:6443"


@pytest.mark.parametrize(
    ("leads", "said"),
    [
        pytest.param(False, "the proxy does not lead there", id="a proxy that refuses"),
        pytest.param(True, "certificate is not accepted", id="a proxy that leads to another server"),
    ],
)
def test_a_proxy_that_does_not_lead_to_the_server_is_reported(
    tls, authority: Authority, tmp_path: Path, leads: bool, said: str
) -> None:
    with api(tls("elsewhere")) as server, serving(Proxy(server.port if leads else 0)) as proxy:
        cluster = trusting(
            authority, f"https://{NAME}:6443", **{"proxy-url": f"http://127.0.0.1:{proxy.port}"}
        )
        fails(connect(tmp_path, cluster), said)
        assert server.requests == []


def test_a_proxy_that_is_not_there_is_reported(authority: Authority, tmp_path: Path) -> None:
    cluster = trusting(authority, f"https://{NAME}:6443", **{"proxy-url": "http://127.0.0.1:1"})
    fails(connect(tmp_path, cluster), "the proxy does not lead there", "refused")


def test_a_watch_through_a_proxys_tls_ends_when_it_is_stopped(
    tls, authority: Authority, tmp_path: Path
) -> None:
    """The reader's TLS lies in the proxy's: that connection is broken, too."""
    over, begun = threading.Event(), threading.Event()
    context = tls("localhost")
    with api(tls(NAME)) as server:
        server.answer = lambda _: Answer(pieces=[begun.set, lambda: over.wait(20)])
        proxy = Proxy(server.port)
        proxy.socket = context.wrap_socket(proxy.socket, server_side=True, do_handshake_on_connect=False)
        with serving(proxy):
            cluster = trusting(
                authority, f"https://{NAME}:6443", **{"proxy-url": f"https://localhost:{proxy.port}"}
            )
            connect(tmp_path, cluster)  # writes the file
            kube = Kube.from_config(str(tmp_path / "kubeconfig"))
            ended = threading.Event()

            def watch() -> None:
                with suppress(Retry):
                    list(kube.reader(PODS).watch(5))
                ended.set()

            threading.Thread(target=watch, daemon=True).start()
            assert begun.wait(10)
            kube.stop()
            assert ended.wait(10)
            over.set()
