"""Every failure of the API server, translated once into ``errors``.

``failure`` translates the server's answers, ``translated`` failures of the connection.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.client import responses

import msgspec
import urllib3

from rpcregistry.errors import (
    Absent,
    Conflict,
    Ending,
    Expired,
    Failure,
    KindMissing,
    Rejected,
    Retry,
    Unanswered,
    Unknown,
)
from rpcregistry.kube.access import reason
from rpcregistry.manifests import GROUP, LOCALSERVICES, RPCSERVICES

LONGEST_RETRY_AFTER = 30.0
ROLES = "examples/controller.yaml"


class _Cause(msgspec.Struct):
    reason: str = ""
    field: str = ""


class _Details(msgspec.Struct):
    name: str = ""
    causes: list[_Cause] | None = None


class _Status(msgspec.Struct):
    kind: str = ""
    message: str = ""
    reason: str = ""
    code: int = 0
    details: _Details | None = None


_statuses = msgspec.json.Decoder(_Status)


def failure(
    method: str,
    what: str,
    status: int,
    body: bytes,
    retry_after: str | None = None,
    kind: str = "",
    roles: str = ROLES,
) -> Failure:
    """Translate an answer with HTTP *status* and *body*; the message begins with *what* was asked.

    *kind*: our custom resource that the request was about, if any; *roles*: the file with the roles that are
    enough.  The message has only a Status's message of the body: the rest may hold confidential data.
    """
    answer = status_of(body)
    named = bool(answer.details and answer.details.name)
    causes = _causes(answer)
    message = _message(what, status, answer, "" if named else kind) + _advice(status, answer, body, roles)
    match status, method:
        # 422 with another uid: somebody deleted the object and created one of the same name.
        case 409 | 422, _ if status == 409 or "metadata.uid" in causes:
            return Conflict(message)
        case 404, "GET" | "PUT" | "PATCH" | "DELETE" if answer.reason == "NotFound" and named:
            return Absent(message)
        case 401 | 403 | 404, "GET":
            return KindMissing(message) if status == 404 and kind else Unknown(message)
        case 403, _ if "NamespaceTerminating" in causes:
            return Ending(message)
        case 404, "POST" if answer.reason == "NotFound" and named:
            return Ending(message)
        case 410, _:
            return Expired(message)
        case 504, "GET" if "Too large resource version" in answer.message:
            return Expired(message)
        case 500, _ if "request is too large" in answer.message or "larger than max" in answer.message:
            return Rejected(message)
        case 429, _:
            return Retry(message, _seconds(retry_after) or 1.0)
    again = status >= 500 or status == HTTPStatus.REQUEST_TIMEOUT
    return Retry(message, _seconds(retry_after)) if again else Rejected(message)


def _message(what: str, status: int, answer: _Status, kind: str) -> str:
    """The request and the server's answer; a 404 with a *kind* means that its CRD is missing."""
    if status == 404 and kind:
        return f"{what}: the kind {kind} is not there: kubectl apply -f crds/"
    said = f"{status} {answer.reason or responses.get(status, '')}"
    return " ".join(": ".join(filter(None, (what, said, answer.message))).split())[:1000]


def _advice(status: int, answer: _Status, body: bytes, roles: str) -> str:
    """What a person can do about it, as the end of the message; empty if we do not know."""
    missing = re.search(r' User ".*" cannot (\w+) (?:resource|path) "([^"]*)"', answer.message)
    match status:
        case 400 if body.startswith(b"Client sent an HTTP request to an HTTPS server"):
            return ": it wants TLS: write https:// for http://"
        case 401:
            return ": it does not accept our credentials: renew the token or the certificate"
        case 403 if 'User "system:anonymous" cannot ' in answer.message:
            return ": we have no credentials: mend the kubeconfig's user"
        case 403 if missing:
            return f": needs {missing[1]} on {missing[2]}: see the role in {roles}"
    return ""


def kind_of(target: str) -> str:
    """The custom resource of ours that a request's *target* is about, or ``""``.

    >>> kind_of("/apis/rpcregistry.dev/v1alpha1/namespaces/a/rpcservices/b?limit=1"), kind_of("/api/v1/pods")
    ('RpcService', '')
    """
    match = re.match(rf"/apis/{GROUP}/\w+/(?:namespaces/[^/]+/)?(\w+)", target)
    return next((crd.kind for crd in (RPCSERVICES, LOCALSERVICES) if match and crd.plural == match[1]), "")


def _causes(answer: _Status) -> set[str]:
    """The reasons and fields of a Status's causes."""
    causes = (answer.details and answer.details.causes) or ()
    return {word for cause in causes for word in (cause.reason, cause.field)}


def status_of(body: bytes) -> _Status:
    """Decode the Status in *body*; an empty one if there is none."""
    try:
        answer = _statuses.decode(body)
    except msgspec.MsgspecError:
        return _Status()
    return answer if answer.kind == "Status" else _Status()


def _seconds(retry_after: str | None) -> float | None:
    """Read a Retry-After header that has seconds, at most 30; None for others.

    >>> _seconds("2"), _seconds("86400"), _seconds("Fri, 31 Dec 1999 23:59:59 GMT"), _seconds(None)
    (2.0, 30.0, None, None)
    """
    if retry_after is None or not re.fullmatch(r"[0-9]{1,9}", retry_after):
        return None
    return min(LONGEST_RETRY_AFTER, float(retry_after))


@contextmanager
def translated(what: str, server: str = "") -> Iterator[None]:
    """Translate failures of a connection to *server*, and answers that cannot be decoded, to ``Retry``."""
    try:
        yield
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise Unanswered(": ".join(filter(None, (what, server, reason(error))))) from error
    except (msgspec.MsgspecError, ValueError) as error:
        raise Retry(f"{what}: the answer cannot be read: {error}") from error
