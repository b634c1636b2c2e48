"""Whether somebody else keeps the registry up, from what was seen of the heartbeat."""

import msgspec
import pytest

from rpcregistry.plan import heartbeat
from rpcregistry.plan.heartbeat import SURE, Candidate, Heartbeat, Look, Observation, judge, observe
from rpcregistry.plan.ops import Znode

OURS, OTHERS = "rpcregistry/rpcregistry", "default/rpcregistry"
NOW = 100.0
NEVER = float("-inf")
ELECTED = Candidate(me="me", started=NOW, lease=OURS, predecessor="before", still_since=NOW - 15)
UNELECTED = Candidate(me="me", started=NOW, lease=OURS)
PURGE = Candidate(me="", started=NOW)


def znode(version: int = 1, **fields) -> Znode:
    return Znode(msgspec.json.encode(Heartbeat(**fields)), version)


def seen(znode: Znode | None, since: float = NOW, moved: float = NEVER) -> Observation:
    return Observation(znode, since, moved)


OLDER = Znode(b'{"at":"2026-11-21T02:02:02Z","waiting":0}', 7)


def test_a_format_that_is_newer_is_named_with_the_version_that_wrote_it():
    newer = heartbeat.decode(b'{"at":"2027-01-01T00:00:00Z","format":2,"version":"1.3.0","lease":"a/b"}')
    assert newer.too_new == (
        "version 1.3.0 keeps up this registry in format 2, and this version can write format 1 only:"
        " run that version or a newer one"
    )
    assert heartbeat.decode(OLDER.data).too_new == Heartbeat().too_new == ""


NOBODY = pytest.param(seen(None), Look.CLEAR, id="there is none")
STOPPED = pytest.param(
    seen(znode(lease=OTHERS, holder="other", stopped=True)), Look.CLEAR, id="another's, which stopped"
)


@pytest.mark.parametrize(
    ("observation", "look"),
    [
        NOBODY,
        STOPPED,
        pytest.param(seen(OLDER), Look.CLEAR, id="an older version's"),
        pytest.param(seen(Znode(b"?", 1)), Look.CLEAR, id="nothing that can be read"),
        pytest.param(seen(znode(lease=OURS, holder="before")), Look.CLEAR, id="whose Lease we took over"),
        pytest.param(seen(znode(lease=OURS, holder="me")), Look.CLEAR, id="our own"),
        pytest.param(
            seen(znode(lease=OURS, holder="before"), NOW - 14, moved=NOW - 14),
            Look.CLEAR,
            id="it beat once more when it renewed its Lease last",
        ),
        pytest.param(
            seen(znode(lease=OURS, holder="before"), NOW - 4, moved=NOW - 4),
            Look.WATCH,
            id="it went on when its Lease stood still: ours is a copy",
        ),
        pytest.param(
            seen(znode(lease=OURS, holder="before"), NOW, moved=NOW), Look.ALIVE, id="and it still does"
        ),
        pytest.param(seen(znode(lease=OURS, holder="other")), Look.WATCH, id="of our Lease, a third one's"),
        pytest.param(seen(znode(lease=OTHERS, holder="before")), Look.WATCH, id="of another Lease"),
        pytest.param(
            seen(znode(lease=OTHERS, holder="other"), NOW - SURE), Look.CLEAR, id="another's, long still"
        ),
        pytest.param(
            seen(znode(lease=OTHERS, holder="other"), NOW - SURE + 1, NOW - SURE + 1),
            Look.WATCH,
            id="another's, which beat before we began",
        ),
        pytest.param(seen(znode(lease=OTHERS, holder="other"), NOW, NOW), Look.ALIVE, id="another's, alive"),
    ],
)
def test_who_was_elected(observation: Observation, look: Look):
    assert judge(observation, ELECTED, NOW) is look


@pytest.mark.parametrize(
    ("observation", "look"),
    [
        NOBODY,
        STOPPED,
        pytest.param(seen(OLDER), Look.CLEAR, id="an older version's"),
        pytest.param(seen(znode(lease=OURS, holder="killed")), Look.WATCH, id="of a process that was killed"),
        pytest.param(seen(znode(lease=OURS, holder="other"), NOW, NOW), Look.ALIVE, id="of one that lives"),
        pytest.param(seen(znode(lease=OURS, holder="")), Look.WATCH, id="of nobody"),
    ],
)
def test_who_leads_without_an_election(observation: Observation, look: Look):
    assert judge(observation, UNELECTED, NOW) is look


@pytest.mark.parametrize(
    ("observation", "look"),
    [
        NOBODY,
        STOPPED,
        pytest.param(seen(OLDER), Look.WATCH, id="an older version's may live"),
        pytest.param(seen(OLDER, NOW - SURE), Look.CLEAR, id="an older version's, long still"),
        pytest.param(seen(OLDER, NOW, NOW), Look.ALIVE, id="an older version's, alive"),
        pytest.param(seen(znode(lease=OURS, holder="before")), Look.WATCH, id="anybody's"),
    ],
)
def test_who_purges(observation: Observation, look: Look):
    assert judge(observation, PURGE, NOW) is look


def test_what_is_written_anew_with_the_same_bytes_moves():
    first = observe(None, znode(1), 10.0)
    same = observe(first, znode(1), 20.0)
    moved = observe(same, znode(2), 30.0)

    assert (first.since, first.moved) == (10.0, NEVER)
    assert same is first
    assert (moved.since, moved.moved) == (30.0, 30.0)
    assert observe(moved, None, 40.0).moved == 40.0


def test_a_heartbeat_says_who_writes_it_and_is_read_back():
    says = Heartbeat(
        at="2026-11-21T02:02:02Z", waiting=3, lease=OURS, holder="a", layouts=("kube2zk=/rpc_v2",)
    )
    (op,) = heartbeat.beat("/h", None, says)

    assert heartbeat.decode(op.data) == says
    assert {"at", "waiting", "lease", "holder", "podLabelSelector"} <= msgspec.json.decode(op.data).keys()
