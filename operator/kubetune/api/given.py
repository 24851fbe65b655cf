"""Parameters that people give, read against the search space. Pure: the command line judges by it too."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from kubetune.api.parameters import InvalidSpec, Parameter, ParamValue, described, own, within
from kubetune.api.space import Space
from kubetune.api.spec import Given


def check(space: Space, sets: Sequence[Given]) -> None:
    """Whether each set can be a trial, or a part of one.

    Raises:
        InvalidSpec: naming the value.
    """
    sources = set()
    for each in sets:
        read(space, each)
        if each.source in sources:
            name = each.source.partition("/")[2]
            raise InvalidSpec(each.field, f"the name {name} is there twice; give each set one of its own")
        sources.add(each.source)


def read(space: Space, given: Given) -> Given:
    """The set with its values as the space has them (a number of a whole parameter is an int, and so on).

    Raises:
        InvalidSpec: for a parameter that is not there, a value that it cannot have, or one that the trial would not
            have by the other values.
    """
    params = {}
    for name, value in given.params.items():
        if name not in space.parameters:
            known = ", ".join(space.parameters)
            raise InvalidSpec(f"{given.field}.{name}", f"there is no such parameter; there are {known}")
        params[name] = _plain(f"{given.field}.{name}", space.parameters[name], value)
    for name in params:
        if any(params.get(parent) not in allowed for parent, allowed in space.needs(name).items()):
            condition = space.condition(name)
            raise InvalidSpec(
                f"{given.field}.{name}", f"a trial has it only with {condition}; give that too, or leave {name} out"
            )
    if not space.holds(params):
        raise InvalidSpec(given.field, f"it does not fulfil spec.where, {space.words}; correct one of them")
    return dataclasses.replace(given, params=params)


def _plain(field: str, parameter: Parameter, value: Any) -> ParamValue:
    if not isinstance(value, str | bool | int | float) or not within(parameter, value):
        raise InvalidSpec(field, f"{value!r} is no value of it, which is {described(parameter)}")
    return own(parameter, value)
