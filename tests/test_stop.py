"""Signals that come back to back end a process as one does."""

import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

PROGRAM = """
import threading, time
from rpcregistry.runtime.stop import Stop

def busy():
    while True:
        sum(range(1000))

with Stop() as stop:
    for _ in range(2):
        threading.Thread(target=busy, daemon=True).start()
    print("up", flush=True)
    while not stop.requested:
        time.sleep(0.01)
"""


def started() -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "up\n"
    return process


@pytest.mark.parametrize(
    "numbers",
    [
        pytest.param([signal.SIGINT, signal.SIGTERM], id="Ctrl-C, and what a script sends on top"),
        pytest.param([signal.SIGTERM, signal.SIGTERM], id="SIGTERM twice"),
    ],
)
@pytest.mark.parametrize("_", range(10))
def test_two_signals_back_to_back_end_a_process(numbers, _):
    process = started()
    for number in numbers:
        process.send_signal(number)

    assert process.wait(30) == 0


def test_signals_that_come_while_it_ends_do_not_kill_it():
    process = started()
    while process.poll() is None:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        time.sleep(0.0005)

    assert process.returncode == 0


INTERRUPTED = """
import signal, sys
from rpcregistry.runtime.stop import Stop

def once_more(frame, event, argument):
    signal.raise_signal(signal.SIGTERM)
    return once_more

with Stop() as stop:
    sys.settrace(once_more)
    signal.raise_signal(signal.SIGINT)
    sys.settrace(None)
    print(stop.requested)
"""


def test_a_signal_at_each_line_of_the_handler_of_another_one_is_as_one():
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], timeout=30, capture_output=True, text=True, check=True
    )
    assert done.stdout == "True\n"
