"""The results of LIST and WATCH: values between ``kube``, which reads them, and the informer.

A *resource_version* is a number here: Kubernetes orders all changes of a resource by it.
"""

from typing import Generic, TypeAlias, TypeVar

import msgspec

from rpcregistry.model import ObjectKey

T = TypeVar("T")


class Unreadable(msgspec.Struct, frozen=True):
    """An object that exists, but could not be decoded; *message* says why.

    If a watch event does not even name its object, *key* has an empty name.
    """

    key: ObjectKey
    uid: str
    message: str
    resource_version: int


class Applied(msgspec.Struct, Generic[T], frozen=True):
    """An added or modified object."""

    item: T
    resource_version: int


class Deleted(msgspec.Struct, frozen=True):
    """A deleted object."""

    key: ObjectKey
    uid: str
    resource_version: int


class Bookmark(msgspec.Struct, frozen=True):
    """No other change happened up to here.  The first event of a watch is one: the server accepted it."""

    resource_version: int


WatchEvent: TypeAlias = Applied[T] | Deleted | Bookmark | Unreadable


class Listing(msgspec.Struct, Generic[T], frozen=True):
    """All objects of a resource (in a namespace) at one *resource_version*.

    *versions*: the objects' own resourceVersions, in the order of *items*; empty if they were not asked for.
    """

    items: list[T]
    unreadable: list[Unreadable]
    resource_version: int
    versions: list[int] = []
