"""How a series becomes a value, and how a trial's reports and outcome become its end."""

import math

import pytest

from kubetune.api.spec import Objective
from kubetune.api.trial import Finish, Reason, Report, TrialState
from kubetune.engine import value
from tests.unit.engine_objects import ACCURACY, LOSS, reports

NAN, INF = math.nan, math.inf
UP, DOWN = "maximize", "minimize"


def objective(rule: str, direction: str = DOWN, window: int = 5) -> Objective:
    return Objective("loss", direction, value=rule, window=window)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("of", "series", "expected"),
    [
        (objective("last"), [3.0, 1.0, 2.0], 2.0),
        (objective("last"), [3.0, NAN], NAN),
        (objective("last"), [NAN, 3.0], 3.0),
        (objective("last"), [1.0, -INF], -INF),
        (objective("best", DOWN), [3.0, 1.0, 2.0], 1.0),
        (objective("best", UP), [1.0, 3.0, 2.0], 3.0),
        (objective("best", DOWN), [NAN, 2.0, NAN], 2.0),
        (objective("best", UP), [NAN, NAN], NAN),
        (objective("best", UP), [1.0, INF], INF),
        (objective("min", UP), [3.0, 1.0, 2.0], 1.0),  # whichever is better
        (objective("max", DOWN), [1.0, NAN, 3.0, 2.0], 3.0),
        (objective("max", UP), [NAN], NAN),
        (objective("mean"), [1.0, 2.0, 3.0], 2.0),
        (objective("mean", window=2), [100.0, 1.0, 2.0], 1.5),
        (objective("mean", window=1), [100.0, 7.0], 7.0),
        (objective("mean", window=2), [NAN, 1.0, 2.0], 1.5),
        (objective("mean", window=2), [1.0, NAN], NAN),
        (objective("mean"), [0.1, 0.1, 0.1], 0.1),
        (objective("mean"), [1e308, 1e308], 1e308),
        (objective("mean"), [1.0, INF], INF),
        (objective("mean"), [-INF, INF], NAN),
    ],
)
def test_series_becomes_one_value(of: Objective, series: list[float], expected: float) -> None:
    assert value.reduce(of, series) == pytest.approx(expected, rel=1e-15, nan_ok=True)


def test_mean_takes_the_last_reports_that_have_the_metric() -> None:
    both = reports({"loss": 9.0}, {"loss": 1.0}, {"time": 5.0}, {"loss": 3.0}, {"time": 6.0})
    ending = value.settle(both, None, value.Outcome(), [objective("mean", window=2)])
    assert ending.values == (2.0,)


def finish(status: str, message: str = "") -> Finish:
    return Finish(attempt=1, status=status, message=message, time=1.0)


GOOD = reports({"loss": 2.0}, {"loss": 1.0})


@pytest.mark.parametrize(
    ("came", "said", "outcome", "expected"),
    [
        # its metrics decide where nothing else does
        (GOOD, None, {}, (TrialState.COMPLETE, Reason.COMPLETED, (1.0,))),
        (GOOD, "complete", {}, (TrialState.COMPLETE, Reason.COMPLETED, (1.0,))),
        (reports({"loss": INF}), None, {}, (TrialState.COMPLETE, Reason.COMPLETED, (INF,))),
        (reports({"loss": -INF}), None, {}, (TrialState.COMPLETE, Reason.COMPLETED, (-INF,))),
        (reports({"loss": 1.0}, {"loss": NAN}), None, {}, (TrialState.FAIL, Reason.NOT_A_NUMBER, None)),
        ([], None, {}, (TrialState.FAIL, Reason.NO_METRIC, None)),
        ([], "complete", {}, (TrialState.FAIL, Reason.NO_METRIC, None)),
        (reports({"accuracy": 1.0}), None, {}, (TrialState.FAIL, Reason.NO_METRIC, None)),
        # the trial's own word
        (GOOD, "failed", {}, (TrialState.FAIL, Reason.TRIAL_FAILED, None)),
        (GOOD, "pruned", {}, (TrialState.PRUNED, Reason.PRUNED, (1.0,))),
        ([], "pruned", {}, (TrialState.PRUNED, Reason.PRUNED, None)),
        # a stop that was requested goes before it
        (GOOD, None, {"stop": Reason.PRUNED}, (TrialState.PRUNED, Reason.PRUNED, (1.0,))),
        (GOOD, "complete", {"stop": Reason.PRUNED}, (TrialState.PRUNED, Reason.PRUNED, (1.0,))),
        (GOOD, "failed", {"stop": Reason.STOPPED}, (TrialState.PRUNED, Reason.STOPPED, (1.0,))),
        ([], None, {"stop": Reason.STOPPED}, (TrialState.PRUNED, Reason.STOPPED, None)),
        (reports({"loss": NAN}), None, {"stop": Reason.PRUNED}, (TrialState.PRUNED, Reason.PRUNED, None)),
        (GOOD, None, {"stop": Reason.EXPERIMENT_ENDED}, (TrialState.PRUNED, Reason.EXPERIMENT_ENDED, (1.0,))),
        # a failed Job goes before all
        (GOOD, "complete", {"failure": Reason.OOM_KILLED}, (TrialState.FAIL, Reason.OOM_KILLED, None)),
        (GOOD, None, {"failure": Reason.EXIT_CODE, "stop": Reason.PRUNED}, (TrialState.FAIL, Reason.EXIT_CODE, None)),
    ],
)
def test_end_of_a_trial(
    came: list[Report], said: str | None, outcome: dict[str, Reason], expected: tuple[object, ...]
) -> None:
    ending = value.settle(came, finish(said) if said else None, value.Outcome(**outcome), [LOSS])
    assert (ending.state, ending.reason, ending.values) == expected


