"""The best trials so far: the Pareto front, kept up as trials complete. With one objective it has one member."""

from collections.abc import Sequence


class Front:
    """The non-dominated trials. Of trials with equal values only the earliest (lowest number) is a member."""

    def __init__(self, maximize: Sequence[bool]) -> None:
        self.signs = [-1.0 if up else 1.0 for up in maximize]
        self._members: dict[int, tuple[float, ...]] = {}  # number → losses

    def losses(self, values: Sequence[float]) -> tuple[float, ...]:
        """The values with signs such that less is better for each."""
        return tuple(sign * value for sign, value in zip(self.signs, values, strict=True))

    def add(self, number: int, values: Sequence[float]) -> None:
        """A trial is COMPLETE with these values (no NaN). Compared with each member."""
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
