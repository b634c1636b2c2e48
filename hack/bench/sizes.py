"""The sizes of ``make bench``, and tiny ones that only show that the harness works."""

from dataclasses import dataclass

from hack.bench.population import BarePod, spread

PODS_A_SERVICE = 10


@dataclass(frozen=True)
class Sizes:
    """How much each scenario does; times are in seconds, rates in changes a second."""

    pods: int = 10_000
    idle_changes: int = 100
    rates: tuple[tuple[float, float], ...] = ((10, 20), (100, 20), (300, 60))  # rate, for how long
    services_changed: int = 100
    large_service: int = 100
    rolled: tuple[int, ...] = (100, 1000)
    rate_while_away: float = 100
    seconds_away: float = 30
    nodes: int = 1000
    few_nodes: int = 100
    localservices: int = 10  # on the few nodes
    part_sizes: tuple[int, ...] = (50, 100, 250, 500)
    services_in_parts: tuple[int, ...] = (1000, 5000)
    part_changes: int = 30
    idle_services: tuple[int, ...] = (1000, 10_000)  # of one pod each
    idle_minutes: float = 5.0
    neighbour_changes: int = 15  # of which each is one withdrawal and one publication

    def population(self) -> list[BarePod]:
        """The pods that most scenarios work on."""
        return spread(self.pods, max(1, self.pods // PODS_A_SERVICE))


def brief(pods: int) -> Sizes:
    """Do everything once, as fast as possible."""
    return Sizes(
        pods=pods,
        idle_changes=3,
        rates=((10, 1),),
        services_changed=3,
        large_service=5,
        rolled=(10,),
        rate_while_away=10,
        seconds_away=2,
        nodes=10,
        few_nodes=3,
        localservices=2,
        part_sizes=(20, 50),
        services_in_parts=(60,),
        part_changes=3,
        idle_services=(20,),
        idle_minutes=0.05,
        neighbour_changes=2,
    )
