"""A TCP proxy on loopback that breaks, delays, slows down and loses, like a bad network or server."""

import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, Self

CHUNK = 65536
PIECES_A_SECOND = 20  # of which a throttled connection's bytes consist
RST = struct.pack("ii", 1, 0)  # SO_LINGER: on, for 0 s


class _Loss(NamedTuple):
    """What to lose: the first request whose bytes match, or the answer to it."""

    matches: Callable[[bytes], bool]
    delivered: bool
    then: Callable[[], None]


class _Pair:
    """A client's connection, and the one made for it to the server."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.awaited: _Loss | None = None  # the answer that comes next is to be lost
        self._ending = socket.SHUT_RDWR

    def cut(self) -> None:
        """End both at once."""
        for end in (self.client, self.server):
            with suppress(OSError):
                end.shutdown(self._ending)
            end.close()

    def reset(self) -> None:
        """End both by a RST, as a machine does that knows nothing of the connection."""
        self._ending = socket.SHUT_RD  # wakes who reads, and says nothing to the other side
        for end in (self.client, self.server):
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
        self.cut()


class Proxy:
    """Passes bytes between its clients and the *target* (``HOST:PORT``), with faults on demand.

    A fault lasts until ``pass_through``; a lost request or answer is one only.  *on_answer* gets the bytes
    that the server sends.  *listener*: where clients connect, if not at a port of its own.
    """

    def __init__(
        self,
        target: str,
        on_answer: Callable[[bytes], None] = lambda _: None,
        listener: socket.socket | None = None,
    ) -> None:
        host, port = target.rsplit(":", 1)
        self._target = host, int(port)
        self._on_answer = on_answer
        self._lock = threading.Lock()
        self._pairs: set[_Pair] = set()
        self._refusing = False
        self._swallows: Callable[[bytes], bool] | None = None
        self._passing = threading.Event()
        self._passing.set()
        self._held = bytearray()
        self._delay = 0.0
        self._rate = 0  # bytes a second, in each direction of each connection; 0: all there are
        self._loss: _Loss | None = None
        self._listener = listener or socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.close()
        self._passing.set()

    # what goes wrong

    def pass_through(self) -> None:
        """End all faults; bytes that a black hole held arrive now."""
        self._refusing, self._delay, self._rate = False, 0.0, 0
        self._swallows = None
        self._held.clear()
        self._passing.set()

    def lead(self, target: str) -> None:
        """Connect new clients to another server; those that are connected stay where they are."""
        host, port = target.rsplit(":", 1)
        self._target = host, int(port)

    def cut(self) -> None:
        """Break all connections; new ones are served."""
        for pair in self._taken():
            pair.cut()

    def reset(self) -> None:
        """Break all connections by a RST, which loses what is under way; new ones are served."""
        for pair in self._taken():
            pair.reset()

    def _taken(self) -> set[_Pair]:
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        return pairs

    def close(self) -> None:
        """Break all connections, and each new one."""
        self._refusing = True
        self.cut()

    def blackhole(self, since: Callable[[bytes], bool] | None = None) -> None:
        """Accept connections and bytes, and deliver none: neither side sees an error.

        *since*: do so from the first request on whose bytes match.
        """
        self._swallows = since
        if not since:
            self._passing.clear()

    @property
    def held(self) -> bytes:
        """The bytes that clients sent into the black hole."""
        return bytes(self._held)

    def delay(self, seconds: float) -> None:
        """Deliver everything *seconds* later."""
        self._delay = seconds

    def throttle(self, rate: int) -> None:
        """Deliver *rate* bytes a second at most, in each direction of each connection."""
        self._rate = rate

    def lose_request(self, matches: Callable[[bytes], bool], then: Callable[[], None] = lambda: None) -> None:
        """Deliver nothing of the first request whose bytes match: call *then*, and break the connection."""
        self._loss = _Loss(matches, False, then)

    def lose_reply(self, matches: Callable[[bytes], bool], then: Callable[[], None] = lambda: None) -> None:
        """Deliver that request; once it is answered, call *then*, and break the connection instead."""
        self._loss = _Loss(matches, True, then)

    # passing

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._target, timeout=5)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        pair = _Pair(client, server)
        with self._lock:
            self._pairs.add(pair)
        if self._refusing:
            self.cut()
        threading.Thread(target=self._pump, args=(pair, client, server, self._request), daemon=True).start()
        self._pump(pair, server, client, self._answer)

    def _pump(
        self,
        pair: _Pair,
        source: socket.socket,
        sink: socket.socket,
        goes_on: Callable[[_Pair, bytes], bool],
    ) -> None:
        with suppress(OSError):
            while (data := source.recv(CHUNK)) and goes_on(pair, data):
                self._send(sink, data)
        with self._lock:
            self._pairs.discard(pair)
        pair.cut()

    def _send(self, sink: socket.socket, data: bytes) -> None:
        while data:
            rate = self._rate
            size = max(rate // PIECES_A_SECOND, 1) if rate else len(data)
            sink.sendall(data[:size])
            if rate:
                time.sleep(size / rate)
            data = data[size:]

    def _request(self, pair: _Pair, data: bytes) -> bool:
        """Hold a client's bytes as the fault demands; return whether to pass them on."""
        if self._swallows and self._swallows(data):
            self._passing.clear()
        if not self._passing.is_set():
            self._held += data
        self._wait()
        loss = self._loss
        if loss is None or not loss.matches(data):
            return True
        self._loss = None
        if loss.delivered:
            pair.awaited = loss
            return True
        loss.then()
        return False

    def _answer(self, pair: _Pair, data: bytes) -> bool:
        """The same for the server's bytes."""
        self._on_answer(data)
        self._wait()
        if pair.awaited:
            pair.awaited.then()
        return pair.awaited is None

    def _wait(self) -> None:
        time.sleep(self._delay)
        self._passing.wait()