def test_a_trial_cut_short_has_the_value_of_its_highest_step() -> None:
    """As Optuna's `tell` takes it, also where reports came out of order."""
    came = [Report(1, 1, 5, {"loss": 0.5}, 0.0), Report(2, 1, 2, {"loss": 0.2}, 0.0)]
    assert value.settle(came, None, value.Outcome(stop=Reason.PRUNED), [LOSS]).values == (0.5,)


@pytest.mark.parametrize(
    ("came", "message"),
    [
        ([], "the trial ended without a report of loss, accuracy; no metric came at all"),
        (
            reports({"loss": 1.0, "time": 2.0}, {"acc": 0.5}),
            "the trial ended without a report of accuracy; the metrics that came are acc, loss, time",
        ),
        (
            reports({f"m{index:02}": 0.0 for index in range(12)}),
            "the trial ended without a report of loss, accuracy; the metrics that came are "
            "m00, m01, m02, m03, m04, m05, m06, m07, m08, m09 and 2 more",
        ),
    ],
)
def test_no_metric_says_which_is_missing_and_which_came(came: list[Report], message: str) -> None:
    assert value.settle(came, None, value.Outcome(), [LOSS, ACCURACY]).message == message


def test_not_a_number_says_which() -> None:
    ending = value.settle(reports({"loss": 1.0, "accuracy": NAN}), None, value.Outcome(), [LOSS, ACCURACY])
    assert ending.message == "accuracy (last of its reports) is not a number"


@pytest.mark.parametrize(
    ("said", "outcome", "message"),
    [
        (finish("failed", "bad data"), value.Outcome(), "bad data"),
        (finish("failed"), value.Outcome(), "the trial reported that it failed"),
        (finish("complete", "done early"), value.Outcome(), "done early"),
        (None, value.Outcome(Reason.EXIT_CODE, "exit code 3"), "exit code 3"),
        (None, value.Outcome(stop=Reason.PRUNED), "the pruner stopped it"),
        (None, value.Outcome(stop=Reason.STOPPED), "stopped on request"),
        (None, value.Outcome(stop=Reason.EXPERIMENT_ENDED), "the experiment ended before it"),
        (None, value.Outcome(message="target reached", stop=Reason.EXPERIMENT_ENDED), "target reached"),
    ],
)
def test_message_is_the_best_that_is_known(said: Finish | None, outcome: value.Outcome, message: str) -> None:
    assert value.settle(GOOD, said, outcome, [LOSS]).message == message


def test_several_objectives_have_a_value_each_and_need_all_to_be_cut_short_with_values() -> None:
    whole = reports({"loss": 1.0}, {"accuracy": 0.5})
    assert value.settle(whole, None, value.Outcome(), [LOSS, ACCURACY]).values == (1.0, 0.5)
    assert value.settle(whole, None, value.Outcome(stop=Reason.STOPPED), [LOSS, ACCURACY]).values == (1.0, 0.5)
    assert value.settle(whole[:1], None, value.Outcome(stop=Reason.STOPPED), [LOSS, ACCURACY]).values is None


@pytest.mark.parametrize(
    ("targets", "values", "expected"),
    [
        ((None, None), (0.0, 1.0), False),
        ((0.1, None), (0.1, 0.0), True),
        ((0.1, None), (0.2, 1.0), False),
        ((None, 0.9), (5.0, 0.9), True),
        ((None, 0.9), (0.0, 0.8), False),
        ((0.1, 0.9), (0.1, 0.8), False),
        ((0.1, 0.9), (0.0, 1.0), True),
        ((0.1, None), (-INF, 0.0), True),
    ],
)
def test_one_trial_reaches_every_target_there_is(
    targets: tuple[float | None, ...], values: tuple[float, ...], expected: bool
) -> None:
    loss = Objective("loss", "minimize", target=targets[0])
    accuracy = Objective("accuracy", "maximize", target=targets[1])
    assert value.reaches([loss, accuracy], values) is expected
