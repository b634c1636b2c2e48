"""The reader of ZooKeeper's log, by bytes made by hand; tests/faults/test_zklog.py has real servers."""

import struct
from pathlib import Path
from zlib import adler32

import pytest

from tests.faults.harness.evidence import (
    Check,
    CloseSession,
    Create,
    Delete,
    Failed,
    Log,
    OpenSession,
    SetAcl,
    SetData,
    Transaction,
)
from tests.faults.harness.zklog import (
    LOG_HEADER,
    SNAPSHOT_HEADER,
    Corrupt,
    end,
    parse_log,
    read,
    sessions,
    states,
)

SESSION = 0x1000ABC
NOBODY = struct.pack(">i", -1)
PADDING = bytes(4096)


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack(">i", len(data)) + data


ACL = struct.pack(">ii", 1, 31) + text("world") + text("anyone")


def create(path: str, data: bytes, ephemeral: bool = False) -> bytes:
    return text(path) + text(data) + ACL + bytes([ephemeral]) + struct.pack(">i", 1)


def entry(zxid: int, kind: int, body: bytes = b"", session: int = SESSION) -> bytes:
    content = struct.pack(">qiqqi", session, 0, zxid, 1_700_000_000_500, kind) + body
    return struct.pack(">qi", adler32(content), len(content)) + content + b"B"


def log(*entries: bytes, tail: bytes = PADDING) -> bytes:
    return LOG_HEADER + bytes(8) + b"".join(entries) + tail


def multi(*ops: tuple[int, bytes]) -> bytes:
    return struct.pack(">i", len(ops)) + b"".join(struct.pack(">i", kind) + text(body) for kind, body in ops)


def snapshot(*znodes: tuple[str, bytes, int]) -> bytes:
    """Of znodes with data and owner."""
    sessions = struct.pack(">iqi", 1, SESSION, 15000)
    acls = struct.pack(">iq", 1, 1) + ACL
    tree = b"".join(
        text(path) + text(data) + bytes(8 + 4 * 8 + 3 * 4) + struct.pack(">qq", owner, 0)
        for path, data, owner in [("", b"", 0), *znodes]
    )
    return SNAPSHOT_HEADER + bytes(8) + sessions + acls + tree + text("/") + bytes(12)


def directory(tmp_path: Path, files: dict[str, bytes]) -> Path:
    (tmp_path / "version-2").mkdir()
    for name, content in files.items():
        (tmp_path / "version-2" / name).write_bytes(content)
    return tmp_path


def test_every_type_of_transaction_is_read():
    digest = struct.pack(">iq", 2, 12345)
    entries = [
        entry(1, -10, struct.pack(">i", 15000)),
        entry(2, 1, create("/a", b"1", ephemeral=True) + digest),
        entry(3, 15, create("/b", b"") + digest),
        entry(4, 19, text("/c") + NOBODY + ACL + struct.pack(">i", 1)),
        entry(5, 21, text("/d") + text(b"2") + ACL + struct.pack(">iq", 1, 5000)),
        entry(6, 5, text("/b") + text(b"3") + struct.pack(">i", 4) + digest),
        entry(7, 7, text("/b") + ACL + struct.pack(">i", 1)),
        entry(8, 2, text("/b")),
        entry(9, 20, text("/c")),
        entry(10, -1, struct.pack(">i", -101)),
        entry(11, -11),
        entry(12, -11, struct.pack(">i", 1) + text("/a")),
    ]
    read_ = list(parse_log(log(*entries)))
    assert [op for transaction in read_ for op in transaction.ops] == [
        OpenSession(15.0),
        Create("/a", b"1", SESSION),
        Create("/b", b""),
        Create("/c", b""),
        Create("/d", b"2"),
        SetData("/b", b"3", 4),
        SetAcl("/b"),
        Delete("/b"),
        Delete("/c"),
        Failed(-101),
        CloseSession(),
        CloseSession(("/a",)),
    ]
    assert {(t.at, t.session) for t in read_} == {(1_700_000_000.5, SESSION)}
    assert [transaction.zxid for transaction in read_] == list(range(1, 13))


def test_a_multi_is_one_state_and_its_checks_are_read():
    ops = multi((13, text("/f") + struct.pack(">i", 4)), (1, create("/a", b"1")), (2, text("/b")))
    [transaction] = parse_log(log(entry(1, 14, ops)))
    assert transaction.ops == (Check("/f", 3), Create("/a", b"1"), Delete("/b"))
    [state] = states(Log({"/b": b""}, [transaction]))
    assert dict(state.changed) == {"/a": b"1", "/b": None}
    assert dict(state.tree) == {"/a": b"1"}


def test_a_multi_that_failed_changed_nothing():
    ops = multi((1, create("/a", b"1")), (-1, struct.pack(">i", -103)), (-1, struct.pack(">i", -2)))
    [transaction] = parse_log(log(entry(1, 14, ops)))
    assert transaction.ops == (Failed(-103),)
    assert list(states(Log({}, [transaction]))) == []


