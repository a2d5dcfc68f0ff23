"""Rate limits as they are written: ``4-S, 5-H`` (control-plane page, section 11)."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from gpufn.model.function import RateLimit
from gpufn.wire.base import Wire

MAX_ENTRIES = 32

_ONE = re.compile(r"[1-9]\d{0,17}-([A-Z])")


def check_rates(text: str, *, units: str = "SMHD") -> str:
    """``text``, if it is a comma-separated list of ``<n>-<unit>`` with each unit at most once; else ValueError."""
    seen: set[str] = set()
    for position, part in enumerate(text.split(",")):
        found = _ONE.fullmatch(part.lstrip() if position else part)
        if found is None or found[1] not in units or found[1] in seen:
            raise ValueError(f"must be like '4-S, 5-H': a count and a unit of {', '.join(units)}, each unit once")
        seen.add(found[1])
    return text


Rates = Annotated[str, Field(max_length=256), AfterValidator(check_rates)]


class RateLimitDto(Wire):
    """``rateLimit`` of a version, in requests and answers."""

    rate_limit: Rates | None = None
    exempted_nca_ids: Annotated[tuple[str, ...], Field(max_length=MAX_ENTRIES)] | None = None
    per_nca_id_rate: Annotated[dict[str, Rates], Field(max_length=MAX_ENTRIES)] | None = None
    sync_check: bool | None = None
    per_user_rate: Rates | None = None

    @model_validator(mode="after")
    def _consistent(self) -> RateLimitDto:
        if not (self.rate_limit or self.per_nca_id_rate or self.per_user_rate):
            raise ValueError("at least one of rateLimit, perNcaIdRate, perUserRate must be given")
        if self.exempted_nca_ids and not self.rate_limit:
            raise ValueError("exemptedNcaIds needs rateLimit")
        both = set(self.exempted_nca_ids or ()) & set(self.per_nca_id_rate or {})
        if both:
            raise ValueError(f"{', '.join(sorted(both))}: in exemptedNcaIds and in perNcaIdRate")
        return self

    def to_model(self) -> RateLimit:
        return RateLimit(
            rate_limit=self.rate_limit,
            exempted_nca_ids=self.exempted_nca_ids,
            per_nca_id_rate=self.per_nca_id_rate,
            sync_check=self.sync_check,
            per_user_rate=self.per_user_rate,
        )

    @staticmethod
    def of(limit: RateLimit) -> RateLimitDto:
        """As it was stored; it was checked when it came."""
        return RateLimitDto.model_construct(
            rate_limit=limit.rate_limit,
            exempted_nca_ids=limit.exempted_nca_ids,
            per_nca_id_rate=limit.per_nca_id_rate,
            sync_check=limit.sync_check,
            per_user_rate=limit.per_user_rate,
        )
