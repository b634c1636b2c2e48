"""The request of a person or a kubelet that the process stop."""

import signal

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """Whether SIGTERM or SIGINT came; a second one changes nothing.

    It is a plain flag, which the main thread polls.  A signal handler runs wherever the main thread is,
    perhaps while that holds a lock.  A handler that needs the same lock, as ``threading.Event.set`` does,
    deadlocks.
    """

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> "Stop":
        for number in SIGNALS:
            signal.signal(number, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        # Ignore signals from here on: while the interpreter ends, no handler runs, and one would kill.
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def _request(self, *_: object) -> None:
        self.requested = True
