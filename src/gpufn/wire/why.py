"""Answers to "why". gpufn's own; control and gateways give them in this one shape."""

from __future__ import annotations

from gpufn.model.why import Explanation
from gpufn.wire.base import Wire
from gpufn.wire.events import EventDto


class FactDto(Wire):
    """One thing that the sentence rests on."""

    name: str
    value: str


class WhyResponse(Wire):
    """``kind`` is function, deployment, instance, request or task; ``log`` the last lines of one that failed."""

    kind: str
    id: str
    sentence: str
    facts: tuple[FactDto, ...] = ()
    events: tuple[EventDto, ...] = ()
    log: tuple[str, ...] = ()

    @staticmethod
    def of(kind: str, id: str, explanation: Explanation) -> WhyResponse:
        facts = tuple(FactDto(name=name, value=value) for name, value in explanation.facts)
        return WhyResponse(kind=kind, id=id, sentence=explanation.sentence, facts=facts)
