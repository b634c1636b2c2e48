"""What can fail, named by what the caller does next.

Each outside system's own exceptions are translated once, at its edge (``kube/``, ``zookeeper/``), with
the original as the cause.  What a user got wrong is no exception but a value: ``model.Problem``.
"""


class Failure(Exception):
    """Something outside failed; the message says what, and where, for an operator.

    Its kind says what to do next.
    """


class Retry(Failure):
    """Try again, with back-off, or after *after* seconds where the other side named a time."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class Unanswered(Retry):
    """No answer came, so nobody refused: the server is away, or the connection broke.  Try again soon."""


class Partial(Retry):
    """Some of several writes were refused.  Try again in *after* seconds, and at once after a new change.

    What is new may be a removal, which is not refused: it waits for no time that was named for the others.
    *rejected*: the other side understood what it refused.
    """

    def __init__(self, message: str, after: float, *, rejected: bool = False) -> None:
        super().__init__(message, after)
        self.rejected = rejected


class Conflict(Retry):
    """Somebody else changed the object since we read it.  Read it again and plan again, at once."""


class Absent(Conflict):
    """The object is not there (any more)."""


class Expired(Retry):
    """The watch's resourceVersion is too old to go on from.  LIST again."""


class Rejected(Failure):
    """The other side understood and refused.  It stays refused until a person changes something there."""


class Ending(Rejected):
    """The namespace is being deleted, or is gone: what was refused is not needed any more."""


class Unknown(Rejected):
    """The source refuses to be read (401, 403, 404): what it holds is unknown, not empty.

    Keep what was read before.
    """


class KindMissing(Unknown):
    """The API server does not serve the kind: its CRD is not applied, or was deleted."""


class Fenced(Failure):
    """Another process took over the fence.  Stop writing: step down."""


class Misconfigured(Failure):
    """What we were told to connect with cannot be used.  Somebody has to mend it and start us again."""
