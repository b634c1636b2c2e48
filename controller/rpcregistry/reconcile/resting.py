"""Which names a comparison need not plan: nothing that their last plan read has changed."""

from collections.abc import Callable, Hashable

Besides = tuple[Hashable, ...]


class Resting:
    """The names whose last plan found nothing to do, with what it read besides znodes.

    It belongs to the registry's thread.  *besides* returns that for a name as it is now, or None where a plan
    reads more than that.  Only comparisons ask: what is enqueued for a reason of its own is planned anyway.
    """

    def __init__(self, besides: Callable[[str], Besides | None]) -> None:
        self._besides = besides
        self._planned: dict[str, Besides | None] = {}  # since the plan began
        self._resting: dict[str, Besides] = {}

    def begin(self, name: str) -> None:
        """Note that a plan of *name* begins: what changes from now on, it may lack."""
        self._resting.pop(name, None)
        self._planned[name] = self._besides(name)

    def end(self, name: str, nothing_to_do: bool) -> None:
        """Note that the plan of *name* was carried out."""
        planned = self._planned.pop(name, None)
        if planned is not None and nothing_to_do:
            self._resting[name] = planned

    def __contains__(self, name: str) -> bool:
        """Whether another plan of *name* would find nothing to do, unless its znodes changed."""
        planned = self._resting.get(name)
        return planned is not None and planned == self._besides(name)

    def retain_only(self, names: set[str]) -> None:
        """Forget all but *names*."""
        for name in (self._resting.keys() | self._planned.keys()) - names:
            self._resting.pop(name, None)
            self._planned.pop(name, None)
