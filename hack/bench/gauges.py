"""Reads what programs used: from /proc, from metrics of API server and controller, and from ZooKeeper."""

import os
import re
import socket
import time
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from hack.bench.figures import Cost, difference
from hack.bench.http import Client, Request

TICKS = os.sysconf("SC_CLK_TCK")
_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_opener = build_opener(ProxyHandler({}))


class Reading(NamedTuple):
    """Usage of all programs so far; *controller*: CPU seconds, peak bytes."""

    at: float
    cpu: dict[str, float]
    peak: int
    requests: dict[str, int]
    response_bytes: int
    watch_bytes: int
    allocated_bytes: int
    zxid: int
    packets: int
    znode_writes: int


def cpu_seconds(pid: int | None) -> float:
    """The CPU seconds of a process; 0 if there is no process."""
    if pid is None:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def peak_bytes(pid: int | None) -> int:
    """The peak memory of a process (VmHWM)."""
    return 0 if pid is None else int(_status(pid, "VmHWM")) * 1024


def _status(pid: int, field: str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{field}:"))


def samples(text: str) -> list[tuple[str, dict[str, str], float]]:
    r"""The samples of Prometheus' text format: name, labels, value.

    >>> samples('# HELP a b\na_total{verb="GET",code="200"} 3\nb 1.5')
    [('a_total', {'verb': 'GET', 'code': '200'}, 3.0), ('b', {}, 1.5)]
    """
    return [
        (name, dict(_LABEL.findall(labels or "")), float(value))
        for name, labels, value in _SAMPLE.findall(text)
    ]


def api_counts(text: str) -> tuple[dict[str, int], int, int, int]:
    """From the API server's metrics: requests by verb and resource; bytes answered, watched, allocated."""
    requests: dict[str, int] = {}
    answers = watched = allocated = 0
    for name, labels, value in samples(text):
        match name:
            case "apiserver_request_total":
                what = "/".join(filter(None, (labels["resource"], labels["subresource"])))
                key = f"{labels['verb']} {what}"
                requests[key] = requests.get(key, 0) + int(value)
            case "apiserver_response_sizes_sum":
                answers += int(value)
            case "apiserver_watch_events_sizes_sum":
                watched += int(value)
            case "go_memstats_alloc_bytes_total":
                allocated = int(value)
    return {key: count for key, count in requests.items() if key.split(" ")[1]}, answers, watched, allocated


def zookeeper_says(servers: str, command: str) -> str:
    """ZooKeeper's answer to a four-letter word."""
    host, _, port = servers.partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(command.encode())
        return connection.makefile("rb").read().decode()


def zookeeper_counts(servers: str) -> tuple[int, int]:
    """The last transaction's number, and how many packets the server received."""
    answer = zookeeper_says(servers, "srvr")
    zxid = int(re.search(r"Zxid: (0x[0-9a-f]+)", answer).group(1), 16)  # type: ignore[union-attr]
    return zxid, int(re.search(r"Received: (\d+)", answer).group(1))  # type: ignore[union-attr]


def controller_writes(port: int | None) -> int:
    """How many znodes our controller has written; 0 without one."""
    return int(_sum(_of_controller(port), "rpcregistry_registry_writes_total"))


def change_seconds(port: int | None) -> dict[str, tuple[float, float]]:
    """How long changes took our controller so far, by part: the sum of seconds, and how many changes."""
    found = _of_controller(port)
    metrics = {part: f"rpcregistry_{part}_seconds" for part in ("propagation", "status", "write")}
    return {
        part: (_sum(found, f"{metric}_sum"), _sum(found, f"{metric}_count"))
        for part, metric in metrics.items()
    }


def _of_controller(port: int | None) -> list[tuple[str, dict[str, str], float]]:
    if port is None:
        return []
    try:
        with _opener.open(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            return samples(answer.read().decode())
    except (URLError, OSError):
        return []


def _sum(found: list[tuple[str, dict[str, str], float]], metric: str) -> float:
    return sum(value for name, _, value in found if name == metric)


def read(
    client: Client, zk_servers: str, pids: dict[str, int | None], controller_port: int | None
) -> Reading:
    """Read all gauges; *pids*: by program, the controller's included."""
    requests, answers, watched, allocated = api_counts(client.send(Request("GET", "/metrics")).decode())
    zxid, packets = zookeeper_counts(zk_servers)
    return Reading(
        at=time.monotonic(),
        cpu={name: cpu_seconds(pid) for name, pid in pids.items()},
        peak=peak_bytes(pids["controller"]),
        requests=requests,
        response_bytes=answers,
        watch_bytes=watched,
        allocated_bytes=allocated,
        zxid=zxid,
        packets=packets,
        znode_writes=controller_writes(controller_port),
    )


def cost(before: Reading, after: Reading) -> Cost:
    """Usage between two readings."""
    used = {name: seconds - before.cpu[name] for name, seconds in after.cpu.items()}
    return Cost(
        seconds=after.at - before.at,
        controller_cpu_seconds=used["controller"],
        controller_peak_bytes=after.peak,
        apiserver_cpu_seconds=used["kube-apiserver"],
        apiserver_allocated_bytes=after.allocated_bytes - before.allocated_bytes,
        etcd_cpu_seconds=used["etcd"],
        zookeeper_cpu_seconds=used["zookeeper"],
        requests=difference(after.requests, before.requests),
        response_bytes=after.response_bytes - before.response_bytes,
        watch_bytes=after.watch_bytes - before.watch_bytes,
        transactions=after.zxid - before.zxid,
        znode_writes=after.znode_writes - before.znode_writes,
        zookeeper_packets=after.packets - before.packets,
    )
