"""Who we are to ZooKeeper, whom we take for it, and what others may do with the znodes that we create.

Credentials are read from files, so that they stand in no command line, and are read again when the
files change: a Kubernetes Secret that is mounted is replaced while we run.  ACLs are written as
ZooKeeper's own command line has them (ZooKeeper Administrator's Guide, "ZooKeeper access control
using ACLs"): ``auth::cdrwa,world:anyone:r``.
"""

import re
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec
import structlog
from kazoo.exceptions import SessionClosedRequireSaslError
from kazoo.handlers.threading import SequentialThreadingHandler
from kazoo.security import ACL, Id, Permissions
from puresasl import SASLProtocolException
from puresasl.mechanisms import DigestMD5Mechanism, mechanisms

from rpcregistry.errors import Misconfigured

log = structlog.get_logger(__name__)

SCHEMES = ("digest", "sasl")
_PERMISSIONS = {
    "c": Permissions.CREATE,
    "d": Permissions.DELETE,
    "r": Permissions.READ,
    "w": Permissions.WRITE,
    "a": Permissions.ADMIN,
}
_ENTRY = re.compile(r"(auth|digest|ip|sasl|world|x509):(.*):([cdrwa]+)")
_IDS = {"auth": r"", "digest": r"[^:]+:[^:]+", "world": r"anyone"}  # of the rest: anything


AclEntries = tuple[ACL, ...]


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """The flags ``--zk-…``: the names of files, never what is in them.  Raises ``ValueError``.

    *acl* is that of the znodes we create.  Where it is not given, whoever may be authenticated as we are
    may do everything, and others may read; without credentials, everybody may do everything.
    """

    auth_scheme: str = "digest"
    auth_file: str | None = None
    acl: AclEntries | None = None
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if self.tls_key and not self.tls_cert:
            raise ValueError("--zk-tls-key needs --zk-tls-cert")
        if self.tls_cert and not self.tls_ca:
            raise ValueError("--zk-tls-cert needs --zk-tls-ca: the CA whose servers are believed")
        if not self.has_identity and any(entry.id.scheme == "auth" for entry in self.acl or ()):
            raise ValueError(
                "--zk-acl: auth:: stands for our credentials: give --zk-auth-file or --zk-tls-cert"
            )

    @property
    def has_identity(self) -> bool:
        """Whether ZooKeeper can tell us from others."""
        return bool(self.auth_file or self.tls_cert)

    @property
    def files(self) -> tuple[str, ...]:
        """The files that are read again when they change."""
        return tuple(filter(None, (self.auth_file, self.tls_ca, self.tls_cert, self.tls_key)))


OPEN = Access()  # no credentials, no TLS: everybody may do everything


class Credentials:
    """What a client connects with: options of ``KazooClient``, and TLS or None.  Not to be printed."""

    def __init__(self, options: Mapping[str, Any], tls: ssl.SSLContext | None) -> None:
        self.options = options
        self.tls = tls


