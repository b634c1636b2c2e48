"""Prints a table on the terminal; writes a JSON file and a plot of the latencies."""

import os
import platform
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from matplotlib.figure import Figure as Canvas
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from hack.bench.figures import Outcome, as_json, cost_rows, percentile, rows

T = TypeVar("T")


def tracker(console: Console) -> Progress:
    """Progress bars, on the terminal."""
    return Progress(
        TextColumn("  {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def track(progress: Progress, steps: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Yield the steps, and advance a bar."""
    task = progress.add_task(what, total=total)
    for step in steps:
        progress.advance(task)
        yield step
    progress.remove_task(task)


NARROWEST = 150  # columns
COSTS = (
    "scenario",
    "part",
    "peak memory",
    "CPU",
    "API server CPU",
    "allocated",
    "etcd CPU",
    "ZooKeeper CPU",
    "RpcService writes",
    "requests",
    "bytes",
    "znode writes",
    "transactions",
)


def show(outcomes: Sequence[Outcome]) -> None:
    """Print all figures beside their floors, and the costs."""
    figures = _table("The controller beside the floor", ("scenario", "what", "controller", "floor", "ratio"))
    _fill(figures, rows(outcomes))
    figures.caption = "\n".join(
        f"{outcome.scenario}: {note}" for outcome in outcomes for note in outcome.notes
    )
    costs = _table("What it cost; requests and bytes are the load's, too", COSTS)
    _fill(costs, cost_rows(outcomes))
    console = Console()
    # In a file or a narrow terminal, people can read a line that is too long, but not one that was cut.
    Console(width=max(console.width, NARROWEST)).print(figures, costs)


def _table(title: str, columns: Sequence[str]) -> Table:
    made = Table(*columns[:2], title=title, caption_justify="left")
    for column in columns[2:]:
        made.add_column(column, justify="right")
    return made


def _fill(table: Table, lines: Iterable[Sequence[str]]) -> None:
    """Say each scenario once."""
    last = ""
    for scenario, *cells in lines:
        table.add_row(scenario if scenario != last else "", *cells)
        last = scenario


def write(directory: Path, outcomes: Sequence[Outcome], pods: int) -> list[Path]:
    """Write the measurements so far; return the files."""
    directory.mkdir(parents=True, exist_ok=True)
    about = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "pods": pods,
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
    }
    found = directory / "bench.json"
    found.write_bytes(as_json(outcomes, about))
    plot = directory / "propagation.png"
    return [found, *([plot] if _plot(plot, outcomes) else [])]


def _plot(file: Path, outcomes: Sequence[Outcome]) -> bool:
    """Plot how many changes were seen within which time, one line a load; return whether there were any."""
    series = [found for outcome in outcomes for found in outcome.series if found.latencies]
    if not series:
        return False
    canvas = Canvas(figsize=(10, 6), layout="constrained")
    axes = canvas.subplots()
    for found in series:
        ordered = sorted(1000 * latency for latency in found.latencies)
        share = [100 * (rank + 1) / len(ordered) for rank in range(len(ordered))]
        p99 = 1000 * percentile(found.latencies, 99)
        axes.plot(ordered, share, label=f"{found.name} (p99 {p99:.0f} ms)")
    axes.set_xscale("log")
    axes.set_xlabel("ms from the status patch to another client's read in ZooKeeper")
    axes.set_ylabel("% of the changes")
    axes.set_title("Propagation")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend(loc="lower right")
    canvas.savefig(file, dpi=120)
    return True
