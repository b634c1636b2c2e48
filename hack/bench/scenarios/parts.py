"""``--endpoints-per-object``: what one change costs, by the size of objects and of the service."""

from hack.bench import floors
from hack.bench.changes import one_at_a_time
from hack.bench.figures import Cost, Figure, Outcome, latency_figures, percentile
from hack.bench.population import expected, spread
from hack.bench.sizes import Sizes
from hack.bench.stage import Stage


def run(stage: Stage, sizes: Sizes) -> Outcome:
    """One large service, alone: its pods are selected by their label."""
    figures: list[Figure] = []
    costs: dict[str, Cost] = {}
    stage.clear()
    bare = {size: floors.status_writes(stage, size, sizes.part_changes) for size in sizes.part_sizes}
    stage.clear()
    for service_size in sizes.services_in_parts:
        pods = spread(service_size, 1, "large")
        stage.populate(pods)
        for size in sizes.part_sizes:
            name = f"{service_size} endpoints, {size} an object"
            stage.clear()
            with stage.running(
                "--pod-label-selector", "app=large", "--endpoints-per-object", str(size)
            ) as started:
                here = [stage.population.pods[pod.name] for pod in pods]
                figures.append(Figure(f"{name}: cold", stage.until_right(expected(here)) - started, "s"))
                stage.until_synced()
                reading = stage.read()
                latencies = one_at_a_time(stage, pods[:: max(1, service_size // 10)], sizes.part_changes)
                cost = stage.cost_since(reading)
            figures += latency_figures(name, latencies, bare[size])
            figures.append(
                Figure(f"{name}: API server CPU a change", cost.apiserver_cpu_seconds / len(latencies), "s")
            )
            costs[name] = cost
    stage.delete(pods)
    stage.clear()
    figures += [
        Figure(f"bare status write of {size} endpoints, p50", percentile(times, 50), "s")
        for size, times in bare.items()
    ]
    return Outcome("parts", figures, costs, notes=["the floor is one bare status write of such an object"])
