"""The wish of a person, or of a kubelet, that the process end."""

import signal

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """Whether SIGTERM or SIGINT came; a second one is as one.

    A plain flag, to be looked at now and then: a handler runs wherever the main thread is, perhaps while
    that holds a lock.  One that needs the lock itself, as ``threading.Event.set`` does, waits for ever.
    """

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> "Stop":
        for number in SIGNALS:
            signal.signal(number, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        # While the interpreter ends, a handler would be gone, and the signal would kill.
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def _request(self, *_: object) -> None:
        self.requested = True
