"""Thousands of random lives of an installation, each the same whenever its seed is (invariants I1 to I6).

``python tests/simulation/test_lives.py --seeds 1000000`` runs as many as you like; ``--seed N`` runs one.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from multiprocessing import get_context

import pytest
import sqlalchemy as sa
from simulated import Broken, run

from gpufn.store import invocation_tables  # noqa: F401 - registers its tables
from gpufn.store.tables import metadata

SEEDS = 10_000
PART = 250
"""Seeds that one process takes at a time."""


def connection() -> sa.Connection:
    """An empty database in memory, with every table."""
    engine = sa.create_engine("sqlite://", poolclass=sa.pool.StaticPool)
    metadata.create_all(engine)
    return engine.connect()


def simulate_all(seeds: int) -> Counter[str]:
    """As ``simulate``, for the first so many seeds, on every core."""
    cores = os.cpu_count() or 1
    parts = [range(first, min(first + PART, seeds)) for first in range(0, seeds, PART)]
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool:
        return sum(pool.map(simulate, parts), Counter[str]())


def simulate(seeds: range) -> Counter[str]:
    """Run them all; what happened in them. Raises Broken, with the seed."""
    seen: Counter[str] = Counter()
    with closing(connection()) as database:
        for seed in seeds:
            try:
                world = run(seed, database)
            except Exception as error:
                raise Broken(f"seed {seed}: {error!r}") from error
            seen["seeds"] += 1
            seen["accepted"] += len(world.ledger.accepted)
            seen["attempts"] += sum(world.ledger.started.values())
            seen["deliveries in doubt"] += len(world.ledger.doubted)
    return seen


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_accepted_request_ends_once() -> None:
    """Whatever is killed, frozen or broken, and whenever: accepted ends, once, for its account, within the bounds."""
    seen = simulate_all(SEEDS)
    print(dict(seen))
    assert seen["accepted"] > SEEDS
    assert seen["attempts"] > seen["accepted"]


def test_some_seeds_in_every_run() -> None:
    """The first hundred seeds hold."""
    assert simulate(range(100))["seeds"] == 100


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--seed", type=int)
    arguments = parser.parse_args()
    try:
        one = arguments.seed
        seen = simulate_all(arguments.seeds) if one is None else simulate(range(one, one + 1))
        print(dict(seen))
    except Broken:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
