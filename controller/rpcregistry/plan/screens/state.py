"""The state of the whole: three hops with what lies between them, and notices with what to type."""

from collections.abc import Sequence

from rpcregistry.plan.screens.hops import Hop, Link, hops, links
from rpcregistry.plan.screens.known import Known, Look
from rpcregistry.plan.screens.notices import Notice, notices


class State(Known, frozen=True, kw_only=True):
    """The answer of ``api/state``: with what is concluded."""

    role: str
    filled: bool
    hops: Sequence[Hop]
    links: Sequence[Link]
    notices: Sequence[Notice]


def state(look: Look) -> State:
    """What the page shows on top of every screen, and on the one of the controller."""
    return State(
        **{name: getattr(look, name) for name in Known.__struct_fields__},
        role="leader" if look.leads else "waiting",
        filled=all(source.filled for source in look.sources),
        hops=hops(look),
        links=links(look),
        notices=notices(look),
    )
