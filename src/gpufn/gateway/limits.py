"""How often a version may be called: rates per account and per caller (invocation-plane page, section 17).

Windows are fixed and begin with the first call counted in them; refused calls count as well. Like the reference, a
version without ``syncCheck`` lets the first call above a rate pass, and is exact for that caller in the next minute.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from math import ceil
from typing import NamedTuple, TypeAlias

from gpufn.gateway.problems import Reply, problem
from gpufn.model.access import Principal
from gpufn.wire.rates import RateLimitDto

SECONDS = {"S": 1.0, "M": 60.0, "H": 3600.0, "D": 86400.0}
MARKED_SECONDS = 60.0
"""How long a caller that went above a rate is checked exactly (section 17.3)."""
COUNTERS_MAX = 100_000
"""Counters kept; beyond that the ones unused for longest go, and begin anew."""
Key: TypeAlias = tuple[str, ...]


class Rate(NamedTuple):
    """At most ``most`` calls in ``seconds``. ``text`` is how it was written."""

    most: int
    seconds: float
    text: str


class Tier(NamedTuple):
    """Rates that hold together, counted under ``key``. ``whose`` says so in a refusal."""

    key: Key
    rates: tuple[Rate, ...]
    whose: str


@dataclass(frozen=True)
class Verdict:
    """``allowed``, and the state of the rate that is nearest to its end. ``reset`` in seconds from now."""

    allowed: bool
    rate: Rate
    used: int
    reset: float
    whose: str

    @property
    def lines(self) -> tuple[bytes, ...]:
        """The ``RateLimit-*`` header lines (draft-ietf-httpapi-ratelimit-headers-07)."""
        return (
            b"ratelimit-limit: %d" % self.rate.most,
            b"ratelimit-remaining: %d" % max(self.rate.most - self.used, 0),
            b"ratelimit-reset: %d" % ceil(self.reset),
        )


class Policy:
    """The rate limit of one version, read once."""

    def __init__(self, limit: RateLimitDto) -> None:
        self.exact = bool(limit.sync_check)
        self._everyone = rates(limit.rate_limit)
        self._exempted = frozenset(limit.exempted_nca_ids or ())
        self._accounts = {nca_id: rates(text) for nca_id, text in (limit.per_nca_id_rate or {}).items()}
        self._user = rates(limit.per_user_rate)

    def tiers(self, caller: Principal, version_id: str) -> list[Tier]:
        """What holds for ``caller``, in the order it is checked: the caller itself, then its account."""
        account, found = caller.nca_id, []
        if self._user and caller.subject:
            found.append(Tier(("user", caller.subject, account, version_id), self._user, "this caller"))
        own = self._accounts.get(account)
        if own is None:
            own = () if account in self._exempted else self._everyone
        if own:
            found.append(Tier((account, version_id), own, f"account '{account}'"))
        return found


class Limits:
    """The counters of one gateway. Times are those of the running loop."""

    def __init__(self) -> None:
        self._windows: OrderedDict[Key, tuple[float, int]] = OrderedDict()
        """(end, count) by tier and rate."""
        self._marks: OrderedDict[Key, float] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Limits counters={len(self._windows)} marked={len(self._marks)}>"

    def check(self, policy: Policy, caller: Principal, version_id: str, now: float) -> Verdict | None:
        """Count one call. None when no rate holds for ``caller``."""
        verdict: Verdict | None = None
        for tier in policy.tiers(caller, version_id):
            found = self._count(tier, now)
            if verdict is None or found.rate.most - found.used < verdict.rate.most - verdict.used:
                verdict = found
            if not found.allowed:
                return self._denied(found, policy, (caller.subject, caller.nca_id, version_id), now)
        return verdict

    def _count(self, tier: Tier, now: float) -> Verdict:
        """Count in every window of ``tier``; the verdict is about the one that is nearest to its end."""
        verdicts = []
        for rate in tier.rates:
            key = (*tier.key, rate.text)
            end, used = self._windows.pop(key, (0.0, 0))
            if end <= now:
                end, used = now + rate.seconds, 0
            self._windows[key] = end, used + 1
            left = min(end - now, rate.seconds)  # the sum and difference of floats may be a little more
            verdicts.append(Verdict(used < rate.most, rate, used + 1, left, tier.whose))
        while len(self._windows) > COUNTERS_MAX:
            self._windows.popitem(last=False)
        refusing = [v for v in verdicts if not v.allowed]
        if refusing:
            return max(refusing, key=lambda v: v.reset)
        return min(verdicts, key=lambda v: v.rate.most - v.used)

    def _denied(self, verdict: Verdict, policy: Policy, mark: Key, now: float) -> Verdict:
        marked = self._marks.pop(mark, 0.0) > now
        self._marks[mark] = now + MARKED_SECONDS
        while len(self._marks) > COUNTERS_MAX:
            self._marks.popitem(last=False)
        if policy.exact or marked:
            return verdict
        return replace(verdict, allowed=True)


def rates(text: str | None) -> tuple[Rate, ...]:
    """Read ``10-S, 300-M``; it was checked when it was stored. Nothing for None."""
    found = []
    for part in (text or "").split(","):
        count, _, unit = part.strip().partition("-")
        if unit in SECONDS and count.isdigit():
            found.append(Rate(int(count), SECONDS[unit], f"{count}-{unit}"))
    return tuple(found)


def too_often(verdict: Verdict) -> Reply:
    """The refusal of a call above its rate."""
    wait = max(ceil(verdict.reset), 1)
    detail = f"exceeded rate limit {verdict.rate.text} of {verdict.whose} for this function; retry in {wait} s"
    return problem(429, detail, b"retry-after: %d" % wait, *verdict.lines)
