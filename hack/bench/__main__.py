"""``python -m hack.bench``: measure the controller beside the floor, and print the figures."""

import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path

import click
import msgspec
from rich.console import Console

from hack.bench import report
from hack.bench.figures import Outcome
from hack.bench.peers import Peer, peer
from hack.bench.scenarios import OF_PEERS, SCENARIOS
from hack.bench.sizes import Sizes, brief
from hack.bench.stage import Stage
from hack.local.binaries import Unavailable

TOP = Path(__file__).parents[2]


@click.command()
@click.option(
    "--scenario",
    "names",
    multiple=True,
    type=click.Choice(list(SCENARIOS)),
    help="Only this one; repeatable.",
)
@click.option(
    "--pods",
    type=click.IntRange(min=10),
    default=Sizes.pods,
    show_default=True,
    help="How many pods there are, in a tenth as many services.",
)
@click.option(
    "--neighbour-changes",
    type=click.IntRange(min=1),
    default=Sizes.neighbour_changes,
    show_default=True,
    help="How often the quiet namespace changes beside each flood: 150 for a p99 that means something.",
)
@click.option(
    "--idle-minutes",
    type=click.FloatRange(min=0, min_open=True),
    default=Sizes.idle_minutes,
    show_default=True,
    help="For how long the controller is idle, with few services and with many.",
)
@click.option(
    "--peer",
    "peers",
    multiple=True,
    metavar="CMD",
    help="Measure another controller, too, where it can be: a command with kube2zk's flags, or `least`, a Go"
    " program that does the least work possible; repeatable.",
)
@click.option("--quick", is_flag=True, help="Everything, but briefly: such figures mean nothing.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=TOP / "build" / "bench",
    show_default="build/bench",
    help="Where bench.json and propagation.png go.",
)
def main(
    names: tuple[str, ...],
    pods: int,
    neighbour_changes: int,
    idle_minutes: float,
    peers: tuple[str, ...],
    quick: bool,
    out: Path,
) -> None:
    """Measure the controller on a local cluster of its own, each figure beside a bare client's.

    The floor is the least work that any controller has to do; a bare client does it in the same run.
    Quote the ratio of the two, since machines differ.
    """
    console = Console(stderr=True)
    sizes = (
        brief(pods)
        if quick
        else Sizes(pods=pods, neighbour_changes=neighbour_changes, idle_minutes=idle_minutes)
    )
    outcomes: list[Outcome] = []
    directory = Path(tempfile.mkdtemp(prefix="rpcregistry-bench-"))
    try:
        others = [peer(text) for text in peers]
        with report.tracker(console) as progress:
            progress.console.print("starting a cluster …")
            with Stage(directory, partial(report.track, progress)) as stage:
                for name in [name for name in SCENARIOS if name in names or not names]:
                    # First the others: what ours writes is what the next scenario begins with.
                    for other in others if name in OF_PEERS else ():
                        progress.console.print(f"{name}: {other.name} …")
                        outcomes.append(_of_peer(name, stage, sizes, other))
                    progress.console.print(f"{name} …")
                    outcomes.append(SCENARIOS[name](stage, sizes))
                    files = report.write(out, outcomes, pods)
    except (Unavailable, RuntimeError) as error:
        console.print(f"[red]{error}[/red]\nThe logs are in {directory}.", highlight=False)
        sys.exit(1)
    shutil.rmtree(directory)
    report.show(outcomes)
    for file in files:
        console.print(f"wrote {file}")


def _of_peer(name: str, stage: Stage, sizes: Sizes, other: Peer) -> Outcome:
    """The figures of a scenario with another controller, or why there are none."""
    with stage.instead(other):
        try:
            found = SCENARIOS[name](stage, sizes)
        except RuntimeError as error:
            found = Outcome(name, [], notes=[f"not measured: {error}"])
    return msgspec.structs.replace(found, scenario=f"{name}: {other.name}")


if __name__ == "__main__":
    main()
