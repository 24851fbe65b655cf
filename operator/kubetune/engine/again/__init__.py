"""Every decision of a study made again from its record: parameters by the samplers, stops by the pruners, what follows
a trial's legs by its course. Pure.

Three passes. Asks: trials are gone through by number, each with the history that its sampler knew. Judgements: what the
pruner was told, in the order in which it was. Legs: what a course decided, each by what it knew. Each decision is
compared with the recorded one, and what follows goes by the record: one that differs does not make the others differ.
"""

from kubetune.api.spec import Json
from kubetune.engine import searching
from kubetune.engine.again.phases import Phase as Phase
from kubetune.engine.again.phases import judge as judge
from kubetune.engine.again.phases import replay_phase as replay_phase
from kubetune.engine.again.phases import told as told
from kubetune.engine.again.study import Study as Study
from kubetune.engine.again.study import Verdict as Verdict
from kubetune.engine.again.whole import replay as replay


def versions(study: Study) -> list[str]:
    """In what the versions here differ from those that decided, of the last trials."""
    here = searching.versions()
    there: Json = next(
        (each.detail["versions"] for each in reversed(study.steering) if each.kind == searching.SEARCH), {}
    )
    return [
        f"{name} {there.get(name, 'not there')}, here {here.get(name, 'not there')}"
        for name in sorted(there.keys() | here.keys())
        if there.get(name) != here.get(name)
    ]
