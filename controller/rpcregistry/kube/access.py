"""API server address and credentials.

The official client reads kubeconfigs, which can have plugins, several files and proxies.  A pod needs a host,
a token and a certificate only.  We read those ourselves: importing that client costs every RPC process 20 MB.
"""

import os
import re
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import urllib3

from rpcregistry.errors import Misconfigured
from rpcregistry.logs import Log

log = Log(__name__)

IN_CLUSTER = "in-cluster"  # instead of a context's name
USUAL_FILE = "~/.kube/config"
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_PLAIN = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG")
TOKEN_PERIOD = 60.0  # seconds; a kubelet replaces the token long before it expires

# By keepalive the kernel notices a peer that vanished.  It does not notice a server that hangs, whose own
# kernel goes on answering: that takes the read timeouts.
_SOCKET_OPTIONS = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000),
]


class ApiServer(NamedTuple):
    """*pool* connects to *host*, a URL without a path.

    *authorization* returns the header's value, ``""`` for none; one thread at a time may call it.  It raises
    ``OSError`` if there are no credentials now.  *context* is the kubeconfig's, or ``IN_CLUSTER``;
    *namespace* the context's, or the pod's own.
    """

    host: str
    pool: urllib3.PoolManager
    authorization: Callable[[], str]
    context: str
    namespace: str


def api_server(
    kubeconfig: str | None, context: str | None, service_account: Path, connections: int
) -> ApiServer:
    """Find the API server: *context* of the file *kubeconfig*; keep at most *connections* open.

    The default file is ``$KUBECONFIG``; else, without a *context*, the pod's service account; else
    ``~/.kube/config``.  The default context is the file's current one.  Raises ``Misconfigured``.
    """
    file = kubeconfig or os.environ.get("KUBECONFIG")
    in_pod = not file and not context and bool(os.environ.get("KUBERNETES_SERVICE_HOST"))
    in_cluster = in_pod and (service_account / "token").is_file()
    if in_pod and not in_cluster and not Path(USUAL_FILE).expanduser().exists():
        raise Misconfigured(
            f"this pod has no token ({service_account / 'token'}): does it or its ServiceAccount say "
            "automountServiceAccountToken: false?"
        )
    try:
        if in_cluster:
            return _of_service_account(service_account, connections)
        return _of_kubeconfig(file or USUAL_FILE, context, connections)
    except Exception as error:
        source = service_account if in_cluster else file or USUAL_FILE
        raise Misconfigured(f"cannot connect to a cluster with {source}: {_unusable(error)}") from error


def _unusable(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):  # in an RPC process, which in its pod needs no such file
        needs = f'to read it takes the extra "kubeconfig" (there is no module {error.name})'
        return f'{needs}: pip install "rpcregistry[kubeconfig]"'
    return str(error)


def _of_service_account(folder: Path, connections: int) -> ApiServer:
    """The server that the kubelet names to every container; we use no proxy to it.

    Source: kubernetes.io, Accessing the Kubernetes API from a Pod.
    """
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    certificate, token = folder / "ca.crt", _TokenFile(folder / "token")
    if not certificate.read_bytes():
        raise ValueError("ca.crt is empty")
    token()
    pool = urllib3.PoolManager(
        maxsize=connections,
        retries=False,
        socket_options=_SOCKET_OPTIONS,
        cert_reqs="CERT_REQUIRED",
        ca_certs=str(certificate),
    )
    url = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    return ApiServer(url, pool, token, IN_CLUSTER, _own_namespace(folder))


def _own_namespace(folder: Path) -> str:
    file = folder / "namespace"
    return file.read_text().strip() if file.is_file() else "default"


