"""The threads of a process: if one of them dies, the whole process has to end."""

import threading
from collections.abc import Callable, Collection

from rpcregistry.logs import Log

log = Log(__name__)


class Crew:
    """Starts threads, and knows whether one of them failed; for any thread."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self._lock = threading.Lock()  # protects _threads and _failure
        self._threads: list[threading.Thread] = []
        self._failure: BaseException | None = None

    @property
    def failure(self) -> BaseException | None:
        """The first failure, or None."""
        with self._lock:
            return self._failure

    def start(self, name: str, target: Callable[[], None]) -> None:
        """Run *target* in a daemon thread; an exception that it raises ends the crew."""

        def run() -> None:
            try:
                target()
            except BaseException as error:
                log.exception("thread failed", thread=name)
                self.fail(error)

        thread = threading.Thread(target=run, name=name, daemon=True)
        with self._lock:
            self._threads.append(thread)
            thread.start()  # under the lock, so that ``join`` sees only started threads

    def fail(self, failure: BaseException) -> None:
        """End the crew; *failure* is its reason unless there was one before."""
        with self._lock:
            self._failure = self._failure or failure
        self._over.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the crew ends or a thread fails; return whether that happened in time."""
        return self._over.wait(timeout)

    def join(self, deadline: float, clock: Callable[[], float], besides: Collection[str] = ()) -> list[str]:
        """Wait until *deadline* for all threads *besides* some; return the names of those still running."""
        with self._lock:
            awaited = [thread for thread in self._threads if thread.name not in besides]
        for thread in awaited:
            thread.join(max(0.0, deadline - clock()))
        return [thread.name for thread in awaited if thread.is_alive()]
