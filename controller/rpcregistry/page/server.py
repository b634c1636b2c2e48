"""The page's listener: a thread of its own, which keeps nothing else from its work."""

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Sequence

import structlog
import uvicorn
from starlette.types import ASGIApp

from rpcregistry.page.app import Answered, Authorize, Looks, make_app

log = structlog.get_logger(__name__)

LISTEN_AGAIN_AFTER = 10.0  # seconds
WAKE_EVERY = 0.5
MOST_CONNECTIONS = 256  # browsers keep several open for a while
LOCAL = ("localhost", "127.0.0.1", "[::1]")


class PageServer:
    """Serves the page at *address* (``HOST:PORT``) from ``start`` until ``stop``.

    If another program listens there, it tries again every ``LISTEN_AGAIN_AFTER``: the controller works
    without the page.  *wake* is called twice a second while it serves.
    """

    def __init__(
        self,
        address: str,
        hosts: Sequence[str],
        looks: Looks,
        authorize: Authorize,
        answered: Answered,
        wake: Callable[[], None],
    ) -> None:
        self._address = address
        self._hosts = (*LOCAL, *hosts)
        self._looks = looks
        self._authorize = authorize
        self._answered = answered
        self._wake = wake
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="page", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self, seconds: float = 1.0) -> None:
        """Close the listener and all streams; wait up to *seconds* for that."""
        self._stopped.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        # A stream that is cut while it waits is no error that anybody has to read.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        listening = self._listen()
        if listening is None:
            return
        try:
            with listening, asyncio.Runner() as runner:
                runner.run(self._serve(listening))
        except Exception:
            log.exception("the page failed; the controller goes on without it")

    def _listen(self) -> socket.socket | None:
        host, _, port = self._address.rpartition(":")
        host = host.strip("[]")
        said = ""
        while not self._stopped.is_set():
            try:
                family = socket.AF_INET6 if ":" in host else socket.AF_INET
                return socket.create_server((host, int(port)), family=family)
            except OSError as error:
                if str(error) != said:
                    log.warning("the page cannot listen", address=self._address, reason=str(error))
                said = str(error)
                self._stopped.wait(LISTEN_AGAIN_AFTER)
        return None

    async def _serve(self, listening: socket.socket) -> None:
        stopping = asyncio.Event()
        app: ASGIApp = make_app(self._looks, self._hosts, self._authorize, self._answered, stopping)
        config = uvicorn.Config(
            app, loop="asyncio", http="h11", ws="none", lifespan="off", log_config=None, access_log=False,
            server_header=False, proxy_headers=False, limit_concurrency=MOST_CONNECTIONS,
            timeout_graceful_shutdown=1,
        )  # fmt: skip
        host, port = listening.getsockname()[:2]
        log.info("the page", url=f"http://{f'[{host}]' if ':' in host else host}:{port}/")
        await _Server(config, self._wake, self._stopped, stopping).serve(sockets=[listening])


class _Server(uvicorn.Server):
    """Wakes up twice a second, where uvicorn does ten times; sets *stopping* once it has *stopped*."""

    def __init__(
        self,
        config: uvicorn.Config,
        wake: Callable[[], None],
        stopped: threading.Event,
        stopping: asyncio.Event,
    ) -> None:
        super().__init__(config)
        self._wake = wake
        self._stopped = stopped
        self._stopping = stopping

    async def main_loop(self) -> None:
        """Serve until stopped."""
        while not self._stopped.is_set():
            self._wake()
            await self.on_tick(0)  # the answers' date
            await asyncio.sleep(WAKE_EVERY)
        self._stopping.set()
