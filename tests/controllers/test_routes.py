"""What gateways are told of a version."""

from __future__ import annotations

import pytest
from control_world import a_version, control

from gpufn.compute.fake import FakeBackend
from gpufn.model.function import RateLimit
from gpufn.wire.feed import ENVELOPE, Envelope, Route

pytestmark = [pytest.mark.looptime]


async def test_gateways_are_told_the_rate_limit() -> None:
    """The limit a version was given goes with its route, and reads the same at the other end of the feed."""
    limit = RateLimit(rate_limit="4-S, 5-H", exempted_nca_ids=("x",), per_nca_id_rate={"y": "3-M"}, sync_check=True)
    async with control(FakeBackend()) as world:
        await world.create(a_version(rate_limit=limit))
        await world.deploy()
        await world.until(world.routed)
        route = world.route()
    assert isinstance(route, Route)
    told = ENVELOPE.validate_json(Envelope(seq=1, message=route).model_dump_json(by_alias=True)).message
    assert isinstance(told, Route)
    assert told.rate_limit is not None
    assert told.rate_limit.to_model() == limit
