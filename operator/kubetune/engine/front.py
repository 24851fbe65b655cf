"""The best trials so far: the Pareto front, kept up as trials complete. With one objective it has one member."""

import math
from collections.abc import Sequence


class Front:
    """The non-dominated trials. Of trials with equal values only the earliest (lowest number) is a member.

    A trial that breaks constraints is worse than one that breaks less, whatever their values (constrained domination:
    Deb et al., IEEE TEC 2002): while there is a feasible one, all members are.
    """

    def __init__(self, maximize: Sequence[bool]) -> None:
        self.signs = [-1.0 if up else 1.0 for up in maximize]
        self._members: dict[int, tuple[float, ...]] = {}  # number → losses
        self._penalty = math.inf  # of all members

    def losses(self, values: Sequence[float]) -> tuple[float, ...]:
        """The values with signs such that less is better for each."""
        return tuple(sign * value for sign, value in zip(self.signs, values, strict=True))

    def add(self, number: int, values: Sequence[float], penalty: float = 0.0) -> None:
        """A trial is COMPLETE with these values (no NaN). Compared with each member.

        Args:
            penalty: by how much it breaks constraints (`api.trial.penalty`).
        """
        if self._members and penalty > self._penalty:
            return
        if penalty < self._penalty:
            self._members, self._penalty = {}, penalty
        new = self.losses(values)
        for member, old in self._members.items():
            if _no_worse(old, new) and (old != new or member < number):
                return
        self._members = {member: old for member, old in self._members.items() if not _no_worse(new, old)}
        self._members[number] = new

    @property
    def numbers(self) -> list[int]:
        return sorted(self._members)


def _no_worse(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Whether `one` is as good as `other` in every objective."""
    return all(a <= b for a, b in zip(one, other, strict=True))
