"""What can fail, named by what the caller does next.

``kube/`` and ``zookeeper/`` translate their system's exceptions once, with the original as the cause.  A
user's mistake is no exception but a value: ``model.Problem``.
"""


class Failure(Exception):
    """An outside system failed; the message tells an operator what failed and where.

    Its class says what to do next.
    """


class Retry(Failure):
    """Try again, with back-off, or in *after* seconds if the server named a time."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class Unanswered(Retry):
    """No answer came: the server is away, or the connection broke.  Try again soon."""


class Partial(Retry):
    """Some of several writes were refused.  Try again in *after* seconds, and at once after a new change.

    A new change may be a removal, which no quota refuses, so it does not wait for *after*.  *rejected*: the
    server understood the writes that it refused.
    """

    def __init__(self, message: str, after: float, *, rejected: bool = False) -> None:
        super().__init__(message, after)
        self.rejected = rejected


class Conflict(Retry):
    """Another writer changed the object since we read it.  Read it again and plan again, at once."""


class Absent(Conflict):
    """The object does not exist (any more)."""


class Expired(Retry):
    """The watch's resourceVersion is too old to continue from.  LIST again."""


class Rejected(Failure):
    """The server understood and refused.  It keeps refusing until a person changes something there."""


class Ending(Rejected):
    """The namespace is being deleted, or was deleted: the refused write is no longer needed."""


class Unkept(Rejected):
    """The server made the write, and something of it otherwise."""


class Unknown(Rejected):
    """The source refuses to be read (401, 403, 404): what it holds is unknown, not empty.

    Keep what was read before.
    """


class KindMissing(Unknown):
    """The API server does not serve the kind: its CRD is not applied, or was deleted."""


class Fenced(Failure):
    """Another process took over the fence.  Stop writing: step down."""


class Misconfigured(Failure):
    """The connection settings cannot be used.  An operator has to correct them and restart the process."""
