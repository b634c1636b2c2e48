"""A local cluster that is there to be broken: every outage is undone, declared, and leaves its records.

What is done to a server or a proxy by its methods is declared as a fault by itself, from the first sign of it
to the end; whoever judges knows by that what nobody could have done meanwhile.
"""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hack.local.binaries import find
from hack.local.cluster import ORDER, LocalCluster, free_ports
from hack.local.http_proxy import HttpProxy, unanswered, untouched
from hack.local.process import Process
from hack.local.proxy import Proxy
from tests.faults.harness import audit
from tests.faults.harness.faults import Faults

KINDS: Mapping[str, str] = {"zookeeper": "zookeeper", "etcd": "apiserver", "kube-apiserver": "apiserver"}
READERS = ("kwok", "kube-scheduler", "kube-controller-manager")  # of the API, in the order in which they stop


class Breakable:
    """A server's process; what stops it begins a fault, and what brings it back ends it."""

    def __init__(self, process: Process, faults: Faults, breaking: Callable[[], None]) -> None:
        self._process = process
        self._faults = faults
        self._breaking = breaking

    def __getattr__(self, name: str) -> Any:
        return getattr(self._process, name)

    def _begin(self) -> None:
        self._breaking()
        self._faults.begin(self._process.name, KINDS.get(self._process.name, "readers"))

    def pause(self) -> None:
        self._begin()
        self._process.pause()

    def kill(self) -> None:
        self._begin()
        self._process.kill()

    def stop(self) -> None:
        self._begin()
        self._process.stop()

    def resume(self) -> None:
        self._process.resume()
        if self._process.pid:
            self._faults.end(self._process.name)

    def start(self) -> None:
        """From now on some may reach it, and others not."""
        if not self._process.pid:
            self._faults.begin(self._starting, "start")
        self._process.start()
        self._faults.end(self._process.name)

    def wait_until_ready(self, seconds: float = 60.0) -> None:
        self._process.wait_until_ready(seconds)
        self._faults.end(self._starting)

    def restart(self) -> None:
        self.kill()
        self.start()
        self.wait_until_ready()

    @property
    def _starting(self) -> str:
        return f"{self._process.name} starts"

    @contextmanager
    def paused(self) -> Iterator[None]:
        """SIGSTOP; SIGCONT in the end, whatever happens."""
        self.pause()
        try:
            yield
        finally:
            self.resume()

    @contextmanager
    def down(self) -> Iterator[None]:
        """SIGKILL; it serves again in the end, whatever happens."""
        self.kill()
        try:
            yield
        finally:
            self.start()
            self.wait_until_ready()