class _TokenFile:
    """Reads the token again once a minute: an ``ApiServer.authorization``, for one thread at a time."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._read_at = float("-inf")
        self._token = ""

    def __call__(self) -> str:
        if time.monotonic() - self._read_at >= TOKEN_PERIOD:
            self._token = self._file.read_text().strip()
            if not self._token:
                raise OSError(f"{self._file} is empty")
            self._read_at = time.monotonic()
        return f"Bearer {self._token}"


def _of_kubeconfig(file: str, context: str | None, connections: int) -> ApiServer:
    from kubernetes.client.configuration import Configuration
    from kubernetes.client.rest import RESTClientObject
    from kubernetes.config.config_exception import ConfigException
    from kubernetes.config.kube_config import KubeConfigLoader

    config = _merged(file)
    chosen = _chosen(context, config.value)
    configuration = Configuration()
    KubeConfigLoader(config, chosen, config_base_path=None).load_and_set(configuration)
    configuration.retries = False
    configuration.connection_pool_maxsize = connections
    configuration.socket_options = _SOCKET_OPTIONS
    if _is_loopback(configuration.host):
        configuration.proxy = None
    if not configuration.verify_ssl:
        log.warning("the API server's certificate is not verified")
        # urllib3 would warn at every request.
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)

    def authorization() -> str:
        try:
            value = configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
        except ConfigException as error:
            raise OSError(str(error)) from error
        return (value or "").strip()

    pool = RESTClientObject(configuration).pool_manager
    named = next(entry["context"] for entry in config.value["contexts"] if entry["name"] == chosen)
    namespace = getattr(named, "value", named).get("namespace") or "default"
    return ApiServer(configuration.host.rstrip("/"), pool, authorization, chosen, namespace)


def _merged(file: str) -> Any:
    """Merge the kubeconfigs that *file* names, separated by colons."""
    import yaml
    from kubernetes.config.config_exception import ConfigException
    from kubernetes.config.kube_config import KubeConfigMerger

    try:
        config = KubeConfigMerger(file).config
    except ConfigException as error:
        raise ValueError("it is empty") from error
    except yaml.YAMLError as error:
        raise ValueError(f"it is no YAML: {error}") from error
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError("it is no kubeconfig") from error
    if config is None:
        raise ValueError("no such file")
    return config


def _chosen(context: str | None, config: Mapping[str, Any]) -> str:
    """The context to use: *context*, else the kubeconfig's current one."""
    names = [entry["name"] for entry in config["contexts"]]
    there_are = f"its contexts are {', '.join(names)}" if names else "it has no contexts"
    chosen = context or config.get("current-context")
    if not chosen:
        raise ValueError(f"no current-context is set: name one by --context; {there_are}")
    if chosen not in names:
        raise ValueError(f"there is no context {chosen!r}: {there_are}")
    return str(chosen)


def reason(error: Exception) -> str:
    """Say what happened to a connection and what to do, in the same words each time: it is logged once."""
    match error:
        case urllib3.exceptions.NameResolutionError():
            return "its name does not resolve: mend the address, or DNS"
        case urllib3.exceptions.ConnectTimeoutError() | urllib3.exceptions.NewConnectionError():
            return _unconnected(error)
        case urllib3.exceptions.ReadTimeoutError():
            return "no answer in time"
        case urllib3.exceptions.SSLError():
            return _no_tls(error)
        case urllib3.exceptions.ProxyError():
            return f"the proxy does not lead there: {reason(error.original_error)}"
        case urllib3.exceptions.ProtocolError(args=(_, Exception() as cause)):
            return f"the connection broke: {cause}"
        case OSError():  # our own (_TokenFile), or one of a file
            return str(error)
    return re.sub(r"<[^<>]* object at 0x[0-9a-f]+>:? ?", "", f"{type(error).__name__}: {error}")


def _unconnected(error: Exception) -> str:
    cause = error.__cause__ or error.__context__
    if isinstance(cause, TimeoutError):
        return "no connection in time: is there a route to it, or a firewall?"
    said = isinstance(cause, OSError) and cause.strerror
    return f"{said or 'no connection'}: is the API server up, and is that its address?"


def _no_tls(error: Exception) -> str:
    cause = error.args[0] if error.args else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {cause.verify_message}: mend the certificate authority"
    if isinstance(cause, ssl.SSLError) and cause.reason in _PLAIN:
        return "it does not speak TLS: write http:// for https://"
    said = getattr(cause, "reason", None) or str(cause)
    return f"no TLS: {said.replace('_', ' ').lower()}"


def _is_loopback(url: str) -> bool:
    """Whether *url* is on this machine: then, like kubectl, we ignore the environment's proxies."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
