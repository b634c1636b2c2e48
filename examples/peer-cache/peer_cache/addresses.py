"""Where processes listen and are called."""

from ipaddress import IPv4Address


def join(host: str, port: int) -> str:
    """Host and port in one, as URLs have them.

    >>> join("10.0.0.1", 50051), join("fd00::1", 50051)
    ('10.0.0.1:50051', '[fd00::1]:50051')
    """
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def loopback_twin(ip: str) -> str:
    """The loopback address that stands for a pod's, where processes of one machine play pods.

    All of 127.0.0.0/8 is the machine itself (on Linux: without being set up), but Kubernetes and the
    registry take no such address for a pod's.  Raises ``ValueError`` for what is no IPv4 address.

    >>> loopback_twin("10.100.0.3")
    '127.100.0.3'
    """
    return str(IPv4Address(b"\x7f" + IPv4Address(ip).packed[1:]))
