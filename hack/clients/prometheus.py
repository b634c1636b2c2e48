"""Prometheus as a watcher: ``python -m hack.clients.prometheus PROGRAM DISCOVERY watch SERVERS PATH``.

It runs the unmodified program with one scrape configuration of DISCOVERY (``serverset_sd``, ``nerve_sd``),
polls its targets, and prints a line whenever they change.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import yaml

from hack.local.cluster import free_ports


def main(arguments: Sequence[str]) -> None:
    """Run until the standard input ends."""
    program, discovery, _, servers, path = arguments
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory() as directory:
        config = Path(directory) / "prometheus.yml"
        config.write_text(_config(discovery, servers, path))
        process = subprocess.Popen(
            [
                program,
                f"--config.file={config}",
                f"--storage.tsdb.path={directory}/data",
                f"--web.listen-address=127.0.0.1:{port}",
                "--log.level=warn",
            ],
            stdout=sys.stderr,
        )
        try:
            threading.Thread(target=_watch, args=(discovery, port), daemon=True).start()
            sys.stdin.read()
        finally:
            process.kill()
            process.wait()


def _config(discovery: str, servers: str, path: str) -> str:
    job = {"job_name": "watcher", f"{discovery}_configs": [{"servers": [servers], "paths": [path]}]}
    # Never scrape the targets: the first scrape comes at random within the interval.
    return yaml.safe_dump({"global": {"scrape_interval": "1d"}, "scrape_configs": [job]})


def _watch(discovery: str, port: int) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    shown = ""
    while True:
        try:
            with opener.open(f"http://127.0.0.1:{port}/api/v1/targets?state=active", timeout=5) as answer:
                targets = json.load(answer)["data"]["activeTargets"]
        except OSError:  # it is starting
            targets = []
        labels = [target["discoveredLabels"] for target in targets]
        line = json.dumps({"via": discovery, "endpoints": {known["__address__"]: known for known in labels}})
        if line != shown and (labels or shown):  # before it has looked, it has none
            print(line, flush=True)
            shown = line
        time.sleep(0.05)


if __name__ == "__main__":
    main(sys.argv[1:])
