"""The mistakes that the invariants are tried with; tests/faults/test_mutations.py has them caught."""

from pathlib import Path

import pytest

from tests.faults.harness.invariants import INVARIANTS
from tests.faults.harness.mutations import CONTROLLER, Stale, hunks, invariant, mutated, patches, replaced


@pytest.mark.parametrize("name", patches())
def test_each_mutation_still_applies_and_can_be_run(name: str, tmp_path: Path):
    copy = mutated(patches()[name], tmp_path)
    changed = {file for file, _, _ in hunks(patches()[name].read_text())}
    assert changed
    for file in changed:
        assert (copy / file).read_text() != (CONTROLLER / file).read_text()
        compile((copy / file).read_text(), file, "exec")


def test_each_invariant_has_a_mutation_that_it_is_to_catch():
    assert {invariant(name) for name in patches()} == INVARIANTS.keys()


@pytest.mark.parametrize("text", ["nothing of it", "twice twice"])
def test_a_mutation_that_fits_nowhere_or_twice_is_stale(text: str):
    with pytest.raises(Stale, match="some: "):
        replaced(text, "twice", "once", "some")
