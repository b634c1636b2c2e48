"""Which of two values stays."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer_cache.entries import Cache, Entry, Key, Version

KEY = Key(0, "k")
keys = st.builds(Key, st.integers(0, 2), st.sampled_from("ab"))
versions = st.builds(Version, st.integers(0, 3), st.sampled_from("abc"))
arrivals = st.lists(st.tuples(keys, st.builds(Entry, versions, st.sampled_from("xy"))), max_size=8)


def holding(arrived):
    cache = Cache("0", lambda: 0)
    for key, entry in arrived:
        cache.take({key: entry})
    return cache.entries()


@given(arrivals, st.randoms())
def test_the_order_of_arrival_makes_no_difference(arrived, random):
    shuffled = random.sample(arrived, len(arrived))
    assert holding(arrived) == holding(shuffled)


@given(arrivals)
def test_arriving_twice_makes_no_difference(arrived):
    assert holding(arrived) == holding(arrived + arrived)


@given(arrivals)
def test_what_is_set_replaces_all_that_was_seen(arrived):
    cache = Cache("0", lambda: 0)
    cache.take(dict(arrived))
    seen = cache.entries()
    entries = cache.set({KEY: "mine"})
    assert cache.entries()[KEY] == entries[KEY]
    assert all(entries[KEY].version > entry.version for entry in seen.values())


def test_the_later_of_two_sets_stays_though_its_writer_did_not_see_the_first():
    first, second = Cache("f", lambda: 1_000), Cache("0", lambda: 1_001)
    entries = first.set({KEY: "first"})
    second.set({KEY: "second"})
    second.take(entries)
    assert second.entries()[KEY].value == "second"


def test_a_clock_that_goes_back_does_not_take_the_versions_with_it():
    times = iter([2_000, 1_000])
    cache = Cache("0", lambda: next(times))
    cache.set({KEY: "first"})
    assert cache.set({KEY: "second"})[KEY].version.counter == 2_001


def test_no_two_sets_of_a_process_have_the_same_version():
    cache = Cache("0", lambda: 5)
    given: list[Version] = []

    def set_often():
        given.extend(cache.set({KEY: "x"})[KEY].version for _ in range(200))

    threads = [threading.Thread(target=set_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(given)) == 800


@given(versions)
def test_a_version_is_read_as_it_was_written(version):
    assert Version.parse(str(version)) == version


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("12", id="no writer"),
        pytest.param("-a", id="no counter"),
        pytest.param("1-x", id="a writer that is not hexadecimal"),
        pytest.param("1-a\n", id="a line"),
        pytest.param("1" * 21 + "-a", id="a counter too long"),
        pytest.param("\u0661-a", id="digits of another script"),
    ],
)
def test_what_is_no_version_is_refused(text):
    with pytest.raises(ValueError, match="no version"):
        Version.parse(text)
