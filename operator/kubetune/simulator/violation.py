"""What is raised when an invariant of DESIGN.md does not hold."""


class Violation(AssertionError):  # noqa: N818
    """An invariant does not hold."""

    def __init__(self, invariant: str, what: str) -> None:
        super().__init__(f"{invariant}: {what}")
        self.invariant = invariant


def check(holds: bool, invariant: str, what: str) -> None:
    """Raises Violation unless it holds."""
    if not holds:
        raise Violation(invariant, what)