class Secrets:
    """The credentials that the files of *access* hold; for one thread.  Raises ``Misconfigured``."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._seen = _contents(access)
        self._trouble = ""
        self.credentials = load(access)

    def renewed(self) -> bool:
        """Whether there are other credentials than before: those in the files, which have changed.

        Files that cannot be used change nothing; they are tried again with each call.  So a certificate
        that was read while its key was still the old one is taken together with the new key.
        """
        seen = _contents(self._access)
        if seen == self._seen:
            return False
        try:
            credentials = load(self._access)
        except Misconfigured as failure:
            if str(failure) != self._trouble:
                log.warning("zookeeper credentials kept: the new ones cannot be used", reason=str(failure))
            self._trouble = str(failure)
            return False
        self._seen, self._trouble, self.credentials = seen, "", credentials
        return True


def load(access: Access) -> Credentials:
    """Read the files.  Raises ``Misconfigured``, with nothing of what a file holds."""
    options: dict[str, Any] = {}
    if access.auth_file:
        user, password = _user(access.auth_file)
        if access.auth_scheme == "sasl":
            if not (user + password).isascii():  # DIGEST-MD5's other alphabets are not agreed on
                raise Misconfigured(f"--zk-auth-file {access.auth_file}: with sasl, it has to be ASCII")
            options["sasl_options"] = {"mechanism": "DIGEST-MD5", "username": user, "password": password}
        else:
            options["auth_data"] = [("digest", f"{user}:{password}")]
    if access.acl:
        options["default_acl"] = access.acl
    elif access.has_identity:
        options["default_acl"] = acl("auth::cdrwa,world:anyone:r")
    return Credentials(options, _tls(access) if access.tls_ca else None)


def acl(text: str) -> tuple[ACL, ...]:
    """An ACL as zkCli's ``setAcl`` has it: SCHEME:ID:PERMISSIONS, separated by commas.

    >>> [(entry.id.scheme, entry.acl_list) for entry in acl("auth::cdrwa,world:anyone:r")]
    [('auth', ['ALL']), ('world', ['READ'])]
    """
    # The name in a certificate has commas, too: CN=rpcregistry,O=Example.
    entries = [_entry(entry.strip()) for entry in re.split(r",(?=\s*\w*:)", text)]
    if not any({"c", "d", "r", "w"} <= set(letters) for _, letters in entries):
        raise ValueError(
            f"{text!r} lets nobody change what we create: one entry needs cdrw, like auth::cdrwa"
        )
    return tuple(entry for entry, _ in entries)


def _entry(text: str) -> tuple[ACL, str]:
    match = _ENTRY.fullmatch(text)
    if not match:
        raise ValueError(
            f"{text!r} is no entry of an ACL: write SCHEME:ID:PERMISSIONS, like world:anyone:r; a scheme is"
            " auth, digest, ip, sasl, world or x509, and permissions are of cdrwa"
        )
    scheme, identity, letters = match.groups()
    if not re.fullmatch(_IDS.get(scheme, r".+"), identity):
        raise ValueError(f"{text!r}: write auth::…, world:anyone:…, digest:USER:HASH:…, or {scheme}:ID:…")
    permissions = 0
    for letter in letters:
        permissions |= _PERMISSIONS[letter]
    return ACL(permissions, Id(scheme, identity)), letters


def _user(file: str) -> tuple[str, str]:
    """User and password, from a file that has one line USER:PASSWORD."""
    try:
        text = Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise Misconfigured(f"--zk-auth-file {file}: {error.strerror}") from error
    except UnicodeDecodeError:
        text = ""
    user, _, password = text.rstrip("\r\n").partition(":")
    if not user or not password or not (user + password).isprintable():
        raise Misconfigured(f"--zk-auth-file {file}: it has to hold one line, USER:PASSWORD")
    return user, password


def _tls(access: Access) -> ssl.SSLContext:
    """TLS 1.2 or newer with a server that has a certificate of our CA, and no other, for its host name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # which checks both, and trusts nobody yet
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(access.tls_ca)
    except OSError as error:
        raise Misconfigured(f"--zk-tls-ca {access.tls_ca}: {_reason(error, 'no certificate')}") from error
    if access.tls_cert:
        try:
            context.load_cert_chain(access.tls_cert, access.tls_key, _no_password)
        except (OSError, ValueError) as error:
            files = f"--zk-tls-cert {access.tls_cert}"
            files += f" with --zk-tls-key {access.tls_key}" if access.tls_key else ""
            raise Misconfigured(f"{files}: {_reason(error, 'no certificate with its key')}") from error
    return context


def _reason(error: Exception, otherwise: str) -> str:
    """What is wrong with a file, for people: OpenSSL's reasons are names like ``NO_START_LINE``."""
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or "").replace("_", " ").lower()
        return f"{otherwise}: {reason}" if reason else otherwise
    return getattr(error, "strerror", None) or str(error)


def _no_password() -> str:
    """Without this, OpenSSL asks on the terminal."""
    raise ValueError("the key is encrypted: give one without a password")


