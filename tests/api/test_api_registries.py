"""Registry credentials on the wire (control-plane page, section 17; check 54)."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from api_building import OTHER_ACCOUNT, RANDOM_ID, Installation, an_installation, bearer, version_path

from gpufn.model.errors import Fatal
from gpufn.model.ids import DEFAULT_ACCOUNT
from gpufn.model.registry import ArtifactType, recognised, with_custom
from gpufn.model.secret import registry_place
from gpufn.store import secrets

CREDENTIALS = "/v2/nvcf/registry-credentials"
ECR = "123456789012.dkr.ecr.us-east-1.amazonaws.com"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def a_credential(**changes: Any) -> dict[str, Any]:
    """The body of a new credential; a change to None leaves the member out."""
    body: dict[str, Any] = {
        "registryHostname": "docker.io",
        "secret": {"name": "hub", "value": encoded("user:canary")},
        "artifactTypes": ["CONTAINER"],
    }
    return {k: v for k, v in (body | changes).items() if v is not None}


def secret(text: str, name: str = "hub") -> dict[str, str]:
    return {"name": name, "value": encoded(text)}


async def made(here: Installation, **changes: Any) -> dict[str, Any]:
    """A new credential as it was answered."""
    answer = await here.client.post(CREDENTIALS, json=a_credential(**changes))
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["registryCredential"]
    return found


async def test_row_54_what_is_answered() -> None:
    """Everything but the secret."""
    async with an_installation() as here:
        found = await made(here, tags=["team:ml"], description="the team's")

        assert found == {
            "registryCredentialId": found["registryCredentialId"],
            "ncaId": DEFAULT_ACCOUNT,
            "registryCredentialName": "hub",
            "registryName": "Docker Hub",
            "registryHostname": "docker.io",
            "artifactTypes": ["CONTAINER"],
            "tags": ["team:ml"],
            "description": "the team's",
            "provisionedBy": "USER",
            "lastUpdatedAt": "2026-11-24T12:00:00.123Z",
            "createdAt": "2026-11-24T12:00:00.123Z",
        }


@pytest.mark.parametrize(
    ("host", "types", "user"),
    [
        ("nvcr.io", ["CONTAINER"], "$oauthtoken"),
        ("helm.ngc.nvidia.com", ["HELM"], "$oauthtoken"),
        ("api.ngc.nvidia.com", ["MODEL", "RESOURCE"], "$oauthtoken"),
        ("docker.io", ["CONTAINER", "HELM"], "u"),
        (ECR, ["CONTAINER", "HELM"], "AWS"),
        ("public.ecr.aws", ["CONTAINER"], "AWS"),
        ("acme.azurecr.io", ["HELM"], "u"),
        ("acme-cn-beijing.cr.volces.com", ["CONTAINER"], "u"),
    ],
)
async def test_row_54_registries_of_every_kind(host: str, types: list[str], user: str) -> None:
    """200 for what is recognised for the type; the older kind of NGC key is told apart."""
    async with an_installation() as here:
        old = await made(here, registryHostname=host, artifactTypes=types, secret=secret(f"{user}:abc", "a"))
        new = await made(here, registryHostname=host, artifactTypes=types, secret=secret(f"{user}:nvapi-abc", "b"))

        is_ngc = user == "$oauthtoken"
        assert (old.get("keyType"), new.get("keyType")) == ("LEGACY" if is_ngc else None, None)


@pytest.mark.parametrize(
    "changes",
    [
        {"registryHostname": "registry.unknown.com"},
        {"registryHostname": "docker.io", "artifactTypes": ["MODEL"]},
        {"registryHostname": "123456789012.dkr.ecr.nowhere.amazonaws.com"},
        {"registryHostname": "localhost"},
        {"registryHostname": "docker.io:443"},
        {"registryHostname": "docker.io/library"},
        {"secret": {"name": "hub", "value": "not base64 canary"}},
        {"secret": {"name": "hub", "value": {"user": "canary"}}},
        {"secret": secret("canary-without-colon")},
        {"secret": secret(":canary")},
        {"registryHostname": "nvcr.io", "secret": secret("canary:x")},
        {"artifactTypes": []},
        {"artifactTypes": ["OTHER"]},
        {"secret": None},
        {"description": "d" * 257},
        {"tags": ["a b"]},
    ],
)
async def test_row_54_bodies_that_break_a_rule(changes: dict[str, Any]) -> None:
    """400, the value is not repeated, and nothing is kept."""
    async with an_installation() as here:
        answer = await here.client.post(CREDENTIALS, json=a_credential(**changes))

        assert answer.status_code == 400
        assert "canary" not in answer.text
        assert (await here.client.get(CREDENTIALS)).json() == {"registryCredentials": []}


async def test_row_54_a_name_is_taken_once_for_a_host() -> None:
    """409; the same name for another host is fine."""
    async with an_installation() as here:
        await made(here)

        assert (await here.client.post(CREDENTIALS, json=a_credential())).status_code == 409
        await made(here, registryHostname="public.ecr.aws")


async def test_lists_are_filtered() -> None:
    """By artifact type and by who made them, comma-separated or repeated, in any case; a wrong word is 400."""
    async with an_installation() as here:
        await made(here)
        here.clock.advance(1)
        await made(here, artifactTypes=["HELM"], secret=secret("u:p", "charts"))

        async def names(query: str) -> list[str]:
            answer = await here.client.get(f"{CREDENTIALS}?{query}")
            return [c["registryCredentialName"] for c in answer.json()["registryCredentials"]]

        assert await names("") == ["hub", "charts"]
        assert await names("artifactType=helm") == ["charts"]
        assert await names("artifactType=HELM,container") == ["hub", "charts"]
        assert await names("artifactType=HELM&artifactType=CONTAINER&provisionedBy=user") == ["hub", "charts"]
        assert await names("provisionedBy=SYSTEM") == []
        assert (await here.client.get(f"{CREDENTIALS}?artifactType=x")).status_code == 400


async def test_row_54_updates() -> None:
    """Types are added, the secret is exchanged; empty 400, an unrecognised addition 400, a name that is taken 409."""
    async with an_installation() as here:
        one = await made(here)
        await made(here, secret=secret("u:p", "taken"))
        ngc = await made(here, registryHostname="nvcr.io", secret=secret("$oauthtoken:x", "ngc"))
        at, ngc_at = (f"{CREDENTIALS}/{c['registryCredentialId']}" for c in (one, ngc))
        here.clock.advance(1)

        added = await here.client.patch(at, json={"artifactTypeEnums": ["HELM", "CONTAINER"]})
        exchanged = await here.client.patch(at, json={"secret": secret("user:new", "renamed")})

        assert added.json()["registryCredential"]["artifactTypes"] == ["CONTAINER", "HELM"]
        after = exchanged.json()["registryCredential"]
        assert after["registryCredentialName"] == "renamed"
        assert after["lastUpdatedAt"] > after["createdAt"]
        place = registry_place(DEFAULT_ACCOUNT, one["registryCredentialId"])
        kept = await here.context.db.run(lambda tx: secrets.in_place(tx, place))
        assert [(s.name, here.context.keyring.open(s).value) for s in kept] == [("renamed", encoded("user:new"))]
        for path, body, status in (
            (at, {}, 400),
            (at, {"secret": secret("user:x", "taken")}, 409),
            (at, {"secret": secret("nothing")}, 400),
            (ngc_at, {"artifactTypeEnums": ["HELM"]}, 400),
            (ngc_at, {"secret": secret("someone:x")}, 400),
            (f"{CREDENTIALS}/{RANDOM_ID}", {"artifactTypeEnums": ["HELM"]}, 404),
        ):
            assert (await here.client.patch(path, json=body)).status_code == status, body


async def test_row_54_deletion() -> None:
    """204; then 404; 400 while a function comes from there; its secret goes with it."""
    async with an_installation() as here:
        one = await made(here, registryHostname="nvcr.io", secret=secret("$oauthtoken:x"))
        at = f"{CREDENTIALS}/{one['registryCredentialId']}"
        fid, vid = await here.a_function(containerImage="nvcr.io/acme/echo:1")

        used = await here.client.delete(at)
        await here.client.delete(version_path(fid, vid))
        deleted = await here.client.delete(at)

        assert (used.status_code, vid in used.json()["detail"]) == (400, True)
        assert (deleted.status_code, deleted.content) == (204, b"")
        assert (await here.client.get(at)).status_code == 404
        place = registry_place(DEFAULT_ACCOUNT, one["registryCredentialId"])
        assert await here.context.db.run(lambda tx: secrets.names(tx, place)) == []


async def test_what_another_account_has_is_not_found() -> None:
    """404 for every verb; its list is empty; without the scope 403."""
    async with an_installation() as here:
        at = f"{CREDENTIALS}/{(await made(here))['registryCredentialId']}"
        other = bearer(await here.a_key(nca_id=OTHER_ACCOUNT))
        weak = bearer(await here.a_key(scopes=["list_functions"]))
        change = {"artifactTypeEnums": ["HELM"]}

        assert (await here.client.get(CREDENTIALS, headers=other)).json() == {"registryCredentials": []}
        for method, body in (("GET", None), ("PATCH", change), ("DELETE", None)):
            assert (await here.client.request(method, at, json=body, headers=other)).status_code == 404
            assert (await here.client.request(method, at, json=body, headers=weak)).status_code == 403


async def test_recognized_registries() -> None:
    """By artifact type, each list by name."""
    async with an_installation() as here:
        found = (await here.client.get("/v2/nvcf/recognized-registries")).json()["recognizedRegistries"]

        assert list(found) == ["CONTAINER", "HELM", "MODEL", "RESOURCE"]
        assert {"name": "NGC Private Registry", "hostname": "nvcr.io"} in found["CONTAINER"]
        assert {r["hostname"] for r in found["MODEL"]} == {"api.ngc.nvidia.com"}
        for registries in found.values():
            assert [r["name"] for r in registries] == sorted(r["name"] for r in registries)


def test_an_operator_adds_registries() -> None:
    """Named in the setting, for images and charts; what is no name=host is refused with the form."""
    registries = with_custom("Harbor=harbor.example.com, Ours = r.acme.io")

    assert recognised("harbor.example.com", ArtifactType.CONTAINER, registries) is not None
    assert recognised("r.acme.io", ArtifactType.HELM, registries) is not None
    assert recognised("r.acme.io", ArtifactType.MODEL, registries) is None
    with pytest.raises(Fatal, match="name=host"):
        with_custom("harbor.example.com")
