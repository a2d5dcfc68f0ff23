"""Events as clients see them. gpufn's own."""

from __future__ import annotations

from gpufn.model.event import Event
from gpufn.wire.base import Wire
from gpufn.wire.scalars import Timestamp


class EventDto(Wire):
    """One thing that happened. ``eventId`` ascends; ``warning``: it is bad news."""

    event_id: int
    at: Timestamp
    kind: str
    message: str
    warning: bool
    function_id: str
    function_version_id: str
    deployment_id: str | None = None
    instance_id: str | None = None

    @staticmethod
    def of(event: Event) -> EventDto:
        return EventDto(
            event_id=event.id,
            at=event.at,
            kind=event.kind.value,
            message=event.message,
            warning=event.is_warning,
            function_id=event.function_id,
            function_version_id=event.version_id,
            deployment_id=event.deployment_id,
            instance_id=event.instance_id,
        )


class EventsResponse(Wire):
    """Events, oldest first."""

    events: tuple[EventDto, ...]