class FaultCluster(LocalCluster):
    """A cluster in *directory* whose API servers write an audit log, and have *apiserver_flags*."""

    def __init__(self, directory: Path, *, nodes: int = 1, apiserver_flags: Sequence[str] = ()) -> None:
        self.audit_log = directory.resolve() / "audit.log"
        flags = [*audit.flags(self.audit_log), *apiserver_flags]
        super().__init__(directory, nodes=nodes, apiserver_flags=flags)
        self.faults = Faults()
        self._whole = True
        self._old_data: list[Path] = []
        self._copies = 0

    def process(self, name: str) -> Any:
        """A process by its program's name."""
        return Breakable(super().process(name), self.faults, self._break)

    def _break(self) -> None:
        self._whole = False

    def heal(self) -> None:
        """Run all of it, whatever became of it."""
        if self._whole:
            return
        for name in ORDER:
            self.process(name).resume()
        self.up()
        self._whole = True

    # ZooKeeper's data

    @property
    def zookeeper_data(self) -> list[Path]:
        """Its data directories, of every life that its data had."""
        return [*self._old_data, self.directory / "zookeeper"]

    def wipe_zookeeper(self) -> None:
        """Lose ZooKeeper's data, as a person does by mistake; to be called while it is down."""
        self._old_data.append(self._aside(self.directory / "zookeeper"))

    def save_zookeeper(self) -> Path:
        """A copy of its data as they are on the disk at one moment, like a snapshot of a machine."""
        return self._copy("zookeeper")

    def restore_zookeeper(self, saved: Path, then: Callable[[], None] = lambda: None) -> None:
        """Have it go on with a copy; *then*: what happens while it is down."""
        with self.process("zookeeper").down():
            self.wipe_zookeeper()
            then()
            shutil.copytree(saved, self.directory / "zookeeper")

    # etcd's data

    def save_etcd(self) -> Path:
        """A copy of its data as they are on the disk at one moment."""
        return self._copy("etcd")

    def restore_etcd(
        self, saved: Path, *, away: float = 0.0, then: Callable[[], None] = lambda: None, bump: int = 0
    ) -> None:
        """Have etcd go on with a copy; the control plane is away for *away* seconds at least, and *then*.

        *bump*: by so much the revision goes up beyond the copy's, and all before counts as compacted: what
        etcd recommends for Kubernetes.  0 leaves it as it was, as most people do.
        """
        began = time.monotonic()
        with self.without_control_plane():
            self._aside(self.directory / "etcd")
            if bump:
                restore_bumped(saved, self.directory / "etcd", bump, self.etcd_peer)
            else:
                shutil.copytree(saved, self.directory / "etcd")
            then()
            time.sleep(max(0.0, away - (time.monotonic() - began)))

    @contextmanager
    def without_control_plane(self) -> Iterator[None]:
        """Neither etcd nor anybody who reads the API runs; all of it does in the end, whatever happens."""
        try:
            for name in (*READERS, "kube-apiserver", "etcd"):
                if name in (*self._controllers, "kube-apiserver", "etcd"):
                    self.process(name).stop()
            yield
        finally:
            self.heal()

    # a second API server

    @contextmanager
    def another_apiserver(self, etcd: str | None = None) -> Iterator[str]:
        """A second API server on the same etcd; its URL.  *etcd*: ``HOST:PORT``, a proxy in between."""
        (port,) = free_ports(1)
        url = f"https://127.0.0.1:{port}"
        command = self._apiserver()
        command[1] = f"--etcd-servers=http://{etcd or self.etcd}"
        log = self.audit_log.with_name("audit-2.log")  # a name that is read as one that was rotated away
        changed = {"--secure-port": f"--secure-port={port}", "--audit-log-path": f"--audit-log-path={log}"}
        command = [changed.get(flag.partition("=")[0], flag) for flag in command]
        process = Process("kube-apiserver-2", self.directory, command, self._answers(f"{url}/readyz"))
        process.start()
        try:
            process.wait_until_ready()
            yield url
        finally:
            process.kill()

    @property
    def etcd(self) -> str:
        """Etcd's address, ``HOST:PORT``."""
        return f"127.0.0.1:{self._ports['etcd']}"

    @property
    def etcd_peer(self) -> str:
        """The URL at which it would be found by peers."""
        return f"http://127.0.0.1:{self._ports['etcd-peer']}"

    def _copy(self, server: str) -> Path:
        self._copies += 1
        with self.process(server).paused():
            data = self.directory / server
            return Path(shutil.copytree(data, self.directory / f"{server}.copy{self._copies}"))

    def _aside(self, data: Path) -> Path:
        self._copies += 1
        return data.rename(data.with_name(f"{data.name}.old{self._copies}"))


class FaultProxy(Proxy):
    """A proxy in front of ``HOST:PORT`` that declares what it does to connections."""

    def __init__(self, target: str, faults: Faults, **more: Any) -> None:
        super().__init__(target, **more)
        self._faults = faults

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self._faults.end(self.address)

    def _break(self) -> None:
        self._faults.begin(self.address, "network")

    def pass_through(self) -> None:
        super().pass_through()
        self._faults.end(self.address)

    def cut(self) -> None:
        self._break()
        super().cut()
        if not self._refusing:
            self._faults.end(self.address)

    def reset(self) -> None:
        self._break()
        super().reset()
        self._faults.end(self.address)

    def blackhole(self, since: Callable[[bytes], bool] | None = None) -> None:
        self._break()
        super().blackhole(since)

    def delay(self, seconds: float) -> None:
        self._break()
        super().delay(seconds)

    def throttle(self, rate: int) -> None:
        self._break()
        super().throttle(rate)

    def lose_request(self, matches: Callable[[bytes], bool], then: Callable[[], None] = lambda: None) -> None:
        super().lose_request(matches, self._moment(then))

    def lose_reply(self, matches: Callable[[bytes], bool], then: Callable[[], None] = lambda: None) -> None:
        super().lose_reply(matches, self._moment(then))

    def _moment(self, then: Callable[[], None]) -> Callable[[], None]:
        def happens() -> None:
            self._break()
            then()
            self._faults.end(self.address)

        return happens


class FaultHttpProxy(HttpProxy):
    """A proxy in front of the API server that declares for how long it does something to requests."""

    def __init__(self, server: str, pki: Path, faults: Faults) -> None:
        self._faults = faults
        super().__init__(server, pki)

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self._faults.end(self.server)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name in ("instead", "rewrite", "watch_bytes", "latency") and hasattr(self, "server"):
            hooks = self.instead is unanswered and self.rewrite is untouched
            if hooks and self.watch_bytes is None and not self.latency:
                self._faults.end(self.server)
            else:
                self._faults.begin(self.server, "refused")


def restore_bumped(saved: Path, target: Path, bump: int, peer: str) -> None:
    """What ``etcdutl snapshot restore --bump-revision --mark-compacted`` makes of a copy."""
    subprocess.run(
        [
            str(find("etcdutl")), "snapshot", "restore", str(saved / "member" / "snap" / "db"),
            "--skip-hash-check", f"--bump-revision={bump}", "--mark-compacted", f"--data-dir={target}",
            f"--initial-cluster=default={peer}", f"--initial-advertise-peer-urls={peer}",
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip
