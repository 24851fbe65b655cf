"""The interface of a searcher from outside: a class of yours, in the operator's image, that chooses parameters.

Publish a factory as an entry point of group ``kubetune.searchers``; an Experiment names it by
``sampler: {name: external, settings: {plugin: NAME}}``. See docs/own-searcher.md, also for searchers that speak HTTP.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from kubetune.api.parameters import Parameter, Params
from kubetune.api.spec import Objective

GROUP = "kubetune.searchers"


class SamplerFailed(Exception):  # noqa: N818
    """The sampler raised an error, hung, or took its process down with it, twice."""

    @property
    def why(self) -> str:
        """Its last line: of a traceback the error itself."""
        return next((line.strip() for line in reversed(str(self).splitlines()) if line.strip()), "")


@dataclasses.dataclass(frozen=True)
class Study:
    """What is searched, and for what. ``uid``: of the Experiment, never used again for another one."""

    namespace: str
    name: str
    uid: str
    seed: int  # of the Experiment, or one made of its UID
    parameters: Mapping[str, Parameter]
    objectives: tuple[Objective, ...]


@dataclasses.dataclass(frozen=True)
class Told:
    """A trial that ended. ``values``: one for each objective; of a pruned trial what it had reached; None: none."""

    number: int
    state: Literal["COMPLETE", "PRUNED", "FAIL"]
    params: Params
    values: tuple[float, ...] | None


class Searcher(Protocol):
    """One study's. Told every trial that ended, each once, in the order of their ends; asked now and then.

    It lives as long as its process does. A new one is made, and told everything from the beginning, after a restart and
    whenever another process takes over: so keep nothing that does not follow from what was told, and draw at random
    from ``study.seed`` and ``number``, not from a stream that goes on. Then the same record gives the same parameters.
    """

    def tell(self, trials: Sequence[Told]) -> None:
        """The trials that ended since the last call."""

    def ask(self, number: int, running: Mapping[int, Params]) -> Params:
        """Parameters of trial ``number``: those that the conditions make active, each a value that it can have.

        Args:
            running: parameters of the trials that run, by number.
        """


class Factory(Protocol):
    """What the entry point names."""

    def __call__(self, study: Study) -> Searcher: ...
