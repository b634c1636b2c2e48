"""Replicas of the controller, kept running as a kubelet keeps the containers of a Deployment running."""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

from tests.faults.harness import evidence
from tests.faults.harness.evidence import Probe, Sample
from tests.faults.harness.faults import Faults

FIRST, MOST = 10.0, 300.0  # seconds: a kubelet's back-off, doubled with each restart
RESET = 2 * MOST  # seconds after which a restart is the first one again
SAMPLE_EVERY = 0.5  # seconds
TIMEOUT = 5.0  # seconds: a probe's, as the Deployment has it


class Restart(NamedTuple):
    """A restart *at* some time; the next one comes *backoff* seconds after the exit that calls for it."""

    at: float
    backoff: float


def restart(ended: float, before: Restart | None) -> Restart:
    """When a container is started again that *ended*; *before*: its last restart, if there was one.

    As a kubelet has it: at once for the first time, then after 10, 20, 40 … 300 s, and at once again
    when it ended more than ten minutes after its last restart.

    >>> first = restart(100.0, None)
    >>> second = restart(101.0, first)
    >>> first.at, second.at, restart(111.5, second).at, restart(1000.0, second).at
    (100.0, 111.0, 131.5, 1000.0)
    """
    if before is None or ended - before.at > RESET:
        return Restart(ended, FIRST)
    return Restart(ended + before.backoff, min(2 * before.backoff, MOST))


@dataclass
class Life:
    """One process of a replica, from its start (seconds since the epoch) to its exit."""

    process: subprocess.Popen[bytes]
    command: Sequence[str]
    started: float
    log: Path
    ended: float | None = None
    code: int | None = None  # negative: the signal that killed it
    terminated: float | None = None
    expected_end: bool = False
    samples: list[Sample] = field(default_factory=list)
    probes: list[Probe] = field(default_factory=list)

    def text(self) -> str:
        """What it logged and complained about."""
        return self.log.read_text(errors="replace")

    def has_led(self) -> bool:
        """Whether it began to write."""
        return any(line["event"] == "leading" for line in log_lines(self.text()))

    def record(self) -> evidence.Process:
        """What is known of it."""
        return evidence.Process(
            self.command,
            self.process.pid,
            self.started,
            self.ended,
            self.code,
            self.terminated,
            self.expected_end,
            tuple(self.samples),
            tuple(self.probes),
            self.text(),
        )


