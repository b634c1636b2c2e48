"""What the page is made of: its files, its door, its command; without a cluster."""

import asyncio
import hashlib
import os
import re
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.types import ASGIApp, Message

from rpcregistry.errors import Retry
from rpcregistry.page.access import Reviews, everybody
from rpcregistry.page.app import ASSETS, Refused, make_app
from rpcregistry.telemetry.metrics import Metrics

LIT = ASSETS / "vendor" / "lit-html"


def test_what_others_wrote_is_as_they_published_it():
    checked = dict(reversed(line.split()) for line in (LIT / "CHECKSUMS.txt").read_text().splitlines()[1:])
    files = {path.relative_to(LIT).as_posix(): path.read_bytes() for path in LIT.rglob("*.js")}
    assert {name: hashlib.sha256(data).hexdigest() for name, data in files.items()} == checked
    assert "BSD 3-Clause" in (LIT / "LICENSE.txt").read_text()


def test_text_is_only_ever_bound_as_text():
    ours = [path for path in ASSETS.glob("*.*") if path.suffix in (".js", ".html", ".css")]
    assert len(ours) >= 10
    for path in ours:
        text = path.read_text()
        found = re.findall(
            r"unsafe\w+|innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|srcdoc", text
        )
        assert found == [], path.name
        assert not re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}", text), (
            f"{path.name} names another host"
        )
        assert "style=" not in text, f"{path.name}: the Content-Security-Policy forbids inline styles"


def test_what_a_browser_gets_is_small():
    import gzip

    files = [path for path in ASSETS.rglob("*.*") if path.suffix in (".js", ".css", ".html")]
    assert sum(len(gzip.compress(path.read_bytes())) for path in files) < 40_000


# who may look


class ApiServer:
    """The API server's answers about one token, and how often it was asked."""

    def __init__(self, known: bool, allowed: bool) -> None:
        self.known, self.allowed, self.asked = known, allowed, 0
        self.away = False

    def __call__(self, method: str, path: str, body: Any) -> Any:
        self.asked += 1
        if self.away:
            raise Retry("connection refused")
        if path.endswith("tokenreviews"):
            return {"status": {"authenticated": self.known, "user": {"username": "ann", "groups": ["g"]}}}
        spec = body["spec"]
        assert (spec["user"], spec["groups"]) == ("ann", ["g"])
        assert spec["nonResourceAttributes"] == {"path": "/ui", "verb": "get"}
        return {"status": {"allowed": self.allowed}}


def answer(reviews: Reviews, header: str = "Bearer secret") -> int:
    # In a thread of its own: the browser of the page's tests has a loop in this one.
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(asyncio.run, reviews({"authorization": header}))
    try:
        asked.result()
    except Refused as refused:
        return 0 if "secret" in str(refused) else refused.status
    return 200


def ask(app: ASGIApp, path: str, method: str = "GET", host: str = "localhost") -> None:
    """Ask the application as a server does."""

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(_: Message) -> None:
        pass

    request = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [(b"host", host.encode())],
    }
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, app(request, receive, send)).result()


def test_requests_are_counted_by_route_and_status_of_which_there_are_few():
    metrics, looks = (
        Metrics(),
        SimpleNamespace(version=1, rejected=dict, service=lambda *_: None, closest=lambda _: []),
    )
    app = make_app(looks, ("localhost",), everybody, metrics.page_answered, asyncio.Event())
    for number in range(2):
        ask(app, "/controller")
        ask(app, "/api/rejected")
        ask(app, f"/api/services/of/another/name/{number}")
        ask(app, f"/{number}")
        ask(app, f"/assets/mark/{number}.js")
        ask(app, "/", method="POST")
        ask(app, "/", host=f"evil-{number}.example")
    counted = re.findall(r"^rpcregistry_ui_requests_total(.+)", metrics.render().decode(), re.MULTILINE)
    assert set(counted) == {
        '{code="200",route="/controller"} 2.0',
        '{code="200",route="/api/rejected"} 2.0',
        '{code="404",route="/api/services/{name}"} 2.0',
        '{code="404",route="/{path}"} 2.0',
        '{code="404",route="/assets/{mark}/{path}"} 2.0',
        '{code="405",route="none"} 2.0',
        '{code="400",route="none"} 2.0',
    }


@pytest.mark.parametrize(
    ("known", "allowed", "status"), [(True, True, 200), (True, False, 403), (False, True, 403)]
)
def test_a_token_counts_for_what_the_api_server_says_and_for_a_while(known: bool, allowed: bool, status: int):
    clock, server = [100.0], ApiServer(known, allowed)
    reviews = Reviews(server, lambda: clock[0])
    assert answer(reviews) == status
    asked = server.asked
    server.allowed, server.known = not allowed, True
    assert (answer(reviews), server.asked) == (status, asked)
    clock[0] += 31.0
    assert answer(reviews) == (403 if allowed else 200)


def test_without_an_answer_nobody_looks_and_the_next_one_asks_again():
    server = ApiServer(known=True, allowed=True)
    reviews = Reviews(server)
    server.away = True
    assert answer(reviews) == 503
    server.away = False
    assert [answer(reviews, header) for header in ("Bearer x", "Basic x", "Bearer ", "")] == [
        200,
        401,
        401,
        401,
    ]


def test_without_a_page_nothing_of_it_is_imported():
    code = (
        "import sys, rpcregistry.run.process\n"
        "print([name for name in ('starlette', 'uvicorn', 'rpcregistry.page') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# rpcregistry ui


def test_an_address_that_needs_no_forward_is_printed():
    done = subprocess.run(
        [sys.executable, "-m", "rpcregistry", "ui", "--no-browser", "--url", "http://127.0.0.1:1/"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "The page:  http://127.0.0.1:1/\n")


KUBECTL = """\
    #!{python}
    import socket, sys, time
    open({log!r}, "a").write(" ".join(sys.argv[1:]) + "\\n")
    if "pod/second" in sys.argv:
        open({log!r}, "a").write("followed\\n")
    with socket.create_server(("127.0.0.1", int(sys.argv[-1].partition(":")[0]))) as listening:
        time.sleep(60)
"""


def test_a_forward_follows_the_leader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from rpcregistry.commands import ui

    log, leaders = tmp_path / "log", iter(["first", "first"])
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(textwrap.dedent(KUBECTL).format(python=sys.executable, log=str(log)))
    kubectl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(ui, "LOOK_EVERY", 0.01)

    def leads(*_: object) -> str:
        if log.exists() and "followed" in log.read_text():
            raise KeyboardInterrupt  # as a person ends it
        return next(leaders, "second")

    monkeypatch.setattr(ui, "leader", leads)
    kube: Any = None
    flags = ["--context=c"]
    assert ui.show_page(kube, flags=flags, namespace="ns", port=0, page_port=8081, browser=False) == 0
    first, second, *_ = log.read_text().splitlines()
    port = first.rpartition(" ")[2]
    assert first == f"--context=c -n ns port-forward pod/first {port}"
    assert second == first.replace("first", "second")
    assert port.endswith(":8081")
