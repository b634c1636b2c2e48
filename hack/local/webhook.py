"""An admission webhook that takes its time, as one that a team has in its namespace may."""

import json
import select
import ssl
import threading
import time
from base64 import b64encode
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

LONGEST = 30  # seconds that the API server waits for a webhook, at most
TICK = 0.02  # seconds between two looks whether the API server has given up


class Webhook:
    """Allows every write after so many *seconds*; *pki*: where its certificate is, the API server's own.

    *waiting*: how many writes wait for it now.  *most*: how many waited at once, until that is set back.
    *longest*: for how many seconds one has waited that waits no more.
    """

    def __init__(self, pki: Path, seconds: float = float("inf")) -> None:
        self.seconds = seconds
        self.most = 0
        self.waiting = 0
        self.longest = 0.0
        self._pki = pki
        self._lock = threading.Lock()  # protects waiting, most and longest
        self._http = _Server(self, pki)

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = 0.0
        self._http.shutdown()
        self._http.server_close()

    def manifest(self, name: str, namespace: str, resources: Sequence[str]) -> dict[str, Any]:
        """The configuration: the API server asks it about all writes of *resources* in *namespace*."""
        authority = b64encode((self._pki / "ca.crt").read_bytes()).decode()
        return {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": name},
            "webhooks": [
                {
                    "name": "slow.example.com",
                    "admissionReviewVersions": ["v1"],
                    "sideEffects": "None",
                    "failurePolicy": "Fail",
                    "timeoutSeconds": LONGEST,
                    "clientConfig": {
                        "url": f"https://127.0.0.1:{self._http.server_address[1]}/",
                        "caBundle": authority,
                    },
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                    "rules": [
                        {
                            "apiGroups": ["*"],
                            "apiVersions": ["*"],
                            "operations": ["CREATE", "UPDATE", "DELETE"],
                            "resources": [*resources],
                        }
                    ],
                }
            ],
        }

    def wait(self, handler: BaseHTTPRequestHandler) -> bool:
        """Wait as long as it takes; return False once the API server has given up."""
        begun = time.monotonic()
        with self._lock:
            self.waiting += 1
            self.most = max(self.most, self.waiting)
        try:
            while time.monotonic() < begun + self.seconds:
                if select.select([handler.connection], [], [], TICK)[0]:
                    return False
            return True
        finally:
            with self._lock:
                self.waiting -= 1
                self.longest = max(self.longest, time.monotonic() - begun)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, webhook: Webhook, pki: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.webhook = webhook
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pki / "apiserver.crt", pki / "apiserver.key")
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def handle_error(self, *_: object) -> None:
        """The API server comes and goes."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.server.webhook.wait(self):
            self.close_connection = True
            return
        answer = {"uid": review["request"]["uid"], "allowed": True}
        body = json.dumps({**review, "request": None, "response": answer}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""
