"""The loads that scalers are compared on. Arrivals are random with a fixed seed: every run sees the same ones."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from scaling_world import Request, Scenario

SERVICE = 4.0
"""Seconds that a request takes on average: a model that generates something."""


def arrivals(
    rate: Callable[[float], float], seconds: float, *, most: float, seed: int, service: float = SERVICE
) -> list[Request]:
    """A Poisson process whose rate at a time is ``rate(time)`` per second, never above ``most``."""
    random_ = random.Random(seed)
    found: list[Request] = []
    now = 0.0
    while True:
        now += random_.expovariate(most)
        if now >= seconds:
            return found
        if random_.random() * most < rate(now):
            found.append(Request(now, service * random_.uniform(0.5, 1.5)))


def step() -> Scenario:
    """From nothing to ten busy instances at once, for half an hour; then nothing."""
    return Scenario("step", arrivals(lambda t: 2.5 if 300 <= t < 2100 else 0.0, 3600, most=2.5, seed=1), 4500)


def ramp() -> Scenario:
    """Evenly from nothing to twelve busy instances within twenty minutes, and back."""

    def rate(t: float) -> float:
        return 3.0 * max(0.0, 1 - abs(t - 1500) / 1200)

    return Scenario("ramp", arrivals(rate, 3600, most=3.0, seed=2), 4500)


def burst() -> Scenario:
    """Two busy instances, and every ten minutes sixty requests more within ten seconds."""

    def rate(t: float) -> float:
        return 0.5 + (6.0 if t % 600 < 10 and t >= 600 else 0.0)

    return Scenario("burst", arrivals(rate, 5400, most=6.5, seed=3), 5400)


def diurnal() -> Scenario:
    """A day in three hours: a quiet night, a busy noon of ten instances."""

    def rate(t: float) -> float:
        return 1.25 * (1 - math.cos(2 * math.pi * t / 10800))

    return Scenario("diurnal", arrivals(rate, 10800, most=2.5, seed=4), 10800)


def on_off() -> Scenario:
    """Five minutes of six busy instances, then ten minutes of silence, over and over."""
    return Scenario("on-off", arrivals(lambda t: 1.5 if t % 900 < 300 else 0.0, 7200, most=1.5, seed=5), 7200)


ALL: tuple[Callable[[], Scenario], ...] = (step, ramp, burst, diurnal, on_off)
