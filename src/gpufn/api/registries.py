"""Registry credentials and recognised registries (control-plane page, section 17)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Annotated

from fastapi import Query, Response

from gpufn.api.context import Context, Ctx
from gpufn.api.parameters import RegistryCredentialIdPath, chosen
from gpufn.api.security import Caller
from gpufn.api.views import account_of
from gpufn.model.errors import Conflict, Invalid
from gpufn.model.ids import AccountId, RegistryCredentialId, new_id
from gpufn.model.registry import ArtifactType, Provisioner, RegistryCredential, is_ngc, recognised
from gpufn.model.secret import registry_place
from gpufn.store import functions, registries, secrets
from gpufn.store.database import Transaction
from gpufn.wire.registries import (
    CreateRegistryCredentialRequest,
    ListRegistryCredentialsResponse,
    RecognizedRegistriesResponse,
    RegistryCredentialDto,
    RegistryCredentialResponse,
    UpdateRegistryCredentialRequest,
    login,
)

Filter = Annotated[list[str] | None, Query(max_length=16)]


async def create_credential(
    caller: Caller, context: Ctx, *, body: CreateRegistryCredentialRequest
) -> RegistryCredentialResponse:
    """Keep a credential for a registry."""
    credential = _new(context, caller.nca_id, body)

    def write(tx: Transaction) -> None:
        there = registries.of_account(tx, caller.nca_id)
        _check_free(credential, there)
        limit = account_of(tx, caller).max_registry_credentials
        if len(there) >= limit:
            raise Invalid(f"Reached or exceeded the max limit for the number of registry credentials allowed: {limit}")
        registries.insert(tx, credential)
        place = registry_place(caller.nca_id, credential.id)
        secrets.put(tx, [context.keyring.seal(place, body.secret.to_model())])

    await context.db.run(write)
    return _response(context, credential)


def _new(context: Context, nca_id: AccountId, body: CreateRegistryCredentialRequest) -> RegistryCredential:
    hostname, now = body.registry_hostname.lower(), context.now()
    types = tuple(dict.fromkeys(body.artifact_types))
    _check_recognised(context, hostname, types)
    _, password = login(body.secret, hostname)
    return RegistryCredential(
        id=RegistryCredentialId(new_id()),
        nca_id=nca_id,
        name=body.secret.name,
        hostname=hostname,
        artifact_types=types,
        tags=body.tags or (),
        description=body.description,
        provisioned_by=Provisioner.USER,
        legacy_key=_is_legacy(hostname, password),
        created_at=now,
        updated_at=now,
    )


def _is_legacy(hostname: str, password: str) -> bool:
    return is_ngc(hostname) and not password.startswith("nvapi-")


def _check_recognised(context: Context, hostname: str, types: Sequence[ArtifactType]) -> None:
    for kind in types:
        if recognised(hostname, kind, context.registries) is None:
            there = ", ".join(sorted(r.hostname for r in context.registries if kind in r.types))
            raise Invalid(
                f"Unsupported registry hostname {hostname} for registry type {kind.value}; there are {there}; "
                "the operator can add others with the setting registries.custom"
            )


def _check_free(credential: RegistryCredential, there: Sequence[RegistryCredential]) -> None:
    key = (credential.hostname, credential.name)
    if any((c.hostname, c.name) == key and c.id != credential.id for c in there):
        raise Conflict(
            f"secret.name: there is a credential '{credential.name}' for {credential.hostname} already; "
            "PATCH that one, or choose another name"
        )


async def list_credentials(
    caller: Caller,
    context: Ctx,
    *,
    artifact_type: Annotated[Filter, Query(alias="artifactType")] = None,
    provisioned_by: Annotated[Filter, Query(alias="provisionedBy")] = None,
) -> ListRegistryCredentialsResponse:
    """The credentials of the account, all or of some artifact types or makers."""
    types = chosen(artifact_type, ArtifactType, "artifactType")
    makers = chosen(provisioned_by, Provisioner, "provisionedBy")
    found = await context.db.run(lambda tx: registries.of_account(tx, caller.nca_id))
    shown = [c for c in found if types.intersection(c.artifact_types) and c.provisioned_by in makers]
    return ListRegistryCredentialsResponse(registry_credentials=tuple(_dto(context, c) for c in shown))


async def get_credential(
    caller: Caller, context: Ctx, *, credential_id: RegistryCredentialIdPath
) -> RegistryCredentialResponse:
    """One credential, without its secret."""
    return _response(context, await context.db.run(lambda tx: registries.get(tx, caller.nca_id, credential_id)))


async def update_credential(
    caller: Caller, context: Ctx, *, credential_id: RegistryCredentialIdPath, body: UpdateRegistryCredentialRequest
) -> RegistryCredentialResponse:
    """Exchange the secret, or add artifact types."""

    def write(tx: Transaction) -> RegistryCredential:
        present = registries.get(tx, caller.nca_id, credential_id)
        after = _updated(context, present, body, now=context.now())
        _check_free(after, registries.of_account(tx, caller.nca_id))
        registries.save(tx, after)
        if body.secret is not None:
            place = registry_place(caller.nca_id, credential_id)
            secrets.delete(tx, place)
            secrets.put(tx, [context.keyring.seal(place, body.secret.to_model())])
        return after

    return _response(context, await context.db.run(write))


def _updated(
    context: Context, present: RegistryCredential, body: UpdateRegistryCredentialRequest, *, now: datetime
) -> RegistryCredential:
    after = replace(present, updated_at=now)
    if body.artifact_type_enums is not None:
        _check_recognised(context, present.hostname, body.artifact_type_enums)
        types = dict.fromkeys((*present.artifact_types, *body.artifact_type_enums))
        after = replace(after, artifact_types=tuple(types))
    if body.secret is not None:
        _, password = login(body.secret, present.hostname)
        after = replace(after, name=body.secret.name, legacy_key=_is_legacy(present.hostname, password))
    return after


async def delete_credential(caller: Caller, context: Ctx, *, credential_id: RegistryCredentialIdPath) -> Response:
    """Remove a credential that no function needs."""

    def write(tx: Transaction) -> None:
        credential = registries.get(tx, caller.nca_id, credential_id)
        if credential.provisioned_by is Provisioner.SYSTEM:
            raise Invalid(f"credential '{credential.name}' was made with the account and cannot be deleted by a user")
        user = functions.from_host(tx, caller.nca_id, credential.hostname)
        if user is not None:
            raise Invalid(
                f"credential '{credential.name}' is used by function id '{user.function_id}', version '{user.id}', "
                f"which comes from {credential.hostname}; delete that first"
            )
        secrets.delete(tx, registry_place(caller.nca_id, credential_id))
        registries.delete(tx, credential_id)

    await context.db.run(write)
    return Response(status_code=204)


async def recognized_registries(caller: Caller, context: Ctx) -> RecognizedRegistriesResponse:
    """The registries that credentials may be for."""
    return RecognizedRegistriesResponse.of(tuple(context.registries))


def _dto(context: Context, credential: RegistryCredential) -> RegistryCredentialDto:
    found = (recognised(credential.hostname, kind, context.registries) for kind in credential.artifact_types)
    name = next((registry.name for registry in found if registry is not None), credential.hostname)
    return RegistryCredentialDto.of(credential, name)


def _response(context: Context, credential: RegistryCredential) -> RegistryCredentialResponse:
    return RegistryCredentialResponse(registry_credential=_dto(context, credential))
