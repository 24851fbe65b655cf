"""A search space: which of its parameters a trial has, given the values of those it has.

A parameter with `when` is one of a trial's only if each of its parents is, at one of the values named: the others of
the trial's parameters are drawn, handed over and recorded without it, as an Optuna objective that suggests inside an
`if` has it (define-by-run).
"""

from collections.abc import Mapping, Sequence

from kubetune.api.expression import Expression
from kubetune.api.parameters import InvalidSpec, Parameter, Params, ParamValue, described, within


class Space:
    """Parameters and their conditions: `when`, and ``where`` among values. Immutable.

    A sampler that draws several parameters together does so with `relative`, which every trial has. It goes through
    `order` and asks `is_active` with what is drawn so far: the active ones of `independent` it draws each on its own,
    the others it leaves out. (`engine.samplers.asking.Asker` does that for any sampler of Optuna's.)

    Attributes:
        parameters: by name, sorted.
        order: all names, parents first: by how many parents stand above, then by name. As they are drawn.
        relative: names of those that every trial has, in that order.
        independent: names of those with a condition, in that order.

    Raises:
        InvalidSpec: a condition names no parameter, or goes round in a circle.
    """

    def __init__(self, parameters: Mapping[str, Parameter], where: Sequence[Expression] = ()) -> None:
        self._where = tuple(where)
        self.parameters: dict[str, Parameter] = dict(sorted(parameters.items()))
        depths: dict[str, int] = {}
        for name in self.parameters:
            self._descend(name, (), depths)
        self.order = tuple(sorted(self.parameters, key=lambda name: (depths[name], name)))
        self.relative = tuple(name for name in self.order if depths[name] == 0)
        self.independent = tuple(name for name in self.order if depths[name] > 0)
        self._needs: dict[str, dict[str, tuple[ParamValue, ...]]] = {}
        for name in self.order:
            self._needs[name] = self._all_needs(name)

    def _descend(self, name: str, children: tuple[str, ...], depths: dict[str, int]) -> int:
        if name not in depths:
            if name in children:
                circle = " needs ".join([*children[children.index(name) :], name])
                raise InvalidSpec(f"parameters.{name}.when", f"conditions go in a circle: {circle}; drop one of them")
            when = self.parameters[name].when
            for parent, _ in when:
                if parent not in self.parameters:
                    raise InvalidSpec(f"parameters.{name}.when", f"there is no parameter {parent}")
            above = [self._descend(parent, (*children, name), depths) for parent, _ in when]
            depths[name] = 1 + max(above, default=-1)
        return depths[name]

    def _all_needs(self, name: str) -> dict[str, tuple[ParamValue, ...]]:
        """Its own conditions and those of all that stand above it."""
        needs: dict[str, tuple[ParamValue, ...]] = {}
        for parent, values in self.parameters[name].when:
            for one, allowed in ((parent, values), *self._needs[parent].items()):
                needs[one] = tuple(value for value in allowed if one not in needs or value in needs[one])
        return needs

    def needs(self, name: str) -> Mapping[str, tuple[ParamValue, ...]]:
        """The parameter is active where each of these has one of these values: its parents, theirs, and so on."""
        return self._needs[name]

    def check(self) -> None:
        """Raises InvalidSpec: a parameter that no trial could ever have."""
        for name in self.independent:
            for parent, values in self._needs[name].items():
                if not values:
                    why = f"the conditions on the way to it ask for different values of {parent}"
                    raise InvalidSpec(f"parameters.{name}.when", f"no trial can have {name}: {why}")

    def is_active(self, name: str, params: Params) -> bool:
        """Whether a trial with these values has the parameter. Enough are those that stand before it in `order`."""
        return all(parent in params and params[parent] in values for parent, values in self._needs[name].items())

    def active(self, params: Params) -> dict[str, ParamValue]:
        """Of values for all parameters (or more than a trial has) those that a trial has, in `order`."""
        return {name: params[name] for name in self.order if name in params and self.is_active(name, params)}

    def holds(self, params: Params) -> bool:
        """Whether all conditions among its parameters hold of a trial's."""
        return all(condition.holds(params) for condition in self._where)

    @property
    def words(self) -> str:
        """The conditions among parameters."""
        return " and ".join(condition.text for condition in self._where)

    def problem(self, params: Params) -> tuple[str, str] | None:
        """Why no trial can have exactly these parameters: (the parameter, what is wrong with it). None: it can, as far
        as each is asked by itself: what must hold among them, `holds` says."""
        for name in sorted(params.keys() - self.parameters.keys()):
            return name, f"there is no parameter {name}; there are {', '.join(self.parameters)}"
        for name in self.order:
            if not self.is_active(name, params):
                if name in params:
                    return name, f"{name} is given, but is only for {self.condition(name)}"
            elif name not in params:
                return name, f"{name} is missing; it is {described(self.parameters[name])}"
            elif not within(self.parameters[name], params[name]):
                return name, f"{params[name]!r} is no value of {name}, which is {described(self.parameters[name])}"
        return None

    def condition(self, name: str) -> str:
        """When the parameter is active, in words: ``optimizer = sgd or rmsprop, layers = 3``; "": always."""
        return ", ".join(f"{parent} = {' or '.join(map(str, values))}" for parent, values in self.parameters[name].when)
