"""The fault harness itself: what it would overlook, no fault test would find."""

import random
import signal
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.cluster.waiting import eventually
from tests.faults.harness import churn, edits
from tests.faults.harness.evidence import Check, Create, Delete, Log, OpenSession, Transaction
from tests.faults.harness.faults import Faults
from tests.faults.harness.history import History
from tests.faults.harness.kubelet import Replica
from tests.faults.harness.reading import within

NAMESPACES = ("a", "b")
SEEDS = range(5)


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[Callable[..., Replica]]:
    """Starts a program of Python as a replica, whose kubelet is in a hurry."""
    started: list[Replica] = []

    def start(program: str, **options: Any) -> Replica:
        command = [sys.executable, "-c", program]
        made = Replica(command, {}, tmp_path, f"r{len(started)}", port=1, **{"hurry": 1000.0, **options})
        started.append(made)
        return made.start()

    yield start
    for made in started:
        made.kill()


LIVES = 'import sys, time; print(\'{"event":"leading"}\', flush=True); time.sleep(60)'


def test_what_exits_is_started_again_and_its_lives_are_kept_apart(replica):
    ended = []
    dies = replica("print('{}'); raise SystemExit(3)", on_exit=ended.append)
    assert [dies.wait(), dies.wait(), dies.wait()] == [3, 3, 3]
    records = [life.record() for life in dies.lives[:3]]
    assert [record.code for record in records] == [3, 3, 3]
    assert [record.log for record in records] == ["{}\n"] * 3
    assert len({record.pid for record in records}) == 3
    assert ended[:3] == dies.lives[:3]


def test_what_was_killed_leads_again_only_once_its_next_life_says_so(replica):
    lives = replica(LIVES)
    eventually(lives.leads)
    first = lives.pid
    lives.crash()
    eventually(lambda: lives.running and lives.pid != first)
    eventually(lives.leads)
    assert [life.code for life in lives.lives] == [-signal.SIGKILL, None]


@pytest.mark.parametrize("end", [Replica.stop, Replica.kill])
def test_what_a_test_ends_stays_away_until_it_is_started(replica, end):
    lives = replica(LIVES)
    eventually(lives.leads)
    end(lives)
    assert not lives.wanted
    (life,) = lives.lives
    assert life.record().expected_end
    assert (life.terminated is not None) == (end is Replica.stop)
    lives.start()
    eventually(lives.leads)
    assert len(lives.lives) == 2


def test_a_person_starts_nothing_again(replica):
    once = replica("raise SystemExit(1)", restarts=False)
    assert once.wait() == 1
    eventually(lambda: not once.wanted)
    assert len(once.lives) == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_churn_has_steps_of_each_kind_in_each_namespace_and_no_pod_twice(seed: int):
    there: set[tuple[str, str]] = set()
    addresses: set[str] = set()
    kinds: set[tuple[str, type]] = set()
    for step in islice(churn.steps(seed, NAMESPACES), 400):
        kinds.add((step.namespace, type(step)))
        match step:
            case churn.Create(namespace, pod, ip):
                assert (namespace, pod) not in there
                assert ip not in addresses
                there.add((namespace, pod))
                addresses.add(ip)
            case churn.Delete(namespace, pod):
                there.remove((namespace, pod))
            case churn.Turn(namespace, pod) | churn.Annotate(namespace, pod):
                assert (namespace, pod) in there
    every = (
        *(churn.Create, churn.Turn, churn.Delete, churn.Annotate, churn.Declare),
        *(churn.Serve, churn.Join),
    )
    assert kinds == {(namespace, kind) for namespace in NAMESPACES for kind in every}


def test_churn_writes_annotations_that_cannot_be_read():
    texts = [
        step.text for step in islice(churn.steps(1, NAMESPACES), 400) if isinstance(step, churn.Annotate)
    ]
    assert set(texts) > set(churn.BAD)


ROW = {"podName": "p", "podUID": "u", "ip": "10.0.0.1", "ips": ["10.0.0.1"], "ready": True, "port": 1}
STATUS = {"observedGeneration": 1, "serviceName": "echo", "ready": "1/1", "endpoints": [ROW]}


