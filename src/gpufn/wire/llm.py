"""What only LLM functions carry: how a model is routed, limited and prioritised (control-plane page, section 12)."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from gpufn.model.errors import Invalid
from gpufn.model.function import Artifact
from gpufn.wire.base import Wire
from gpufn.wire.rates import check_rates

ROUTING_METHODS = frozenset(
    {
        "power-of-two",
        "wait-and-widen",
        "round-robin",
        "random",
        "pulsar",
        "pulsar-wait-and-widen",
        "groq-multiregion",
        "pulsar-multiregion",
    }
)
MAX_OVERRIDES = 64


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number")  # pydantic reports a ValueError, not a TypeError
    return value


Priority = Annotated[int, BeforeValidator(_no_bool), Field(ge=0, le=4_294_967_295)]


class LlmConfigDto(Wire):
    """``models[].llmConfig``. Kept and returned as given."""

    uris: tuple[str, ...] = ()
    token_rate_limit: str | None = None
    tokenizer: str | None = None
    routing_method: str | None = None

    def check(self, model: str) -> None:
        """Raises Invalid naming the member and the model."""
        if not self.uris:
            raise Invalid(f"llmConfig.uris: model '{model}' needs at least one")
        _check_limit_and_routing(model, self.token_rate_limit, self.routing_method)


class LlmConfigUpdateDto(Wire):
    """What may change about ``llmConfig``; what is left out stays."""

    token_rate_limit: str | None = None
    routing_method: str | None = None

    def check(self, model: str) -> None:
        """Raises Invalid naming the member and the model."""
        if self.token_rate_limit is None and self.routing_method is None:
            raise Invalid(
                f"modelUpdates: model '{model}': llmConfig needs at least one of tokenRateLimit, routingMethod"
            )
        _check_limit_and_routing(model, self.token_rate_limit, self.routing_method)


def _check_limit_and_routing(model: str, limit: str | None, routing: str | None) -> None:
    if limit and limit.strip():
        try:
            check_rates(limit, units="SMHDW")
        except ValueError as error:
            raise Invalid(f"llmConfig.tokenRateLimit: model '{model}': '{limit[:256]}' {error}") from error
    if routing and not is_routing_method(routing):
        raise Invalid(
            f"llmConfig.routingMethod: model '{model}': '{routing[:256]}' must be one of "
            + ", ".join(sorted(ROUTING_METHODS))
        )


class PriorityDto(Wire):
    """0 is the highest priority."""

    default_priority: Priority | None = None
    per_account_priority: Annotated[dict[str, Priority], Field(max_length=MAX_OVERRIDES)] | None = None

    @model_validator(mode="after")
    def _default_with_overrides(self) -> PriorityDto:
        if self.per_account_priority and self.default_priority is None:
            raise ValueError("defaultPriority must be given with perAccountPriority")
        return self


class LlmInvocationConfigDto(Wire):
    """``llmInvocationConfig`` of a version."""

    priority: PriorityDto | None = None

    def to_model(self) -> dict[str, Any]:
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def is_routing_method(text: str) -> bool:
    """Whether ``text`` names a routing method; blank does too, ``_`` is ``-``, case does not matter."""
    name = text.strip().lower().replace("_", "-")
    return not name or name in ROUTING_METHODS


def check_same_kind(models: tuple[Artifact, ...], siblings: tuple[Artifact, ...]) -> None:
    """What a new version of an LLM function may not change about a model it shares with the older ones."""
    before = {m.name: m.llm or {} for m in siblings}
    for model in models:
        if model.name not in before or model.llm is None:
            continue
        for member in ("uris", "tokenizer"):
            if model.llm.get(member) != before[model.name].get(member):
                raise Invalid(
                    f"llmConfig.{member}: model '{model.name}' must keep {before[model.name].get(member)!r} in every "
                    "version of the function"
                )
