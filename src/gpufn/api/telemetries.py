"""Telemetry endpoints (control-plane page, section 16): kept, checked and given to functions; their secrets sealed."""

from __future__ import annotations

from fastapi import Response

from gpufn.api.context import Ctx
from gpufn.api.parameters import TelemetryIdPath
from gpufn.api.security import Caller
from gpufn.api.views import account_of
from gpufn.model.errors import Invalid, NotFound
from gpufn.model.ids import TelemetryId, new_id
from gpufn.model.secret import telemetry_place
from gpufn.model.telemetry import Telemetry, TelemetryChoice
from gpufn.store import secrets, telemetries
from gpufn.store.database import Transaction
from gpufn.wire.telemetries import (
    CreateTelemetryRequest,
    ListTelemetriesResponse,
    TelemetryDto,
    TelemetryResponse,
    UpdateTelemetrySecretRequest,
)


async def create_telemetry(caller: Caller, context: Ctx, *, body: CreateTelemetryRequest) -> TelemetryResponse:
    """Add an endpoint to the account."""
    telemetry = Telemetry(
        id=TelemetryId(new_id()),
        nca_id=caller.nca_id,
        name=body.secret.name,
        endpoint=body.endpoint,
        protocol=body.protocol,
        provider=body.provider,
        types=tuple(dict.fromkeys(body.types)),
        created_at=context.now(),
    )

    def write(tx: Transaction) -> None:
        there = telemetries.of_account(tx, caller.nca_id)
        if any(t.name == telemetry.name for t in there):
            raise Invalid(f"secret.name: there is a telemetry '{telemetry.name}' already; choose another name")
        limit = account_of(tx, caller).max_telemetries
        if len(there) >= limit:
            raise Invalid(f"Reached or exceeded the max limit for the number of telemetries allowed: {limit}")
        telemetries.insert(tx, telemetry)
        secrets.put(tx, [context.keyring.seal(telemetry_place(caller.nca_id, telemetry.id), body.secret.to_model())])

    await context.db.run(write)
    return TelemetryResponse(telemetry=TelemetryDto.of(telemetry))


async def list_telemetries(caller: Caller, context: Ctx) -> ListTelemetriesResponse:
    """Every endpoint of the account."""
    found = await context.db.run(lambda tx: telemetries.of_account(tx, caller.nca_id))
    return ListTelemetriesResponse(telemetries=tuple(TelemetryDto.of(t) for t in found))


async def get_telemetry(caller: Caller, context: Ctx, *, telemetry_id: TelemetryIdPath) -> TelemetryResponse:
    """One endpoint."""
    found = await context.db.run(lambda tx: telemetries.get(tx, caller.nca_id, telemetry_id))
    return TelemetryResponse(telemetry=TelemetryDto.of(found))


async def delete_telemetry(caller: Caller, context: Ctx, *, telemetry_id: TelemetryIdPath) -> Response:
    """Remove an endpoint that no version uses."""

    def write(tx: Transaction) -> None:
        telemetry = telemetries.get(tx, caller.nca_id, telemetry_id)
        users = telemetries.users_of(tx, telemetry_id)
        if users:
            raise Invalid(f"telemetry '{telemetry.name}' is used by function version {users[0]}; delete that first")
        secrets.delete(tx, telemetry_place(caller.nca_id, telemetry_id))
        telemetries.delete(tx, telemetry_id)

    await context.db.run(write)
    return Response(status_code=204)


async def update_telemetry_secret(
    caller: Caller, context: Ctx, *, telemetry_id: TelemetryIdPath, body: UpdateTelemetrySecretRequest
) -> Response:
    """Replace the secret of an endpoint, which keeps its name. As in the reference, an endpoint that does not exist
    is no error (section 10); nothing is kept for it.
    """
    place = telemetry_place(caller.nca_id, telemetry_id)

    def write(tx: Transaction) -> list[str]:
        try:
            telemetries.get(tx, caller.nca_id, telemetry_id)
        except NotFound:
            return []
        secrets.delete(tx, place)
        secrets.put(tx, [context.keyring.seal(place, body.secret.to_model())])
        return telemetries.users_of(tx, telemetry_id)

    for version_id in await context.db.run(write):
        context.hints.hint("secret", version_id)
    return Response(status_code=204)


def check_choice(tx: Transaction, nca_id: str, choice: TelemetryChoice) -> None:
    """Raises NotFound for an endpoint that the account has not, Invalid for one that does not take what is sent."""
    for kind, telemetry_id in choice.by_type().items():
        telemetry = telemetries.get(tx, nca_id, telemetry_id)
        if kind not in telemetry.types:
            takes = ", ".join(t.value for t in telemetry.types)
            raise Invalid(
                f"telemetries.{kind.value.lower()}TelemetryId: telemetry '{telemetry.name}' takes {takes}, "
                f"not {kind.value}; choose another one"
            )
