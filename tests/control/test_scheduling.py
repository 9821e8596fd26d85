"""Who is next: by example, and against the rules for whatever comes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from windlassd.control.scheduling import Holding, Nodes, Pool, Waiting
from windlassd.testing.queue_simulation import Plan, Simulation

FOR_EVER = 10**9


class Place:
    """A pool whose machines are counted here. Clusters: name → (priority, max_nodes)."""

    def __init__(self, machines: int, **clusters: tuple[int, int]) -> None:
        self.machines, self.clusters, self.pool, self.turn = machines, clusters, Pool(), 0
        self.runs: dict[str, Waiting] = {}
        self.see()

    def see(self) -> None:
        held = {h.run_id: h for h in self.pool.holding()}
        free = self.machines - sum(h.nodes for h in held.values())
        for name, (priority, most) in self.clusters.items():
            busy = sum(h.nodes for h in held.values() if h.cluster == name)
            self.pool.see(name, priority, most, Nodes(max(0, min(free, most - busy)), busy))

    def ask(self, run_id: str, nodes: int, limit_s: float | None = None, cluster: str = "c", priority: int = 0) -> None:
        self.turn += 1
        run = self.runs[run_id] = Waiting(run_id, cluster, nodes, self.turn, priority, limit_s)
        self.pool.wait(run)

    def begin(self, now: float = 0.0) -> list[str]:
        """Who begins now, those out of turn in parentheses."""
        begun = []
        while start := self.pool.next(now):
            self.pool.begin(start, now)
            self.see()
            begun.append(f"({start.run_id})" if start.out_of_turn else start.run_id)
        return begun

    def end(self, run_id: str, now: float = 0.0) -> list[str]:
        assert self.pool.end(run_id) is not None
        self.see()
        return self.begin(now)


def test_by_priority_then_by_arrival() -> None:
    place = Place(1, c=(0, 1))
    for run_id, priority in (("a", 0), ("b", 0), ("urgent", 7), ("c", 0), ("late", 7)):
        place.ask(run_id, 1, priority=priority)
    order = place.begin()
    while place.pool.holding():
        order += place.end(order[-1])
    assert order == ["urgent", "late", "a", "b", "c"]


def test_all_nodes_or_none() -> None:
    place = Place(3, c=(0, 3))
    place.ask("a", 1)
    place.ask("gang", 3)
    assert place.begin() == ["a"] and place.end("a") == ["gang"]


def test_a_run_that_ends_in_time_may_pass() -> None:
    place = Place(4, c=(0, 4))
    place.ask("a", 3, limit_s=100)
    place.ask("big", 4)
    place.ask("too long", 1, limit_s=101)
    place.ask("no limit", 1)
    place.ask("short", 1, limit_s=100)
    assert place.begin() == ["a", "(short)"]
    why = place.pool.why("big", 0)
    assert why is not None and why.by == 100 and {h.run_id for h in why.holders} == {"a", "short"}
    assert place.end("a", 50) == [] and place.end("short", 60) == ["big"]


def test_a_run_that_uses_what_is_left_over_may_pass() -> None:
    place = Place(5, c=(0, 5))
    place.ask("a", 3, limit_s=100)
    place.ask("big", 4)
    place.ask("two", 2)
    place.ask("one", 1)
    place.ask("another", 1)
    assert place.begin() == ["a", "(one)"]
    assert place.end("a", 100) == ["big"]


def test_where_the_time_is_unknown_nobody_passes() -> None:
    place = Place(4, c=(0, 4))
    place.ask("a", 3)
    place.ask("big", 4)
    place.ask("short", 1, limit_s=1)
    assert place.begin() == ["a"]
    why = place.pool.why("big", 0)
    assert why is not None and why.by is None and [h.run_id for h in why.holders] == ["a"]
    why = place.pool.why("short", 0)
    assert why is not None and (why.place, why.free, why.first) == (2, 1, "big")


def test_machines_that_the_first_may_not_have_are_for_other_clusters() -> None:
    place = Place(10, c=(0, 4), d=(0, 10))
    place.ask("a", 4)
    place.ask("next", 4)
    place.ask("b", 5, cluster="d")
    place.ask("c", 2, cluster="d")
    assert place.begin() == ["a", "b"], "d has less of the machines, so it is first"
    assert place.pool.first() == place.runs["next"] or place.pool.first() == place.runs["c"]
    assert place.end("b") == ["c"]


def test_a_run_larger_than_a_shrunk_cluster_is_passed_until_it_grows() -> None:
    place = Place(4, c=(0, 4))
    place.ask("a", 4)
    place.begin()
    place.ask("big", 3)
    place.ask("small", 2)
    place.clusters["c"] = (0, 2)
    place.see()
    assert place.end("a") == ["small"]
    why = place.pool.why("big", 0)
    assert why is not None and why.most == 2
    place.clusters["c"] = (0, 4)
    place.see()
    assert place.begin() == [] and place.end("small") == ["big"]


def test_dedicated_before_low_priority_and_then_who_has_least() -> None:
    place = Place(6, low=(1, 6), one=(0, 6), two=(0, 3))
    for cluster in ("low", "one", "two"):
        for number in range(6):
            place.ask(f"{cluster}{number}", 1, cluster=cluster)
    begun = place.begin()
    assert begun == ["one0", "two0", "one1", "two1", "one2", "one3"], "twice as many for who may have twice as many"


def test_a_gang_gets_its_turn_though_another_cluster_always_has_less() -> None:
    """Without a turn that stays, the other cluster's small runs would take each node that comes free."""
    place = Place(4, gangs=(0, 4), small=(0, 4))
    place.ask("mine", 1, cluster="gangs")
    assert place.begin() == ["mine"]
    place.ask("gang", 3, cluster="gangs")
    for number in range(3):
        place.ask(f"s{number}", 1, cluster="small")
    begun = place.begin()
    for number in range(3, 40):
        place.ask(f"s{number}", 1, cluster="small")
        going = [h.run_id for h in place.pool.holding() if h.cluster == "small"]
        begun += place.end(going[0]) if going else place.begin()
        if "gang" in begun:
            break
    assert "gang" in begun and number < 12


