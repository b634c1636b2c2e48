"""Work in threads that take turns all the time, so that a test of what they share is one."""

import random
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any


def at_once(*works: Callable[[], None]) -> None:
    """Run them in threads of their own, to their end."""
    failures: list[BaseException] = []

    def run(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=run, args=(work,)) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    if failures:
        raise failures[0]


def step_by_step(work: Callable[[], None], place: str = "/controller/") -> None:
    """Run *work*, and let other threads run before many an instruction of a file under *place*."""
    dice = random.Random(threading.get_ident())

    def pause(frame: FrameType, event: str, arg: object) -> Any:
        if place not in frame.f_code.co_filename:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and dice.random() < 0.3:
            time.sleep(1e-4 if dice.random() < 0.1 else 0.0)
        return pause

    sys.settrace(pause)
    try:
        work()
    finally:
        sys.settrace(None)


def twice(work: Callable[[int], None], place: str = "/controller/") -> None:
    """Run *work* in two threads, as number 0 and number 1, which take turns at each step."""
    at_once(lambda: step_by_step(lambda: work(0), place), lambda: step_by_step(lambda: work(1), place))