class Replica:
    """The public command, restarted whenever it exits by itself; its log lies in *directory*.

    *hurry* divides the back-off: what a test waits for is the controller, not a kubelet's patience.  Without
    *restarts* it is a command that a person typed.  *on_exit* is called between an exit and the restart.
    Methods are for one thread; two of its own wait for exits and take samples.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        directory: Path,
        name: str,
        *,
        port: int,
        restarts: bool = True,
        hurry: float = 1.0,
        faults: Faults | None = None,
        on_exit: Callable[[Life], None] = lambda _: None,
    ) -> None:
        self.name = name
        self.port = port
        self.lives: list[Life] = []  # grows under _state
        self._command = command
        self._environment = environment
        self._directory = directory
        self._restarts = restarts
        self._hurry = hurry
        self._faults = faults or Faults()
        self._on_exit = on_exit
        self._state = threading.Condition()  # protects the lives and what follows
        self._turn: object | None = None  # new with each start; None: not to be kept running
        self._paused = False
        self._waited_for = 0  # how many exits a test has waited for

    # what a test does

    def start(self, **environment: str) -> "Replica":
        """Start it, with more variables; it need not be ready when this returns."""
        self._environment = {**self._environment, **environment}
        with self._state:
            assert self._turn is None, "it is kept running"
            self._turn = turn = object()
            self._waited_for = len(self.lives)
            self._spawn()
        for duty in (self._keep, self._sample):
            threading.Thread(target=duty, args=(turn,), daemon=True).start()
        return self

    @property
    def pid(self) -> int:
        """The pid of its last process."""
        return self.lives[-1].process.pid

    @property
    def running(self) -> bool:
        """Whether a process runs at this moment."""
        return bool(self.lives) and self.lives[-1].code is None

    @property
    def wanted(self) -> bool:
        """Whether it is kept running."""
        return self._turn is not None

    def signal(self, number: int) -> None:
        """Send a signal to the process; where it ends by it, it is started again."""
        life = self.lives[-1]
        life.expected_end |= number != signal.SIGCONT
        if number == signal.SIGTERM:
            life.terminated = time.time()
        if number == signal.SIGSTOP:
            self._paused = True
            self._faults.begin(self.name, "process")
        life.process.send_signal(number)
        if number in (signal.SIGCONT, signal.SIGKILL):
            self._go_on()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """SIGSTOP, and SIGCONT in the end, whatever happens: its kernel goes on answering for it."""
        life = self.lives[-1]
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            life.process.send_signal(signal.SIGCONT)
            self._go_on()

    def wait(self, timeout: float = 60) -> int:
        """Wait for the next exit that nobody waited for yet; return its code (negative: the signal)."""
        with self._state:
            life = self._ended(self._waited_for, timeout)
            self._waited_for += 1
        life.expected_end = True
        assert life.code is not None
        return life.code

    def crash(self) -> None:
        """SIGKILL; the kubelet starts it again."""
        with self._state:
            number = len(self.lives) - 1
        self.signal(signal.SIGKILL)
        with self._state:
            self._ended(number, 30)

    def kill(self) -> None:
        """SIGKILL, and nobody starts it again: its machine is gone."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM, as its pod is deleted; return the exit code."""
        return self._end(signal.SIGTERM)

    def text(self) -> str:
        """All that it logged or complained about, in all of its lives."""
        return "".join(life.text() for life in self.lives)

    def logged(self) -> list[dict[str, Any]]:
        """Its log lines."""
        return log_lines(self.text())

    def leads(self) -> bool:
        """Whether its last process has begun to write."""
        return self.running and self.lives[-1].has_led()

    def _go_on(self) -> None:
        self._paused = False
        self._faults.end(self.name)

    # keeping it running

    def _spawn(self) -> None:
        log = self._directory / f"{self.name}.{len(self.lives)}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                self._command,
                stdout=file,
                stderr=file,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **self._environment},
                cwd=self._directory,
            )
        self.lives.append(Life(process, self._command, time.time(), log))
        self._state.notify_all()

    def _keep(self, turn: object) -> None:
        """Wait for exits, and start it again until it is not wanted any more."""
        before: Restart | None = None
        while True:
            life = self.lives[-1]
            code = life.process.wait()
            with self._state:
                life.ended, life.code = time.time(), code
                if self._turn is turn and not self._restarts:
                    self._turn = None
                again, self._paused = self._turn is turn, False
                self._state.notify_all()
            if not again:
                return
            self._on_exit(life)
            before = restart(life.ended, before)
            with self._state:
                pause = (before.at - life.ended) / self._hurry
                if self._state.wait_for(lambda: self._turn is not turn, pause):
                    return
                self._spawn()

    def _end(self, number: int) -> int:
        with self._state:
            if not self.lives:
                return 0
            self._turn = None
            self._state.notify_all()
            if self.running:
                self.signal(signal.SIGCONT)
                self.signal(number)
            code = self._ended(len(self.lives) - 1, 30).code
        assert code is not None
        return code

    def _ended(self, number: int, timeout: float) -> Life:
        """The life of that number, once it has ended; the caller holds ``_state``."""
        in_time = self._state.wait_for(
            lambda: len(self.lives) > number and self.lives[number].code is not None, timeout
        )
        assert in_time, f"{self.name} has not ended within {timeout:g} s"
        return self.lives[number]

    # looking at it

    def _sample(self, turn: object) -> None:
        """Look at it every half a second, while it is wanted; a paused one has no say."""
        while True:
            with self._state:
                if self._state.wait_for(lambda: self._turn is not turn, SAMPLE_EVERY):
                    return
                life = self.lives[-1]
            if life.code is not None or self._paused:
                continue
            if sample := usage(life.process.pid, life.log):
                life.samples.append(sample)
            probe = probed(self.port)
            if life.code is None and not self._paused:
                life.probes.append(probe)


def log_lines(text: str) -> list[dict[str, Any]]:
    """The log lines of a text; one that is being written is none yet."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{") and line.endswith("}")]


def usage(pid: int, log: Path) -> Sample | None:
    """What a process uses, as proc(5) has it; None once it has ended."""
    process = Path(f"/proc/{pid}")
    try:
        status = dict(
            line.split(":\t", 1) for line in (process / "status").read_text().splitlines() if ":\t" in line
        )
        fields = (process / "stat").read_text().rpartition(")")[2].split()
        return Sample(
            at=time.time(),
            rss=int(status["VmRSS"].split()[0]) * 1024,
            threads=int(status["Threads"]),
            descriptors=len(list((process / "fd").iterdir())),
            cpu=(int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"),
            log=log.stat().st_size,
        )
    except (OSError, KeyError):
        return None


def probed(port: int) -> Probe:
    """What a kubelet's probes are answered."""
    at = time.time()
    health, _ = ask(port, "/healthz")
    ready, page = ask(port, "/readyz")
    return Probe(at, health, ready, page)


def ask(port: int, path: str) -> tuple[int, str]:
    """Status and body of an answer; (0, "") where none comes in time."""
    try:
        with build_opener(ProxyHandler({})).open(f"http://127.0.0.1:{port}{path}", timeout=TIMEOUT) as got:
            return int(got.status), got.read().decode(errors="replace")
    except HTTPError as error:
        return error.code, error.read().decode(errors="replace")
    except OSError:
        return 0, ""
