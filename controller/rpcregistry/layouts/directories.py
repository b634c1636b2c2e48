"""Where the children of endpoints lie below a base path: ``${service}/providers``, say.

A directory is a text with placeholders of the service and of what divides its endpoints (``${group}``,
``${version}``).  If it has some of the latter, a service has several directories.  If no segment is just the
service, several services may share a directory.
"""

import re
from collections.abc import Sequence
from functools import cached_property, lru_cache

import msgspec

from rpcregistry.layouts.placeholders import Parts, Placeholder, fields, fill, parse
from rpcregistry.layouts.urls import decode
from rpcregistry.model import Endpoint, Problem

FIELDS = ("service", "group", "version")

SEGMENT = re.compile(r"(?!\.{1,2}$)[^/\x00-\x1f\x7f-\x9f\ud800-\uf8ff\ufff0-\uffff]+")


class Directory(msgspec.Struct, frozen=True, dict=True):
    """The *segments* of a path below BASE; none: the children lie in BASE itself."""

    segments: tuple[Parts, ...]

    @classmethod
    def parse(cls, text: str) -> "Directory":
        """Read ``${service}/providers``; ``ValueError`` says what is wrong with it."""
        segments = tuple(parse(segment) for segment in text.split("/")) if text else ()
        for segment in segments:
            wrong = sorted(fields(segment).difference(FIELDS))
            if wrong:
                raise ValueError(f"${{{wrong[0]}}} cannot be in it; only {', '.join(FIELDS)} can")
            if not SEGMENT.fullmatch(fill(segment, lambda _: "x")):
                raise ValueError(f"{text!r} is no path of segments, like ${{service}}/providers")
        return cls(segments)

    @cached_property
    def varies(self) -> bool:
        """Whether the endpoints of one service may lie in several directories."""
        return any(fields(segment) - {"service"} for segment in self.segments)

    @cached_property
    def is_shared(self) -> bool:
        """Whether the endpoints of several services may lie in one directory, as far as its name says."""
        return not any(map(_is_service, self.segments))

    @cached_property
    def service_first(self) -> bool:
        """Whether each child of BASE is a service's."""
        return bool(self.segments) and _is_service(self.segments[0])

    def of(self, service_name: str, endpoint: Endpoint) -> str | Problem:
        """The directory of an endpoint, below BASE."""
        found = []
        declared = {"service": service_name, "group": endpoint.group, "version": endpoint.version}
        for segment in self.segments:
            name = fill(segment, lambda field: declared[field] or None)
            if not SEGMENT.fullmatch(name):
                what = f"the {' or '.join(sorted(fields(segment) - {'service'}))} of {endpoint.pod_name}"
                return Problem("InvalidName", f"{what} makes {name!r} of a directory's name")
            found.append(name)
        return "/".join(found)

    def levels(self, service_name: str) -> Sequence[str | re.Pattern[str]]:
        """Each segment for a service: its name, or a pattern of the names that it may have."""
        return [
            _pattern(segment, service_name)
            if fields(segment) - {"service"}
            else fill(segment, lambda _: service_name)
            for segment in self.segments
        ]

    def constant(self, service_name: str) -> str:
        """The directory of all endpoints of a service, below BASE; "" if there is no such one."""
        if self.varies:
            return ""
        return "/".join(fill(segment, lambda _: service_name) for segment in self.segments)

    def shown(self, service_name: str) -> str:
        """As ``constant``, for people to read: a ``*`` stands for what varies."""
        declared = {"service": service_name, "group": "*", "version": "*"}
        return "/".join(fill(segment, declared.get) for segment in self.segments)

    def leads_to(self, service_name: str, path: str) -> bool:
        """Whether *path*, below BASE, is on the way to the service's endpoints, or is within that of one."""
        ways = zip(self.levels(service_name), path.split("/"), strict=False)
        return all(way == name if isinstance(way, str) else way.fullmatch(name) for way, name in ways)

    def service_in(self, path: str) -> str | None:
        """The service on whose way *path*, below BASE, is; None if it is on none, or does not say.

        >>> Directory.parse("${service|url}/providers").service_in("com.foo.Bar%24Baz/providers/x")
        'com.foo.Bar$Baz'
        """
        for segment, name in zip(self.segments, path.split("/"), strict=False):
            match segment:
                case (Placeholder(field="service", filter=encoding),):
                    found = decode(name) if encoding else name
                    return found if self.leads_to(found, path) else None
        return None


def _is_service(segment: Parts) -> bool:
    return len(segment) == 1 and fields(segment) == {"service"}


def upwards(path: str) -> list[str]:
    """*path* and those above it, the topmost first.

    >>> upwards("a/b"), upwards("")
    (['a', 'a/b'], [])
    """
    names = path.split("/") if path else []
    return ["/".join(names[: depth + 1]) for depth in range(len(names))]


@lru_cache(maxsize=4096)
def _pattern(segment: Parts, service_name: str) -> re.Pattern[str]:
    def part(found: str | Placeholder) -> str:
        if isinstance(found, str):
            return re.escape(found)
        return re.escape(fill((found,), lambda _: service_name)) if found.field == "service" else "[^/]*"

    return re.compile("".join(map(part, segment)))
