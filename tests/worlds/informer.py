"""A server that is late, repeats itself, forgets, refuses or breaks off."""

import threading
from collections.abc import Callable, Iterator
from typing import TypeAlias

import msgspec

from rpcregistry.errors import Retry
from rpcregistry.model import ObjectKey
from rpcregistry.runtime.informer import Informer
from rpcregistry.runtime.store import Change
from rpcregistry.watch import Applied, Bookmark, Deleted, Listing, Unreadable, WatchEvent


class Thing(msgspec.Struct, frozen=True):
    name: str
    colour: str = "red"
    uid: str = "1"
    resource_version: str = ""

    @property
    def key(self) -> ObjectKey:
        return ObjectKey("default", self.name)


Seconds: TypeAlias = float  # time that passes during a watch
Meanwhile: TypeAlias = Callable[[], None]  # what happens elsewhere during a watch
Watch: TypeAlias = list[Applied[Thing] | Deleted | Bookmark | Unreadable | Seconds | Meanwhile | Exception]
Answer: TypeAlias = Listing[Thing] | int | Watch | Exception | Callable[[], Listing[Thing]]
LONG = 400.0
BROKEN = Retry("connection reset")


class Server:
    """Gives one answer to each request, in order, and stops the informer when there are no more.

    A question for the newest resourceVersion is answered by a number, or else as if nothing was odd.
    """

    def __init__(self, *script: Answer) -> None:
        self.script = list(script)
        self.requests: list[str] = []
        self.pauses: list[float] = []
        self.unknown_at_pauses: list[str | None] = []
        self.changes: list[Change[Thing]] = []
        self.held_at_changes: list[set[Thing]] = []
        self.restarts: list[str] = []
        self.went_back: list[str] = []
        self.checks = 0
        self.floor = 0
        self.listed = 0
        self.now = 0.0
        self.informer: Informer[Thing] = Informer(
            "things",
            self,
            {"colour": lambda thing: [thing.colour]},
            on_change=self.on_change,
            on_listed=self.on_listed,
            on_restart=self.restarts.append,
            floor=lambda: self.floor,
            on_went_back=self.went_back.append,
            before_relist=self.check,
            clock=lambda: self.now,
            wait=self.wait,
        )

    def list(self) -> Listing[Thing]:
        answer = self.next("list")
        if callable(answer):
            return answer()
        assert isinstance(answer, Listing)
        return answer

    def newest_resource_version(self) -> int:
        self.requests.append("newest")
        if self.script and isinstance(self.script[0], int | Exception):
            answer = self.script.pop(0)
            if isinstance(answer, Exception):
                raise answer
            assert isinstance(answer, int)
            return answer
        return 1_000_000

    def watch(self, resource_version: int) -> Iterator[WatchEvent[Thing]]:
        answer = self.next(f"watch {resource_version}")
        assert isinstance(answer, list)
        yield Bookmark(resource_version)
        for event in answer:
            match event:
                case Exception():
                    raise event
                case float():
                    self.now += event
                case _ if callable(event):
                    event()
                case _:
                    yield event

    def next(self, request: str) -> Answer:
        self.requests.append(request)
        if not self.script:
            self.informer.stop()
            raise BROKEN
        answer = self.script.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def on_change(self, change: Change[Thing]) -> None:
        self.changes.append(change)
        self.held_at_changes.append(self.held)

    def check(self) -> None:
        self.checks += 1

    def on_listed(self) -> None:
        self.listed += 1

    def wait(self, _: threading.Event, seconds: float) -> None:
        self.pauses.append(seconds)
        self.unknown_at_pauses.append(self.informer.unknown)
        self.now += seconds

    def run(self) -> Informer[Thing]:
        self.informer.run()
        assert not self.script
        return self.informer

    @property
    def held(self) -> set[Thing]:
        return set(self.informer.store.values())