@pytest.mark.parametrize("kept", range(len(entry(2, 2, text("/a")))))
@pytest.mark.parametrize("tail", [b"", PADDING])
def test_a_torn_tail_is_left_out_wherever_it_is_torn(kept: int, tail: bytes):
    content = log(entry(1, 1, create("/a", b"1")), entry(2, 2, text("/a"))[:kept], tail=tail)
    assert [transaction.zxid for transaction in parse_log(content)] == [1]


@pytest.mark.parametrize("kept", range(17))
def test_a_file_that_has_just_been_begun_holds_nothing(kept: int):
    assert list(parse_log(log(tail=b"")[:kept])) == []


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"PK" + log(), id="another file"),
        pytest.param(
            log(entry(1, 2, text("/a"))[:30] + b"!" + entry(1, 2, text("/a"))[31:]), id="a changed byte"
        ),
        pytest.param(log(entry(1, 99)), id="a type that nobody knows"),
        pytest.param(log(entry(1, 2, struct.pack(">i", 50) + b"/a")), id="a string past the end"),
    ],
)
def test_what_no_server_writes_is_no_torn_tail(content: bytes):
    with pytest.raises(Corrupt):
        list(parse_log(content))


def test_files_are_read_in_the_order_of_their_numbers(tmp_path: Path):
    files = {
        "log.10": log(entry(16, 2, text("/a"))),
        "log.9": log(*(entry(zxid, 5, text("/a") + text(b"2") + bytes(4)) for zxid in range(9, 16))),
        "log.1": log(
            *(entry(zxid, 1, create(f"/{zxid}", b"")) for zxid in range(1, 8)),
            entry(8, 1, create("/a", b"1")),
        ),
    }
    found = read(directory(tmp_path, files))
    assert [transaction.zxid for transaction in found.transactions] == list(range(1, 17))
    assert next(dict(state.changed) for state in states(found, "/a")) == {"/a": b"1"}
    assert end(found, "/a") == {}


def test_a_log_that_does_not_reach_back_begins_with_the_snapshot(tmp_path: Path):
    files = {
        "snapshot.0": snapshot(),
        "snapshot.7": snapshot(("/a", b"1", 0), ("/e", b"2", SESSION)),
        "log.8": log(entry(8, 5, text("/a") + text(b"3") + bytes(4)), entry(9, -11)),
    }
    found = read(directory(tmp_path, files))
    assert found.start == {"/": b"", "/a": b"1", "/e": b"2"}
    assert end(found) == {"/": b"", "/a": b"3"}


def test_what_a_member_was_not_sent_is_not_read_over(tmp_path: Path):
    """It was away for 3 to 7, and was sent the snapshot of what had come of them."""
    files = {
        "log.1": log(entry(1, 1, create("/a", b"1")), entry(2, 1, create("/b", b"1"))),
        "snapshot.7": snapshot(("/a", b"7", 0)),
        "log.8": log(entry(8, 2, text("/a"))),
    }
    found = read(directory(tmp_path, files))
    assert [transaction.zxid for transaction in found.transactions] == [8]
    assert found.start["/a"] == b"7"


def test_a_gap_that_no_snapshot_closes_is_corrupt(tmp_path: Path):
    files = {"log.1": log(entry(1, 1, create("/a", b"1")), entry(5, 2, text("/a"))), "snapshot.2": snapshot()}
    with pytest.raises(Corrupt, match="begins at 0x5"):
        read(directory(tmp_path, files))


def test_a_new_leader_counts_from_one_again(tmp_path: Path):
    epoch = 1 << 32
    files = {
        "log.100000001": log(entry(epoch + 1, 1, create("/a", b"1"))),
        "log.200000001": log(entry(2 * epoch + 1, 2, text("/a"))),
    }
    found = read(directory(tmp_path, files))
    assert [transaction.zxid for transaction in found.transactions] == [epoch + 1, 2 * epoch + 1]


def test_ephemeral_znodes_end_with_their_session_even_where_the_server_does_not_list_them(tmp_path: Path):
    entries = [
        entry(1, 1, create("/mine", b"", ephemeral=True)),
        entry(2, 1, create("/theirs", b"", ephemeral=True), session=5),
        entry(3, 1, create("/deleted", b"", ephemeral=True)),
        entry(4, 2, text("/deleted"), session=5),
        entry(5, 1, create("/deleted", b"", ephemeral=True), session=5),
        entry(6, -11),
    ]
    found = read(directory(tmp_path, {"log.1": log(*entries)}))
    assert end(found).keys() == {"/theirs", "/deleted"}
    assert found.transactions[-1].ops == (CloseSession(("/mine",)),)


def test_a_session_that_ends_with_nothing_is_no_state():
    assert list(states(Log({"/a": b""}, [Transaction(1, 0.0, SESSION, (CloseSession(),))]))) == []


def test_sessions_have_their_times():
    transactions = [
        Transaction(1, 1.0, 5, (OpenSession(15),)),
        Transaction(2, 2.0, 6, (OpenSession(15),)),
        Transaction(3, 3.0, 5, (CloseSession(),)),
    ]
    assert sessions(Log({}, transactions)) == {5: (1.0, 3.0), 6: (2.0, None)}
