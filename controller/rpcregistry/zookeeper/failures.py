"""What ZooKeeper's answers mean: each failure is translated once, into ``errors``.  Callers retry."""

from kazoo.exceptions import (
    BadArgumentsError,
    BadVersionError,
    InvalidACLError,
    KazooException,
    NoAuthError,
    NoChildrenForEphemeralsError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    QuotaExceededError,
    RolledBackError,
    RuntimeInconsistency,
    UnimplementedError,
)

from rpcregistry.errors import Conflict, Failure, Fenced, Rejected, Retry
from rpcregistry.plan.ops import Check, Op

_OVERTAKEN = (BadVersionError, NoNodeError, NodeExistsError, NotEmptyError)
_REFUSED = (
    BadArgumentsError,
    InvalidACLError,
    NoAuthError,
    NoChildrenForEphemeralsError,
    QuotaExceededError,
    UnimplementedError,
    ValueError,  # kazoo raises it for a bad path
)
_MENDING = {  # errors that a person has to mend, and how
    NoAuthError: "its ACL or its parent's does not let us: mend --zk-auth-file, or that ACL by setAcl",
    InvalidACLError: "the server knows no such identity: mend --zk-acl, or the credentials",
    QuotaExceededError: "quota of znode {parent}, or one above or below it, is used up: setquota raises it",
}
ROLLED_BACK = (RolledBackError, RuntimeInconsistency)  # of the other ops in a failed transaction


class Overtaken(Conflict):
    """The znode at *path* is not as the operation expected it."""

    def __init__(self, message: str, path: str) -> None:
        super().__init__(message)
        self.path = path


class TooLarge(Rejected):
    """The transaction has more bytes than a server accepts; nothing was sent."""


def failure(verb: str, path: str, error: Exception) -> Failure:
    """What kazoo's *error* means for the caller that wanted to *verb* the znode at *path*."""
    mending = _MENDING.get(type(error), "").format(parent=path.rpartition("/")[0] or "/")
    text = f"{verb} {path}: {mending or f'{type(error).__name__} {error}'}".rstrip()
    if isinstance(error, _OVERTAKEN):
        return Overtaken(text, path)
    return Rejected(text) if isinstance(error, _REFUSED) else Retry(text)


def op_failure(op: Op, error: Exception, leading: bool) -> Failure:
    """The same for an operation of a transaction; *leading*: its first, which may be the fence."""
    if leading and isinstance(op, Check) and isinstance(error, BadVersionError):
        return Fenced(f"{op.path} is not at version {op.version} any more: another process took over")
    return failure(type(op).__name__.lower(), op.path, error)


def is_error(result: object) -> bool:
    """Whether a transaction's result is a failure, which kazoo returns as a value."""
    return isinstance(result, KazooException)