def test_only_the_first_makes_a_cluster_grow() -> None:
    pool = Pool()
    pool.see("c", 0, 6, Nodes(idle=1, more=5))
    for number, nodes in enumerate((4, 3, 1)):
        pool.wait(Waiting(f"r{number}", "c", nodes, number))
    start = pool.next(0.0)
    assert start is not None and (start.run_id, start.grows) == ("r0", True)
    pool.begin(start, 0.0)
    pool.see("c", 0, 6, Nodes(idle=1, coming=3, more=2))
    assert pool.next(0.0) is None, "the idle node and three more are promised; with both others r1 would still lack one"
    pool.hold(Holding("r0", "c", 4))
    pool.see("c", 0, 6, Nodes(idle=0, busy=4, more=2))
    assert pool.next(0.0) is None, "r1 is first and more than could be added; r2 must not take its nodes"


def test_nodes_that_are_promised_are_nobody_elses_on_the_same_machines() -> None:
    pool = Pool()
    pool.see("a", 0, 4, Nodes(idle=1, more=3))
    pool.see("b", 0, 4, Nodes(idle=1))
    pool.wait(Waiting("big", "a", 3, 1))
    start = pool.next(0.0)
    assert start is not None and start.grows
    pool.begin(start, 0.0)
    pool.wait(Waiting("small", "b", 1, 2))
    assert pool.next(0.0) is None
    pool.hold(Holding("big", "a", 3))
    pool.see("a", 0, 4, Nodes(idle=1, busy=3))
    start = pool.next(0.0)
    assert start is not None and start.run_id == "small"


def test_only_those_are_named_whose_end_helps() -> None:
    place = Place(10, c=(0, 4), d=(0, 10))
    place.ask("first", 4, limit_s=50)
    place.ask("other", 2, limit_s=10, cluster="d")
    assert sorted(place.begin()) == ["first", "other"]
    place.ask("next", 4)
    why = place.pool.why("next", 0)
    assert why is not None and [h.run_id for h in why.holders] == ["first"] and why.by == 50


