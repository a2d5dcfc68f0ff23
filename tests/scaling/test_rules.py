"""Rules of a specification's own, and the reference's worked examples (autoscaling page, sections 10 and 11)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from scaling_values import a_demand, a_spec

from gpufn.model.deployment import Autoscaling, GpuSpecification, ScalingRule, Stickiness
from gpufn.scaling.policy import Desired, Policy, decide
from gpufn.scaling.rules import QUEUE, RuleWatch, Seen, problem

UP, DOWN = ScalingRule(1.2, 70), ScalingRule(0.8, 30)
BOTH = Autoscaling(UP, DOWN)


def minutes(spec: GpuSpecification, used: Sequence[float], *, queued: int = 0) -> tuple[RuleWatch, float]:
    """A watch that has seen that use of the instances, in percent, for a minute each."""
    watch = RuleWatch(now=0)
    for n, percent in enumerate(used):
        whole = replace(spec, max_request_concurrency=100)
        watch.see(whole, Seen(1, round(percent)), queued=queued, now=n * 60)
    return watch, len(used) * 60.0


def decided(
    rules: Autoscaling, current: int, used: Sequence[float], *, needed: float = 5.0, queued: int = 0
) -> Desired:
    """What is decided for a specification that has ``current`` instances, all of them ready."""
    spec = a_spec("a", 0, 2000, desired=current, autoscaling=rules)
    watch, now = minutes(spec, used, queued=queued)
    (word,) = decide(
        [spec],
        a_demand(needed),
        seen={spec.id: Seen(current, 0)},
        watches={spec.id: watch},
        now=now,
        policy=Policy(),
    )
    return word


@pytest.mark.parametrize(
    ("current", "used", "count"),
    [
        (10, (95, 98, 92), 12),
        (10, (25, 20, 28), 8),
        (1, (90,), 2),
        (2, (5, 6, 4), 1),
        (1, (5,), 1),
        (10, (90, 90, 5), 8),
        (1000, (90,), 1200),
        (1000, (5,), 800),
    ],
)
def test_the_worked_examples(current: int, used: tuple[float, ...], count: int) -> None:
    """The factor of the direction whose threshold the latest minute has crossed applies to what runs."""
    word = decided(BOTH, current, used)
    assert (word.count, word.stepped) == (count, count != current)


@pytest.mark.parametrize("used", [70, 30])
def test_row_3_exactly_at_a_threshold(used: float) -> None:
    """A value of exactly the threshold changes nothing."""
    assert decided(BOTH, 10, (used,)).count == 10


@pytest.mark.parametrize(
    ("rules", "current", "used", "count"),
    [
        (Autoscaling(ScalingRule(2.0, 70), DOWN), 10, 90, 20),
        (Autoscaling(UP, ScalingRule(0.5, 30)), 10, 5, 5),
        (Autoscaling(UP, ScalingRule(0.5, 30)), 3, 5, 1),
    ],
)
def test_row_5_factors(rules: Autoscaling, current: int, used: float, count: int) -> None:
    """Up rounds up, down rounds down, and never below one."""
    assert decided(rules, current, (used,)).count == count


def test_row_10_stickiness() -> None:
    """Three of the last five minutes above the threshold fire, two do not."""
    sticky = Stickiness(timedelta(minutes=5), timedelta(minutes=3))
    rules = Autoscaling(ScalingRule(1.5, 20, None, sticky), ScalingRule(0.5, 1))
    assert decided(rules, 10, (25, 30, 28, 35, 22)).count == 15
    assert decided(rules, 10, (25, 15, 12, 18, 22)).count == 10


def test_row_11_stickiness_looks_at_the_tail() -> None:
    """What lies before the window of the stickiness does not count."""
    sticky = Stickiness(timedelta(minutes=2), timedelta(minutes=1))
    rules = Autoscaling(ScalingRule(1.5, 20, None, sticky), None)
    assert decided(rules, 10, (90, 90, 5, 5), needed=1).count != 15


def test_row_19_rules_that_cannot_be_followed() -> None:
    """Thresholds that cross, or a metric there is not, are not followed: the load is, and the reason says so."""
    crossed = Autoscaling(ScalingRule(1.2, 30), ScalingRule(0.8, 70))
    unknown = Autoscaling(ScalingRule(1.2, 30, "phase_of_the_moon"), None)
    assert problem(BOTH) is None
    for rules in (crossed, unknown):
        word = decided(rules, 10, (90,), needed=5)
        assert word.count == 5
        assert "not followed" in word.reason


def test_a_direction_without_a_rule_follows_the_load() -> None:
    """With a rule for up alone, instances go when the load has gone; with one for down alone they come with it."""
    assert decided(Autoscaling(UP, None), 10, (50,), needed=4).count == 4
    assert decided(Autoscaling(UP, None), 10, (50,), needed=14).count == 10
    assert decided(Autoscaling(None, DOWN), 10, (50,), needed=14).count == 14
    assert decided(Autoscaling(None, DOWN), 10, (50,), needed=4).count == 10


def test_the_metric_of_a_rule() -> None:
    """A rule on the queue compares the requests that wait per running instance."""
    assert decided(Autoscaling(ScalingRule(1.5, 2, QUEUE), None), 4, (0,), queued=3, needed=4).count == 6
    assert decided(Autoscaling(ScalingRule(1.5, 3, QUEUE), None), 4, (0,), queued=3, needed=4).count == 4


def test_a_step_waits_for_its_effect() -> None:
    """Steps are 15 seconds apart; another step up counts what runs, so that what still starts is not multiplied."""
    spec = a_spec("a", 0, 99, desired=12, autoscaling=BOTH)
    watch, now = minutes(spec, (95,))
    watch.stepped_at = now - 14
    few = {spec.id: Seen(10, 0)}
    words = []
    for later in (now, now + 1):
        words += decide([spec], a_demand(12), seen=few, watches={spec.id: watch}, now=later, policy=Policy())
    assert [w.count for w in words] == [12, 12]
    assert [w.stepped for w in words] == [False, False]


def test_rules_keep_to_the_bounds_and_to_zero() -> None:
    """No factor leads beyond the maximum or below the minimum; idle long enough there is none, asked for again one."""
    spec = a_spec("a", 3, 11, desired=10, autoscaling=BOTH)
    watch, now = minutes(spec, (95,))
    seen = {spec.id: Seen(10, 0)}
    assert decide([spec], a_demand(5), seen=seen, watches={spec.id: watch}, now=now, policy=Policy())[0].count == 11
    zero = a_spec("a", 0, 11, desired=1, autoscaling=BOTH)
    quiet, now = minutes(zero, (0, 0, 0, 0, 0))
    none = {zero.id: Seen(1, 0)}
    idle = a_demand(idle=300)
    assert decide([zero], idle, seen=none, watches={zero.id: quiet}, now=now, policy=Policy())[0].count == 0
    asleep = replace(zero, desired=0)
    nothing = {zero.id: Seen(0, 0)}
    woken = decide([asleep], a_demand(1), seen=nothing, watches={zero.id: quiet}, now=now, policy=Policy())
    assert woken[0].count == 1
