"""Custom autoscaling of a GPU specification (control-plane page, section 8.5)."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from functools import partial
from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from gpufn.model.deployment import Autoscaling, ScalingRule, Stickiness
from gpufn.wire.base import Wire
from gpufn.wire.scalars import Duration, Int, member, names_of

SHORTEST_IDLE, LONGEST_IDLE = timedelta(seconds=1), timedelta(days=7)


class AutoscalingPolicy(StrEnum):
    """Whose rules scale a specification."""

    CUSTOM_CONFIGURATION = "CUSTOM_CONFIGURATION"
    PLATFORM_CONFIGURATION = "PLATFORM_CONFIGURATION"


AnyAutoscalingPolicy = Annotated[
    AutoscalingPolicy, BeforeValidator(partial(member, AutoscalingPolicy)), names_of(AutoscalingPolicy)
]


class StickinessWindow(Wire):
    """How long a signal must last: ``threshold`` within ``size``, which is at most an hour."""

    size: Duration
    threshold: Duration

    @model_validator(mode="after")
    def _ordered(self) -> StickinessWindow:
        if self.size > timedelta(hours=1):
            raise ValueError("size must be at most PT1H")
        if self.threshold >= self.size:
            raise ValueError("threshold must be shorter than size")
        return self


class ScalingDetails(Wire):
    """One direction."""

    metric: str | None = Field(None, max_length=128)
    factor: float = Field(gt=0, le=1e6)
    threshold: Annotated[Int, Field(ge=0)]
    stickiness: StickinessWindow | None = None

    def to_model(self) -> ScalingRule:
        sticky = self.stickiness
        return ScalingRule(
            self.factor, self.threshold, self.metric, Stickiness(sticky.size, sticky.threshold) if sticky else None
        )

    @staticmethod
    def of(rule: ScalingRule) -> ScalingDetails:
        sticky = rule.stickiness
        return ScalingDetails(
            metric=rule.metric,
            factor=rule.factor,
            threshold=rule.threshold,
            stickiness=StickinessWindow(size=sticky.size, threshold=sticky.threshold) if sticky else None,
        )


class AutoscalingConfigurationDto(Wire):
    """Every member is optional. Up multiplies by more than 1, down by less.

    ``scaleToZeroIdleTimeout`` is gpufn's own member: NVCF has one idle time for the whole platform (autoscaling page,
    section 6).
    """

    scale_up_details: ScalingDetails | None = None
    scale_down_details: ScalingDetails | None = None
    scale_to_zero_idle_timeout: Duration | None = None

    @model_validator(mode="after")
    def _directions(self) -> AutoscalingConfigurationDto:
        if self.scale_up_details is not None and self.scale_up_details.factor <= 1:
            raise ValueError("scaleUpDetails.factor must be greater than 1.0")
        if self.scale_down_details is not None and self.scale_down_details.factor >= 1:
            raise ValueError("scaleDownDetails.factor must be less than 1.0")
        idle = self.scale_to_zero_idle_timeout
        if idle is not None and not SHORTEST_IDLE <= idle <= LONGEST_IDLE:
            raise ValueError("scaleToZeroIdleTimeout must be from PT1S to P7D")
        return self

    def to_model(self) -> Autoscaling:
        up, down = self.scale_up_details, self.scale_down_details
        return Autoscaling(
            up.to_model() if up else None, down.to_model() if down else None, self.scale_to_zero_idle_timeout
        )

    @staticmethod
    def of(autoscaling: Autoscaling) -> AutoscalingConfigurationDto:
        up, down = autoscaling.scale_up, autoscaling.scale_down
        return AutoscalingConfigurationDto(
            scale_up_details=ScalingDetails.of(up) if up else None,
            scale_down_details=ScalingDetails.of(down) if down else None,
            scale_to_zero_idle_timeout=autoscaling.idle_timeout,
        )
