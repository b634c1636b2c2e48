"""How much of everything: what ``make bench`` takes, and what shows only that the harness works."""

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

    def population(self) -> list[BarePod]:
        """The pods that most scenarios work on."""
        return spread(self.pods, max(1, self.pods // PODS_A_SERVICE))


def small(pods: int) -> Sizes:
    """Everything once, and briefly."""
    return Sizes(
        pods=pods,
        idle_changes=3,
        rates=((10, 1),),
        services_changed=3,
        large_service=5,
    )
