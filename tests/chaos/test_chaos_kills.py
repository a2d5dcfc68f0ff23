"""The short form of the command that kills processes under load; run it by hand for the long form."""

from __future__ import annotations

import random

import b1_kills
import pytest


@pytest.mark.e2e
@pytest.mark.timeout(600)
def test_no_accepted_request_is_lost_to_a_kill() -> None:
    """B1: gateway, control, an instance and everything are killed under load; every accepted id ends in its result."""
    assert b1_kills.main(4, random.randrange(2**32)) == 0