def test_edits_of_a_status_are_of_all_kinds_and_the_schema_accepts_each():
    schema = edits.status_schema()
    made = [edits.edited(STATUS, schema, random.Random(seed)) for seed in range(300)]
    for status in made:
        jsonschema.validate(status, schema)
    rows = [row for status in made for row in status.get("endpoints", [])]
    assert any("ips" not in row for row in rows)
    assert any(row["ip"].startswith(edits.OF_OTHERS) for row in rows)
    assert any(len(status.get("endpoints", [])) > 1 for status in made)
    assert any(not status.get("endpoints", []) for status in made)
    assert STATUS in made


def test_of_zookeepers_log_a_test_is_shown_its_chroot():
    opened = Transaction(1, 5.0, 7, (OpenSession(15.0),))
    ours = Transaction(2, 6.0, 7, (Create("/a/x", b"1"), Check("/a/fence", 3), Create("/ab", b"2")))
    theirs = Transaction(3, 7.0, 8, (Delete("/b/x"),))
    log = Log({"/a/old": b"0", "/b/old": b"0"}, [opened, ours, theirs])
    shown = within(log, "/a", since=4.0)
    assert shown
    assert shown.start == {"/old": b"0"}
    assert [transaction.ops for transaction in shown.transactions] == [
        (OpenSession(15.0),),
        (Create("/x", b"1"), Check("/fence", 3)),
    ]
    assert within(log, "/a", since=8.0) is None


def pod(uid: str, version: str) -> dict[str, Any]:
    metadata = {"name": "p", "namespace": "a", "uid": uid, "resourceVersion": version}
    return {"kind": "Pod", "metadata": metadata}


def types(history: History) -> list[str]:
    return [change.type for change in history.since(start_of(history), ["a"])]


def start_of(history: History) -> Any:
    return history.mark()._replace(changes=0, objects=())


@pytest.fixture
def history(tmp_path: Path) -> History:
    from hack.local.pki import make_pki

    make_pki(tmp_path)
    return History("https://127.0.0.1:1", tmp_path / "ca.crt", "")


def test_a_pod_that_a_list_lacks_was_deleted(history: History):
    history._take_all("Pod", [pod("u", "1")])
    history._take_all("Pod", [])
    assert types(history) == ["ADDED", "DELETED"]


def test_a_server_with_an_older_state_deletes_no_pod_and_revives_none(history: History):
    history._take_all("Pod", [pod("dead", "1"), pod("lives", "2")])
    history._take("DELETED", pod("dead", "3"))
    history.restored()
    history._take_all("Pod", [pod("dead", "1")])
    history._take("MODIFIED", pod("dead", "2"))
    assert types(history) == ["ADDED", "ADDED", "DELETED", "LOST"]
    history._take_all("Pod", [])
    assert types(history) == ["ADDED", "ADDED", "DELETED", "LOST"]


def test_what_a_watch_told_is_not_told_again_by_a_list(history: History):
    history._take("ADDED", pod("u", "1"))
    history._take("MODIFIED", pod("u", "2"))
    history._take_all("Pod", [pod("u", "2")])
    assert types(history) == ["ADDED", "MODIFIED"]


def test_a_test_is_shown_what_was_there_when_it_began(history: History):
    history._take("ADDED", pod("u", "1"))
    mark = history.mark()
    history._take("MODIFIED", pod("u", "2"))
    assert [change.type for change in history.since(mark, ["a"])] == ["ADDED", "MODIFIED"]
    assert history.since(mark, ["b"]) == []


def test_a_fault_lasts_from_its_first_sign_to_its_end():
    faults = Faults()
    faults.begin("zookeeper", "zookeeper")
    faults.begin("zookeeper", "zookeeper")
    (fault,) = faults.since(0.0)
    assert fault.ended == float("inf")
    faults.end("zookeeper")
    (over,) = faults.since(0.0)
    assert (over.began, over.kind) == (fault.began, "zookeeper")
    assert over.ended < float("inf")
    assert faults.since(over.ended + 1) == []