def _contents(access: Access) -> list[bytes | None]:
    """What the files hold, None where one cannot be read."""
    return [_content(file) for file in access.files]


def _content(file: str) -> bytes | None:
    try:
        return Path(file).read_bytes()
    except OSError:
        return None


class _DigestMD5(DigestMD5Mechanism):  # type: ignore[misc]
    """Gives up on a server without SASL, which answers with no challenge: kazoo would ask it for ever.

    One for each connection, and of its thread.
    """

    asked = False

    def process(self, challenge: bytes | None = None) -> bytes | None:
        if self.asked and not challenge:
            raise SASLProtocolException("the server has no SASL")
        self.asked = True
        answer: bytes | None = super().process(challenge)
        return answer


mechanisms[DigestMD5Mechanism.name] = _DigestMD5


class Attempts(Protocol):
    """What comes of trying to connect; *server* is ``HOST:PORT``."""

    def next(self) -> float:
        """How many seconds to wait before the next attempt, which is due."""

    def opened(self, server: str) -> None:
        """*server* took the connection."""

    def failed(self, server: str, reason: str) -> None:
        """There is no connection to *server*."""

    def denied(self, reason: str) -> None:
        """There is none, for a reason that the last server that took it gave."""


class Handler(SequentialThreadingHandler):  # type: ignore[misc]
    """Connects within *timeout* seconds, by *tls* unless that is None; *attempts* is told what comes of it.

    A server that does not take the connection is given up soon: another one of the ensemble may.
    kazoo's own TLS trusts all whom the system trusts, whatever CA it is given.
    """

    def __init__(self, tls: ssl.SSLContext | None, timeout: float, attempts: Attempts) -> None:
        super().__init__()
        self._tls = tls
        self._timeout = timeout
        self._attempts = attempts
        self._ended = threading.Event()

    def start(self) -> None:
        """Called by kazoo, after a ``stop``."""
        self._ended.clear()
        super().start()

    def stop(self) -> None:
        """Called by kazoo, before it waits for the thread that connects."""
        self._ended.set()
        super().stop()

    def spawn(self, func: Callable[..., None], *args: Any, **kwargs: Any) -> threading.Thread:
        """Called by kazoo, for the thread that connects; what ends it was logged by kazoo already."""

        def run() -> None:
            try:
                func(*args, **kwargs)
            except SessionClosedRequireSaslError:
                self._attempts.denied("it refuses our credentials: mend --zk-auth-file")
            except Exception as error:  # noqa: BLE001  whatever it is, the client is of no use any more
                self._attempts.denied(f"the client failed: {type(error).__name__}: {error}")

        thread: threading.Thread = super().spawn(run)
        return thread

    def create_connection(self, address: tuple[str, int], hostname: str, **_: Any) -> socket.socket:
        """Called by kazoo, with an IP address and a port, and the name that it stands for."""
        if self._ended.wait(self._attempts.next()):
            raise ConnectionAbortedError("the client is stopped")
        server = f"{hostname}:{address[1]}"
        try:
            connection: socket.socket = super().create_connection(address, timeout=self._timeout)
            if self._tls:
                connection = self._wrapped(self._tls, connection, hostname)
        except OSError as error:
            reason = _refusal(error)
            self._attempts.failed(server, reason)
            raise OSError(error.errno, f"{server}: {reason}") from error
        self._attempts.opened(server)
        return connection

    def _wrapped(self, tls: ssl.SSLContext, connection: socket.socket, hostname: str) -> socket.socket:
        """*connection* by TLS; closed where that fails."""
        try:
            return tls.wrap_socket(connection, server_hostname=hostname)
        except ssl.SSLError:
            raise
        except OSError as error:
            raise ssl.SSLError(error.errno, error.strerror or str(error)) from error


def _refusal(error: OSError) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not accepted: {error.verify_message}"
        case ssl.SSLError():
            reason = (error.reason or error.strerror or str(error)).replace("_", " ").lower()
            return f"no TLS: {reason}: is that its port for TLS?"
    return error.strerror or str(error)
