"""Rate limits: windows, tiers, exemptions, and what clients see of them (invocation-plane page, section 17)."""

from __future__ import annotations

import json
import math

from gateway_world import PEXEC, PINNED, a_key, a_world
from hypothesis import given, settings, strategies as st

from gpufn.gateway.limits import Limits, Policy, rates
from gpufn.model.access import Principal
from gpufn.model.ids import AccountId
from gpufn.wire.rates import RateLimitDto

EXACT = {"sync_check": True}


def a_caller(account: str = "a", subject: str = "s") -> Principal:
    return Principal(AccountId(account), subject, frozenset(), ())


def a_policy(**limit: object) -> Policy:
    return Policy(RateLimitDto.model_validate(EXACT | limit))


def allowed(limits: Limits, policy: Policy, now: float, *, caller: Principal | None = None, version: str = "v") -> bool:
    verdict = limits.check(policy, caller or a_caller(), version, now)
    return verdict is None or verdict.allowed


def test_each_unit_is_its_length() -> None:
    """S, M, H and D are a second, a minute, an hour and a day; blanks do not matter."""
    assert [(r.most, r.seconds) for r in rates("10-S, 300-M,4-H,  5-D")] == [
        (10, 1.0), (300, 60.0), (4, 3600.0), (5, 86400.0),
    ]  # fmt: skip
    assert rates(None) == ()


def test_the_sixth_of_five_a_second_is_denied_and_every_window_counts() -> None:
    """``5-S,300-H`` and six calls: the sixth is denied, and both counters advanced (conformance 78)."""
    limits, policy = Limits(), a_policy(rate_limit="5-S,300-H")
    assert [allowed(limits, policy, 0.1 * n) for n in range(6)] == [True] * 5 + [False]
    verdict = limits.check(policy, a_caller(), "v", 2.0)
    assert verdict is not None
    assert (verdict.allowed, verdict.used, verdict.rate.text) == (True, 1, "5-S")
    assert repr(limits) == "<Limits counters=2 marked=1>"
    hour = a_policy(rate_limit="8-H")
    assert [allowed(Limits(), hour, 0.0)] == [True]


def test_a_window_begins_with_its_first_call() -> None:
    """A window is not aligned to the clock: it ends its length after the first call counted in it."""
    limits, policy = Limits(), a_policy(rate_limit="1-M")
    assert allowed(limits, policy, 59.0)
    assert not allowed(limits, policy, 118.9)
    assert allowed(limits, policy, 119.0)


def test_accounts_versions_and_exemptions_are_apart() -> None:
    """Every account and version has its own counter; one account may be exempt, another have its own rate."""
    limits = Limits()
    policy = a_policy(rate_limit="1-H", exempted_nca_ids=["free"], per_nca_id_rate={"big": "2-H"})
    assert [allowed(limits, policy, 0) for _ in range(2)] == [True, False]
    assert allowed(limits, policy, 0, version="other")
    assert allowed(limits, policy, 0, caller=a_caller("b"))
    assert all(allowed(limits, policy, 0, caller=a_caller("free")) for _ in range(9))
    assert [allowed(limits, policy, 0, caller=a_caller("big")) for _ in range(3)] == [True, True, False]


def test_a_caller_has_its_own_rate_beside_its_account() -> None:
    """``perUserRate`` holds for each caller in addition; a caller it denies does not use up the account's rate."""
    limits, policy = Limits(), a_policy(rate_limit="3-H", per_user_rate="1-H")
    one, two, three = (a_caller(subject=name) for name in "123")
    assert [allowed(limits, policy, 0, caller=c) for c in (one, one, one, two, three)] == [
        True, False, False, True, True,
    ]  # fmt: skip
    assert not allowed(limits, policy, 0, caller=a_caller(subject="4"))


def test_without_sync_check_the_first_call_above_the_rate_passes() -> None:
    """Then the caller is checked exactly for a minute, and each denial renews it (conformance 73)."""
    limits, policy = Limits(), a_policy(rate_limit="1-S", sync_check=False)
    assert [allowed(limits, policy, t) for t in (0, 0.1, 0.2, 0.3)] == [True, True, False, False]
    assert [allowed(limits, policy, t) for t in (50.0, 50.1)] == [True, False]
    assert [allowed(limits, policy, t) for t in (105.0, 105.1)] == [True, False]
    assert [allowed(limits, policy, t) for t in (200.0, 200.1, 200.2)] == [True, True, False]


@given(st.integers(1, 5), st.lists(st.floats(0, 3), max_size=60))
@settings(max_examples=200, deadline=None)
def test_no_window_lets_more_through_than_its_rate(count: int, gaps: list[float]) -> None:
    """Whatever the pattern of calls, between two beginnings of a window at most ``count`` pass, and all that may do."""
    limits, policy, now = Limits(), a_policy(rate_limit=f"{count}-S"), 0.0
    end, passed = -math.inf, 0
    for gap in gaps:
        now += gap
        if now >= end:
            end, passed = now + 1.0, 0
        assert allowed(limits, policy, now) == (passed < count)
        passed += 1


async def test_a_call_above_the_rate_is_429_with_the_way_out() -> None:
    """The answer tells the rate and when to come back; the headers count down; other versions are not concerned."""
    async with a_world() as world:
        limit = RateLimitDto.model_validate({"rateLimit": "2-H", "syncCheck": True})
        await world.deploy(await world.instance(), rate_limit=limit)
        first, second = await world.call("POST", PINNED), await world.call("POST", PEXEC)
        assert [f["ratelimit-remaining"] for f in (first, second)] == ["1", "0"]
        assert (first["ratelimit-limit"], first["ratelimit-reset"]) == ("2", "3600")
        third = await world.call("POST", PINNED, {"Origin": "http://localhost"})
        assert (third.status, third["content-type"]) == (429, "application/problem+json")
        assert (third["retry-after"], third["ratelimit-remaining"]) == ("3600", "0")
        assert third["access-control-allow-origin"] == "http://localhost"
        assert "nvcf-reqid" not in third
        detail = json.loads(third.body)["detail"]
        assert detail == "exceeded rate limit 2-H of account 'nvcf-default' for this function; retry in 3600 s"
        assert len(world.servers[0].seen) == 2


async def test_a_limit_that_changes_holds_at_once() -> None:
    """Setting and lifting a limit needs no redeployment, and a direct call is counted like any other."""
    async with a_world() as world:
        server = await world.instance()
        strict = RateLimitDto.model_validate({"perUserRate": "1-D", "syncCheck": True})
        await world.deploy(server, rate_limit=strict)
        host = {"Host": f"{PEXEC.rpartition('/')[2]}.localhost"}
        assert [(await world.call("GET", "/x", host)).status for _ in range(2)] == [200, 429]
        world.control.publish("other", a_key("nvapi-other", owner="another"))
        await world.settled()
        assert (await world.call("GET", "/x", host | {"Authorization": "Bearer nvapi-other"})).status == 200
        await world.deploy(server)
        lifted = await world.call("GET", "/x", host)
        assert (lifted.status, "ratelimit-limit" in lifted) == (200, False)
