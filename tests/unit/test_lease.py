"""Who leads: the policy as a table, then candidates with clocks of their own, cut off and killed, on virtual time."""

import dataclasses
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubetune.controller.lease import (
    DURATION,
    GAP,
    LOOK,
    RENEW,
    TIMEOUT,
    Action,
    Elector,
    Lease,
    NotAllowed,
    View,
    step,
)
from kubetune.kube import errors, resources
from tests.unit.clock import Time

Json = dict[str, Any]
ME, OTHER = View("pod-a_1"), Lease("pod-b_1", "7")


@pytest.mark.parametrize(
    ("view", "now", "lease", "eligible", "action"),
    [
        pytest.param(ME, 0, None, True, Action.TAKE, id="there is none"),
        pytest.param(ME, 0, Lease("", "7"), True, Action.TAKE, id="released"),
        pytest.param(ME, 0, Lease("", "7"), False, Action.WAIT, id="released, and we are not ready"),
        pytest.param(ME, 9999, OTHER, True, Action.WAIT, id="just seen: however old its time is"),
        pytest.param(ME, 0, Lease("pod-a_0", "7"), True, Action.TAKE, id="our own pod's last process: it is dead"),
        pytest.param(ME, 0, Lease("pod-a_1", "7"), True, Action.RENEW, id="ours: the answer to the write was lost"),
        pytest.param(
            View("pod-a_1", lease=OTHER, since=0, looked=DURATION - 1), DURATION, OTHER, True, Action.TAKE, id="expired"
        ),
        pytest.param(
            View("pod-a_1", lease=OTHER, since=0, looked=4), 4 + GAP + 0.1, OTHER, True, Action.WAIT, id="we were deaf"
        ),
        pytest.param(
            View("pod-a_1", lease=Lease("pod-b_1", "6"), since=0, looked=DURATION - 1),
            DURATION,
            OTHER,
            True,
            Action.WAIT,
            id="renewed at the last moment",
        ),
        pytest.param(View("pod-a_1", leads=True), 0, OTHER, True, Action.LOST, id="taken from us"),
        pytest.param(
            View("pod-a_1", True, looked=0), GAP, None, False, Action.TAKE, id="ours, and somebody deleted it"
        ),
        pytest.param(View("pod-a_1", True, looked=0), GAP + 0.1, None, True, Action.LOST, id="and we know not when"),
        pytest.param(View("pod-a_1", leads=True), 0, Lease("pod-a_1", "7"), False, Action.RENEW, id="ours as ever"),
    ],
)
def test_one_look(view: View, now: float, lease: Lease | None, eligible: bool, action: Action) -> None:
    assert step(view, now, lease, eligible)[1] is action


class Server:
    """One Lease, kept as an API server does; ``away``: who is not answered."""

    def __init__(self) -> None:
        self.raw: Json | None = None
        self.version = 0
        self.error: errors.ApiError | None = None
        self.lose_answers = False

    def get(self, resource: resources.Resource, namespace: str, name: str) -> Json:
        self._answer()
        if self.raw is None:
            raise errors.NotFound(404, "NotFound", name)
        return self.raw

    def create(self, resource: resources.Resource, namespace: str, body: Json) -> Json:
        self._answer()
        if self.raw is not None:
            raise errors.AlreadyExists(409, "AlreadyExists", "there")
        return self._put(body)

    def replace(self, resource: resources.Resource, namespace: str, name: str, body: Json) -> Json:
        self._answer()
        if self.raw is None or body["metadata"]["resourceVersion"] != self.raw["metadata"]["resourceVersion"]:
            raise errors.Conflict(409, "Conflict", "another version")
        return self._put(body)

    def _put(self, body: Json) -> Json:
        self.version += 1
        self.raw = {**body, "metadata": {**body["metadata"], "resourceVersion": str(self.version)}}
        if self.lose_answers:
            raise errors.Unavailable(0, "ReadTimeoutError", "no answer")
        return self.raw

    def _answer(self) -> None:
        if self.error is not None:
            raise self.error

    @property
    def holder(self) -> str:
        return str(self.raw["spec"]["holderIdentity"]) if self.raw else ""


class Link:
    """One candidate's way to the server, which may be cut."""

    def __init__(self, server: Server) -> None:
        self.cut = False
        self._server = server

    def __getattr__(self, name: str) -> Any:
        if self.cut:
            raise errors.Unavailable(0, "ConnectTimeoutError", "cut off")
        return getattr(self._server, name)


@dataclasses.dataclass
class Database:
    epoch: int = 0


class Candidate:
    """An operator as far as leading goes. Its clock began at another time and runs at another speed."""

    def __init__(self, name: str, server: Server, database: Database, rate: float = 1.0, begin: float = 0.0) -> None:
        self.name, self.rate = name, rate
        self.link = Link(server)
        self.clock = Time(begin)
        self.alive, self.epoch = True, 0
        self._database = database
        self.elector = Elector(
            self.link,  # type: ignore[arg-type]
            "kubetune",
            "kubetune-leader",
            lambda: True,
            self._won,
            self._lost,
            f"{name}_1",
            self.clock,
        )
        self.next = 0.0

    def _won(self) -> None:
        self._database.epoch += 1
        self.epoch = self._database.epoch

    def _lost(self) -> None:
        self.alive = False

    def turn(self) -> float:
        """One turn; real seconds until the next. A leader's heartbeat confirms its epoch (`upkeep.Upkeep.beat`)."""
        seconds = self.elector.turn()
        self.alive = self.alive and (not self.epoch or self.writes)
        return seconds / self.rate

    @property
    def writes(self) -> bool:
        return self.alive and self.epoch == self._database.epoch > 0


