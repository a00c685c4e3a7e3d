"""The arena planner, by property: buffers that live together never overlap, and the arena is no larger than it must be."""

from hypothesis import given
from hypothesis import strategies as st

from infc.plan.memory import ALIGN, Lifetime, align, plan_arena

lifetimes = st.lists(
    st.tuples(st.integers(0, 5000), st.integers(0, 12), st.integers(0, 12)).map(lambda t: (t[0], min(t[1:]), max(t[1:]))),
    max_size=14,
).map(lambda rows: [Lifetime(f"b{i}", size, first, last) for i, (size, first, last) in enumerate(rows)])


@given(lifetimes)
def test_live_buffers_never_overlap(lives: list[Lifetime]) -> None:
    plan = plan_arena(lives)
    for i, a in enumerate(lives):
        start = plan.offset(a.name)
        assert start % ALIGN == 0
        assert start + a.size <= plan.size
        for b in lives[:i]:
            if a.overlaps(b) and a.size and b.size:
                other = plan.offset(b.name)
                assert start + a.size <= other or other + b.size <= start


@given(lifetimes)
def test_size_is_between_the_peak_and_the_sum(lives: list[Lifetime]) -> None:
    plan = plan_arena(lives)
    peak = max((sum(align(x.size) for x in lives if x.first <= t <= x.last) for t in range(13)), default=0)
    assert peak <= plan.size <= sum(align(x.size) for x in lives)


@given(lifetimes)
def test_plan_is_a_function_of_its_input(lives: list[Lifetime]) -> None:
    assert plan_arena(lives) == plan_arena(list(lives))


def test_disjoint_buffers_share() -> None:
    plan = plan_arena([Lifetime("a", 100, 0, 1), Lifetime("b", 128, 2, 3)])
    assert plan.size == 128
    assert plan.offset("a") == plan.offset("b") == 0
