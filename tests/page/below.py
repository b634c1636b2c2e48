"""A reverse proxy on loopback, as an ingress that serves the page below a path."""

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class Below:
    """Passes what is asked below *path* on to the page at *url*; answers what begins with *refuse* by 502."""

    def __init__(self, url: str, path: str, refuse: str) -> None:
        target = urlsplit(url).netloc

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.path.removeprefix(path)
                if wanted == self.path or wanted.startswith(refuse):
                    self.send_error(502)
                    return
                connection = http.client.HTTPConnection(target, timeout=30)
                connection.request("GET", f"/{wanted}", headers={"Host": target})
                answer = connection.getresponse()
                body = answer.read()
                connection.close()
                self.send_response(answer.status)
                for name in ("Content-Type", "Content-Security-Policy", "Date"):
                    self.send_header(name, answer.headers[name])
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *_: object) -> None:  # noqa: A002
                """Log nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}{path}"

    def __enter__(self) -> str:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self.url

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