class World:
    """Candidates on one timeline; who has lost the lead is started anew, as Kubernetes does."""

    def __init__(self, *rates: float) -> None:
        self.now = 0.0
        self.server, self.database = Server(), Database()
        self._born = 0
        self.candidates = [self._new(rate) for rate in rates]
        self.leaders: list[str] = []

    def _new(self, rate: float) -> Candidate:
        self._born += 1
        made = Candidate(f"pod-{self._born}", self.server, self.database, rate, begin=1e5 * self._born)
        made.next = self.now + 0.1 * self._born
        return made

    def run(self, until: float) -> None:
        while (candidate := min(self.candidates, key=lambda each: each.next)).next <= until:
            for each in self.candidates:
                each.clock.now += (candidate.next - self.now) * each.rate
            self.now = candidate.next
            candidate.next = self.now + candidate.turn()
            if not candidate.alive:  # it stopped
                self.replace(candidate)
            writers = [each for each in self.candidates if each.writes]
            assert len(writers) <= 1
            if writers and self.leaders[-1:] != [writers[0].name]:
                self.leaders.append(writers[0].name)

    def replace(self, candidate: Candidate) -> None:
        """Kill one; another pod comes in its place."""
        candidate.alive = False
        self.candidates[self.candidates.index(candidate)] = self._new(candidate.rate)

    @property
    def leader(self) -> Candidate:
        (found,) = [each for each in self.candidates if each.writes]
        return found


def test_while_all_is_well_the_leader_stays() -> None:
    world = World(1.0, 1.1, 0.9)
    world.run(3600)
    assert len(world.leaders) == 1


@pytest.mark.parametrize("offset", [0.0, 0.3, 0.6, 0.9, 1.2, 1.5])
def test_after_a_kill_the_standby_leads_within_six_seconds(offset: float) -> None:
    world = World(1.0, 1.0)
    world.run(100 + offset)
    world.replace(world.leader)
    world.run(world.now + LOOK + DURATION + LOOK)
    assert world.leader.writes
    assert len(world.leaders) == 2


def test_a_renewal_that_failed_is_tried_again_soon() -> None:
    """Two attempts that time out one after the other are over before the Lease is."""
    world = World(1.0)
    elector = world.candidates[0].elector
    assert elector.turn() == RENEW
    world.candidates[0].link.cut = True
    assert elector.turn() == LOOK
    world.candidates[0].link.cut = False
    assert elector.turn() == RENEW
    assert RENEW + TIMEOUT + LOOK + TIMEOUT <= DURATION


def test_a_clean_stop_hands_over_at_the_next_look() -> None:
    world = World(1.0, 1.0)
    world.run(100)
    leader = world.leader
    leader.elector.close()
    assert world.server.holder == ""
    world.replace(leader)
    world.run(world.now + 2 * LOOK)
    assert world.leader is not leader


def test_an_api_server_that_is_away_costs_nobody_the_lead() -> None:
    world = World(1.0, 1.0)
    world.run(100)
    world.server.error = errors.Unavailable(0, "NewConnectionError", "refused")
    world.run(160)
    world.server.error = None
    world.run(200)
    assert len(world.leaders) == 1


def test_a_leader_that_is_cut_off_is_followed_and_then_fenced_and_steps_down() -> None:
    world = World(1.0, 1.0)
    world.run(100)
    old = world.leader
    old.link.cut = True
    world.run(120)
    assert world.leader is not old
    assert not old.writes
    old.link.cut = False
    world.run(130)
    assert not old.alive
    assert len(world.leaders) == 2


@pytest.mark.parametrize("seconds", [0.2, 0.7, 2, 4])
def test_answers_that_are_lost_cost_nothing(seconds: float) -> None:
    world = World(1.0, 1.0)
    world.server.lose_answers = True
    world.run(seconds)
    world.server.lose_answers = False
    world.run(seconds + LOOK)
    assert world.server.holder == f"{world.leader.name}_1"
    assert len(world.leaders) == 1


@given(
    seed=st.integers(0, 2**32),
    rates=st.lists(st.floats(0.85, 1.15), min_size=2, max_size=4),
    faults=st.lists(st.tuples(st.floats(0.1, 20), st.sampled_from(("kill", "cut", "mend", "away", "back", "delete")))),
)
def test_whatever_happens_one_writes_at_most_and_in_the_end_one_leads(
    seed: int, rates: list[float], faults: list[tuple[float, str]]
) -> None:
    world, dice = World(*rates), random.Random(seed)
    for seconds, fault in faults:
        world.run(world.now + seconds)
        victim = dice.choice(world.candidates)
        if fault == "kill":
            world.replace(victim)
        elif fault in ("cut", "mend"):
            victim.link.cut = fault == "cut"
        elif fault in ("away", "back"):
            world.server.error = errors.Unavailable(503, "", "away") if fault == "away" else None
        else:
            world.server.raw = None
    world.server.error = None
    for candidate in world.candidates:
        candidate.link.cut = False
    world.run(world.now + 30)
    before = len(world.leaders)
    assert world.leader.elector.leads
    assert world.server.holder == f"{world.leader.name}_1"
    world.run(world.now + 60)
    assert len(world.leaders) == before


def test_without_the_right_to_leases_it_says_what_to_grant() -> None:
    world = World(1.0)
    world.server.error = errors.Forbidden(403, "Forbidden", "leases is forbidden")
    with pytest.raises(NotAllowed, match=r"get, create and update on leases .* in namespace kubetune"):
        world.candidates[0].elector.check()


def test_a_standby_that_stops_leaves_the_lease_alone() -> None:
    world = World(1.0, 1.0)
    world.run(10)
    (standby,) = [each for each in world.candidates if not each.writes]
    before = world.server.raw
    standby.elector.close()
    assert world.server.raw == before
