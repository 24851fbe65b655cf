"""What holds in every database, without one: text that can be stored, steps, endings, the search space's mapping."""

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from kubetune.api.spec import Categorical, Double, Int, Parameter
from kubetune.api.trial import Counts, Report, TrialRow, TrialState
from kubetune.storage import rules, space


class TestClean:
    @given(st.text(st.characters(codec="utf-8", exclude_characters="\0")))
    def test_text_that_can_be_stored_stays_as_it_is(self, text: str) -> None:
        assert rules.clean(text) == text

    @given(st.text(st.characters()))
    def test_whatever_comes_can_be_stored(self, text: str) -> None:
        cleaned = rules.clean(text)
        assert "\0" not in cleaned
        assert cleaned.encode().decode() == cleaned

    def test_halves_of_a_pair_that_belong_together_are_joined(self) -> None:
        assert rules.clean("a\ud83d\ude00b\ud800c") == "a\U0001f600b\ufffdc"


class TestSteps:
    @pytest.mark.parametrize(
        ("last", "given_step", "step"), [(None, None, 0), (4, None, 5), (4, 2, 2), (None, -1, -1), (4, 2**62, 2**62)]
    )
    def test_as_given_or_one_more_than_the_highest(self, last: int | None, given_step: int | None, step: int) -> None:
        assert rules.step_after(last, given_step) == step

    @pytest.mark.parametrize(("last", "given_step"), [(None, 2**63), (None, -(2**63) - 1), (2**63 - 1, None)])
    def test_beyond_64_bits_is_refused(self, last: int | None, given_step: int | None) -> None:
        with pytest.raises(ValueError, match="step"):
            rules.step_after(last, given_step)


def test_a_series_is_ascending_and_the_latest_report_of_a_step_counts() -> None:
    reports = [
        Report(1, 1, 5, {"loss": 0.5}, 0.0),
        Report(2, 1, 1, {"loss": 0.7, "other": 1.0}, 0.0),
        Report(3, 1, 9, {"other": 1.0}, 0.0),
        Report(4, 1, 5, {"loss": 0.4}, 0.0),
    ]
    assert list(rules.series(reports, "loss").items()) == [(1, 0.7), (5, 0.4)]


def test_counts_by_state_and_the_attempts_lost_on_the_way() -> None:
    states = [(TrialState.RUNNING, 2), (TrialState.COMPLETE, 0), (TrialState.FAIL, 1), (TrialState.PRUNED, 0)]
    rows = [TrialRow(number, state, {}, 5, 0.0, losses=losses) for number, (state, losses) in enumerate(states)]
    assert rules.counts(rows) == Counts(running=1, complete=1, pruned=1, failed=1, lost_attempts=3)


class TestSpace:
    @pytest.mark.parametrize(
        ("parameter", "expected"),
        [
            (Double(1e-5, 0.1, log=True), FloatDistribution(1e-5, 0.1, log=True)),
            (Double(0.5, 0.99), FloatDistribution(0.5, 0.99)),
            (Double(0.0, 0.5, step=0.1), FloatDistribution(0.0, 0.5, step=0.1)),
            (Double(0.0, 1.0, step=0.3), FloatDistribution(0.0, 0.9, step=0.3)),
            (Int(1, 8), IntDistribution(1, 8)),
            (Int(8, 60, step=8), IntDistribution(8, 56, step=8)),
            (Int(16, 1024, log=True), IntDistribution(16, 1024, log=True)),
            (Categorical(("adam", "sgd")), CategoricalDistribution(["adam", "sgd"])),
            (Categorical((16, 32.5)), CategoricalDistribution([16, 32.5])),
            (Categorical((False, True)), CategoricalDistribution([False, True])),
        ],
    )
    def test_each_kind(self, parameter: Parameter, expected: object) -> None:
        assert space.distribution(parameter) == expected

    @given(st.integers(-50, 50), st.integers(1, 100), st.integers(1, 40))
    def test_a_range_ends_where_optuna_would_end_it(self, low: int, length: int, step: int) -> None:
        parameter = Double(low / 10, (low + length) / 10, step=min(step, length) / 10)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            expected = FloatDistribution(parameter.low, parameter.high, step=parameter.step)
        assert space.distribution(parameter) == expected

    def test_the_order_is_the_specs(self) -> None:
        parameters: dict[str, Parameter] = {"b": Double(0.0, 1.0), "a": Int(1, 2)}
        assert list(space.distributions_of(parameters)) == ["b", "a"]
