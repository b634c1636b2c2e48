"""Credentials, ACL and TLS of the connections to ZooKeeper.

Files have the credentials, so no command line shows them.  We read a file again when it changes: Kubernetes
replaces mounted Secrets while we run.  ACLs have the notation of ZooKeeper's own command line (ZooKeeper
Administrator's Guide, "ZooKeeper access control using ACLs"): ``auth::cdrwa,world:anyone:r``.
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
_IDS = {"auth": r"", "digest": r"[^:]+:[^:]+", "world": r"anyone"}  # of other schemes: any


AclEntries = tuple[ACL, ...]


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """The flags ``--zk-…``; of files the names, never the content.  Raises ``ValueError``.

    *acl*: of the znodes that we create.  By default, clients with our credentials may do everything, and
    others may read; if we have no credentials, everybody may do everything.
    """

    auth_scheme: str = "digest"
    auth_file: str | None = None
    acl: AclEntries | None = None
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None

    def __post_init__(self) -> None:
        """Refuse flags that contradict each other."""
        if self.tls_key and not self.tls_cert:
            raise ValueError("--zk-tls-key needs --zk-tls-cert")
        if self.tls_cert and not self.tls_ca:
            raise ValueError("--zk-tls-cert needs --zk-tls-ca: the CA that signs the servers' certificates")
        if not self.has_identity and any(entry.id.scheme == "auth" for entry in self.acl or ()):
            raise ValueError(
                "--zk-acl: auth:: stands for our credentials: give --zk-auth-file or --zk-tls-cert"
            )

    @property
    def has_identity(self) -> bool:
        """Whether ZooKeeper can authenticate us."""
        return bool(self.auth_file or self.tls_cert)

    @property
    def files(self) -> tuple[str, ...]:
        """The files to read again when they change."""
        return tuple(filter(None, (self.auth_file, self.tls_ca, self.tls_cert, self.tls_key)))


OPEN = Access()  # no credentials, no TLS: everybody may do everything


class Credentials:
    """Options of ``KazooClient``, and TLS or None.  They hold passwords: never print or log them."""

    def __init__(self, options: Mapping[str, Any], tls: ssl.SSLContext | None) -> None:
        self.options = options
        self.tls = tls


class Secrets:
    """The credentials in the files of *access*; for one thread.  Raises ``Misconfigured``."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._seen = _contents(access)
        self._trouble = ""
        self.credentials = load(access)

    def renewed(self) -> bool:
        """Read files that changed; return whether there are new credentials.

        Unusable files change nothing; each call tries them again.  So a new certificate waits until its new
        key is in place, too.
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
    """Read the files.  Raises ``Misconfigured``, whose message shows no content of a file."""
    options: dict[str, Any] = {}
    if access.auth_file:
        user, password = _user(access.auth_file)
        if access.auth_scheme == "sasl":
            if not (user + password).isascii():  # servers decode others differently
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
    """Parse an ACL in the notation of zkCli's ``setAcl``: SCHEME:ID:PERMISSIONS, separated by commas.

    >>> [(entry.id.scheme, entry.acl_list) for entry in acl("auth::cdrwa,world:anyone:r")]
    [('auth', ['ALL']), ('world', ['READ'])]
    """
    # An x509 id has commas, too: CN=rpcregistry,O=Example.
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
    """Read user and password from a file with one line, USER:PASSWORD."""
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
    """Require TLS 1.2, and of servers a certificate of our CA (no other CA) for their host name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # it checks CA and host name, and trusts no CA yet
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
    """Say what is wrong with a file.  OpenSSL's reasons, like ``NO_START_LINE``, become words."""
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or "").replace("_", " ").lower()
        return f"{otherwise}: {reason}" if reason else otherwise
    return getattr(error, "strerror", None) or str(error)


def _no_password() -> str:
    """Refuse an encrypted key; without this, OpenSSL would ask for a password on the terminal."""
    raise ValueError("the key is encrypted: give one without a password")


def _contents(access: Access) -> list[bytes | None]:
    """The content of each file, None if it cannot be read."""
    return [_content(file) for file in access.files]


def _content(file: str) -> bytes | None:
    try:
        return Path(file).read_bytes()
    except OSError:
        return None


class _DigestMD5(DigestMD5Mechanism):  # type: ignore[misc]
    """Fails if a server without SASL answers with an empty challenge; kazoo would ask it for ever.

    Each connection has its own, used by its thread only.
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
    """Receives the outcome of each attempt to connect; *server* is ``HOST:PORT``."""

    def next(self) -> float:
        """Return how many seconds to wait before the next attempt."""

    def opened(self, server: str) -> None:
        """*server* accepted the connection."""

    def failed(self, server: str, reason: str) -> None:
        """*server* cannot be connected."""

    def denied(self, reason: str) -> None:
        """The server that accepted the last connection gave this *reason* for ending it."""


class Handler(SequentialThreadingHandler):  # type: ignore[misc]
    """Makes kazoo's connections, and reports to *attempts*; *tls* None: without TLS.

    It gives a server *timeout* seconds to accept the connection, then kazoo tries the next of the ensemble.
    We do not use kazoo's own TLS.  It trusts the system's CAs besides the one it is given.
    """

    def __init__(self, tls: ssl.SSLContext | None, timeout: float, attempts: Attempts) -> None:
        super().__init__()
        self._tls = tls
        self._timeout = timeout
        self._attempts = attempts
        self._ended = threading.Event()

    def start(self) -> None:
        """Start; kazoo calls it, also after a ``stop``."""
        self._ended.clear()
        super().start()

    def stop(self) -> None:
        """End the wait before an attempt; kazoo calls it before it joins the thread that connects."""
        self._ended.set()
        super().stop()

    def spawn(self, func: Callable[..., None], *args: Any, **kwargs: Any) -> threading.Thread:
        """Start the thread that connects, and report what ends it; kazoo has logged that."""

        def run() -> None:
            try:
                func(*args, **kwargs)
            except SessionClosedRequireSaslError:
                self._attempts.denied("it refuses our credentials: mend --zk-auth-file")
            except Exception as error:  # noqa: BLE001  any of them makes the client useless
                self._attempts.denied(f"the client failed: {type(error).__name__}: {error}")

        thread: threading.Thread = super().spawn(run)
        return thread

    def create_connection(self, address: tuple[str, int], hostname: str, **_: Any) -> socket.socket:
        """Connect to *address*, IP and port; *hostname* is the name that resolved to it.  kazoo calls it."""
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
        """Start TLS on *connection*, and close it if that fails."""
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
            given = getattr(error, "reason", None)  # a handshake that timed out has none
            reason = (given or error.strerror or str(error)).replace("_", " ").lower()
            return f"no TLS: {reason}: is that its port for TLS?"
    return error.strerror or str(error)
