"""The addresses at which processes listen and are called."""

from ipaddress import IPv4Address


def join(host: str, port: int) -> str:
    """Join host and port as in a URL.

    >>> join("10.0.0.1", 50051), join("fd00::1", 50051)
    ('10.0.0.1:50051', '[fd00::1]:50051')
    """
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def loopback_twin(ip: str) -> str:
    """The loopback address of the process that plays the pod with *address*.

    On Linux all of 127.0.0.0/8 is the machine itself, without setup.  Pods need other addresses: Kubernetes
    and the registry refuse loopback ones.  Raises ``ValueError`` for other than IPv4.

    >>> loopback_twin("10.100.0.3")
    '127.100.0.3'
    """
    return str(IPv4Address(b"\x7f" + IPv4Address(ip).packed[1:]))
