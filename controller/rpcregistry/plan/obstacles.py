"""What keeps the controller from its work, in the words of both the commands and the page."""

import re
from collections.abc import Mapping

from rpcregistry.plan.heartbeat import Oldest
from rpcregistry.plan.restored import UNTIL_RELEASED

SLOW = 10.0  # seconds after which a change that waits is worth a word
RELEASE_ALL = "rpcregistry release --all"  # what to type if the API server counts as restored


def unread(resources: Mapping[str, str]) -> str:
    """That the API server does not show *resources*, and what follows from that.

    >>> unread({"pods": "403: Forbidden"})
    'the controller cannot read pods: nothing of that is published or withdrawn meanwhile'
    """
    names = ", ".join(resources)
    return f"the controller cannot read {names}: nothing of that is published or withdrawn meanwhile"


def to_read(resources: Mapping[str, str]) -> str:
    """What to type about the first of *resources*, each with the reason why it cannot be read.

    >>> to_read({"pods": '403: User "ann" cannot list pods'}), to_read({"nodes": "500"})
    ('kubectl auth can-i list pods -A --as ann', 'kubectl auth can-i list nodes -A')
    """
    resource, reason = next(iter(resources.items()))
    if "kubectl apply" in reason:
        return "kubectl apply -f crds/"
    user = re.search(r'User "([^"]+)"', reason)
    return f"kubectl auth can-i list {resource} -A" + (f" --as {user[1]}" if user else "")


def restored(why: str) -> str:
    """That the API server counts as restored, since when and *why*."""
    return f"{UNTIL_RELEASED}: {why}"


def waits(oldest: Oldest) -> str:
    """The change that has waited longest.

    >>> waits(Oldest("echo", 31.2, listed=True))
    'one of echo has waited for 31 s until ZooKeeper takes its znode'
    """
    whom = "ZooKeeper takes its znode" if oldest.listed else "the API server takes its status"
    return f"one of {oldest.service} has waited for {oldest.seconds:.0f} s until {whom}"


def sentence(text: str) -> str:
    """*text* as a sentence of its own.

    >>> sentence("nobody leads"), sentence("Why?")
    ('Nobody leads.', 'Why?')
    """
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?", "!")) else ".")
