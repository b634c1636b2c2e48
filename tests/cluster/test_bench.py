"""The benchmarks run, and write down what they found; what the figures are is not asserted."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hack.bench.scenarios import SCENARIOS

TOP = Path(__file__).parents[2]


def bench(out: Path, *options: str) -> dict[str, Any]:
    """What a brief run of ``python -m hack.bench`` writes down, by scenario."""
    done = subprocess.run(
        [sys.executable, "-m", "hack.bench", "--quick", "--pods", "50", "--out", str(out), *options],
        cwd=TOP,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "The controller beside the floor" in done.stdout
    return dict(json.loads((out / "bench.json").read_text())["scenarios"])


def test_a_cold_start_is_measured_beside_a_bare_client(tmp_path: Path):
    found = bench(tmp_path, "--scenario", "cold")
    first, *_ = found["cold"]["figures"]
    assert first["value"] > 0
    assert first["floor"] > 0
    assert first["ratio"] == first["value"] / first["floor"]
    cost = found["cold"]["costs"]["znodes right"]
    assert cost["requests"]["POST rpcservices"] == cost["znode_writes"] == 5
    assert cost["controller_peak_bytes"] > 0


@pytest.mark.full
def test_other_controllers_are_measured_beside_ours(tmp_path: Path):
    found = bench(tmp_path, "--scenario=cold", "--scenario=propagation", "--peer=least", "--peer=false --no")
    assert [*found] == [
        *("cold: least", "cold: false", "cold"),
        *("propagation: least", "propagation: false", "propagation"),
    ]
    for scenario in ("cold", "propagation"):
        least, ours = (
            {figure["what"] for figure in found[name]["figures"]} for name in (f"{scenario}: least", scenario)
        )
        assert least
        assert least <= ours
        assert not found[f"{scenario}: false"]["figures"]
        assert "has ended" in found[f"{scenario}: false"]["notes"][0]
    cost = found["cold: least"]["costs"]["znodes right"]
    assert cost["requests"]["PUT rpcservices/status"] == 5
    assert cost["controller_peak_bytes"] > 0


@pytest.mark.full
@pytest.mark.parametrize("named", [["propagation"], list(SCENARIOS)], ids=["one", "all"])
def test_every_scenario_is_measured_and_latencies_are_drawn(tmp_path: Path, named: list[str]):
    found = bench(tmp_path, *(f"--scenario={name}" for name in named))
    assert list(found) == named
    assert all(scenario["figures"] for scenario in found.values())
    assert (tmp_path / "propagation.png").read_bytes().startswith(b"\x89PNG")
    parts = {
        figure["what"]: figure["value"]
        for figure in found["propagation"]["figures"]
        if "mean of a part" in figure["what"]
    }
    assert len(parts) == 4
    assert all(value > 0 for value in parts.values()), parts