def test_what_an_engine_refuses_is_asked_again_once_something_changed() -> None:
    pool = Pool()
    pool.see("c", 0, 4, Nodes(idle=2, more=2))
    pool.wait(Waiting("big", "c", 4, 1))
    pool.wait(Waiting("small", "c", 1, 2))
    start = pool.next(0.0)
    assert start is not None and start.run_id == "big" and start.grows
    pool.refuse("big")
    start = pool.next(0.0)
    assert start is not None and start.run_id == "small", "there are no more than two machines: big is passed"
    why = pool.why("big", 0.0)
    assert why is not None and why.most == 2
    pool.see("c", 0, 4, Nodes(idle=4))
    assert pool.next(0.0) == replace(start, run_id="big", out_of_turn=False)


@dataclass
class Case:
    """Runs that hold or wait for nodes of one cluster."""

    machines: int
    held: list[tuple[int, float]]
    asked: list[tuple[int, float | None]] = field(default_factory=list)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    machines = draw(st.integers(1, 12))
    held, free = [], machines
    for _ in range(draw(st.integers(0, 5))):
        if free:
            nodes = draw(st.integers(1, free))
            held.append((nodes, float(draw(st.integers(1, 50)))))
            free -= nodes
    limits = st.one_of(st.none(), st.integers(1, 60).map(float))
    asked = draw(st.lists(st.tuples(st.integers(1, machines), limits), min_size=1, max_size=12))
    return Case(machines, held, asked)


def begins(case: Case, pass_others: bool) -> dict[str, float]:
    """When each began, where all last as long as their limits; without ``pass_others`` nobody begins out of turn."""
    place = Place(case.machines, c=(0, case.machines))
    ends: list[tuple[float, str]] = []
    for number, (nodes, lasts_s) in enumerate(case.held):
        place.pool.hold(Holding(f"h{number}", "c", nodes, lasts_s))
        ends.append((lasts_s, f"h{number}"))
    place.see()
    for number, (nodes, limit_s) in enumerate(case.asked):
        place.ask(f"r{number}", nodes, limit_s)
    began: dict[str, float] = {}
    now = 0.0
    while True:
        while (start := place.pool.next(now)) and (pass_others or not start.out_of_turn):
            run = place.runs[start.run_id]
            place.pool.begin(start, now)
            place.see()
            began[run.run_id] = now
            ends.append((now + (run.limit_s or FOR_EVER), run.run_id))
            assert sum(h.nodes for h in place.pool.holding()) <= case.machines
        if not ends:
            return began
        ends.sort()
        now, ended = ends.pop(0)
        place.pool.end(ended)
        place.see()


@settings(max_examples=150, deadline=None)
@given(cases())
def test_passing_never_delays_the_first(case: Case) -> None:
    """Against the same line where nobody passes anybody."""
    passed, strict = begins(case, True), begins(case, False)
    assert passed.keys() == strict.keys() and len(passed) == len(case.asked)
    assert passed["r0"] == strict["r0"]
    assert list(strict.values()) == sorted(strict.values()) and list(strict) == [f"r{n}" for n in range(len(strict))]


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 4), st.floats(0.3, 3), st.floats(0, 1), st.floats(0, 0.2)
)
def test_whatever_comes_all_begin_in_turn_or_as_promised_and_nothing_is_left(
    seed: int, pools: int, clusters: int, load: float, limited: float, troubled: float
) -> None:
    """The simulation itself checks each decision: no machine twice, whole gangs, order, and promises to the first."""
    plan = Plan(
        200, 24, pools, clusters, load=load, limited=limited, canceled=troubled, lost=troubled, largest=1.0, seed=seed
    )
    told = Simulation(plan).run()
    assert told.started + told.canceled >= plan.runs


def test_a_long_simulation() -> None:
    told = Simulation(Plan(runs=4_000, machines=400)).run()
    assert told.out_of_turn > 100 and told.lost > 20 and told.canceled > 50 and told.longest_line > 300
