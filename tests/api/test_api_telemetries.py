"""Telemetry endpoints on the wire (control-plane page, section 16; checks 17 and 53)."""

from __future__ import annotations

from typing import Any

import pytest
from api_building import OTHER_ACCOUNT, RANDOM_ID, Installation, a_body, an_installation, bearer, version_path

from gpufn.model.ids import DEFAULT_ACCOUNT
from gpufn.model.secret import telemetry_place
from gpufn.model.telemetry import TelemetryProvider
from gpufn.store import secrets

TELEMETRIES = "/v2/nvcf/telemetries"
CANARY = "canary-4712"


def a_telemetry(name: str = "grafana", **changes: Any) -> dict[str, Any]:
    """The body of a new endpoint; a change to None leaves the member out."""
    body: dict[str, Any] = {
        "endpoint": "https://otel.example.com",
        "protocol": "HTTP",
        "provider": "GRAFANA_CLOUD",
        "types": ["LOGS"],
        "secret": {"name": name, "value": {"instanceId": "1", "apiKey": CANARY}},
    }
    return {k: v for k, v in (body | changes).items() if v is not None}


async def made(here: Installation, name: str = "grafana", **changes: Any) -> str:
    """The id of a new endpoint."""
    answer = await here.client.post(TELEMETRIES, json=a_telemetry(name, **changes))
    assert answer.status_code == 200, answer.text
    return str(answer.json()["telemetry"]["telemetryId"])


@pytest.mark.parametrize("provider", list(TelemetryProvider))
async def test_row_53_each_provider(provider: str) -> None:
    """200, the endpoint without its secret; over GRPC too."""
    async with an_installation() as here:
        answer = await here.client.post(TELEMETRIES, json=a_telemetry(provider=provider, protocol="GRPC"))

        telemetry = answer.json()["telemetry"]
        assert answer.status_code == 200
        assert CANARY not in answer.text
        assert telemetry == {
            "telemetryId": telemetry["telemetryId"],
            "name": "grafana",
            "endpoint": "https://otel.example.com",
            "protocol": "GRPC",
            "provider": provider,
            "types": ["LOGS"],
            "createdAt": "2026-11-24T12:00:00.123Z",
        }


@pytest.mark.parametrize(
    "changes",
    [
        {"types": []},
        {"types": None},
        {"types": ["INVALID_TYPE"]},
        {"types": ["LOGS", "INVALID_TYPE"]},
        {"endpoint": None},
        {"endpoint": " "},
        {"protocol": "FTP"},
        {"provider": None},
        {"secret": None},
        {"secret": {"name": "a b", "value": "x"}},
        {"secret": {"name": "a"}},
    ],
)
async def test_row_53_bodies_that_break_a_rule(changes: dict[str, Any]) -> None:
    """400, and nothing is kept."""
    async with an_installation() as here:
        assert (await here.client.post(TELEMETRIES, json=a_telemetry(**changes))).status_code == 400
        assert (await here.client.get(TELEMETRIES)).json() == {"telemetries": []}


async def test_row_53_a_name_is_taken_once() -> None:
    """400, not 409; the other account has its own names."""
    async with an_installation() as here:
        await made(here)
        other = bearer(await here.a_key(nca_id=OTHER_ACCOUNT))

        assert (await here.client.post(TELEMETRIES, json=a_telemetry())).status_code == 400
        assert (await here.client.post(TELEMETRIES, json=a_telemetry(), headers=other)).status_code == 200


async def test_list_get_and_delete() -> None:
    """Each shows the endpoint; DELETE is 204 without a body and takes the secret along; then it is 404."""
    async with an_installation() as here:
        one = await made(here)
        at = f"{TELEMETRIES}/{one}"

        listed, got = (await here.client.get(TELEMETRIES)).json(), (await here.client.get(at)).json()
        deleted = await here.client.delete(at)

        assert listed == {"telemetries": [got["telemetry"]]}
        assert (deleted.status_code, deleted.content) == (204, b"")
        assert [(await here.client.request(m, at)).status_code for m in ("GET", "DELETE")] == [404, 404]
        place = telemetry_place(DEFAULT_ACCOUNT, one)
        assert await here.context.db.run(lambda tx: secrets.names(tx, place)) == []


async def test_what_another_account_has_is_not_found() -> None:
    """404 for every verb, and absent from its list."""
    async with an_installation() as here:
        at = f"{TELEMETRIES}/{await made(here)}"
        other = bearer(await here.a_key(nca_id=OTHER_ACCOUNT))

        assert (await here.client.get(TELEMETRIES, headers=other)).json() == {"telemetries": []}
        assert [(await here.client.request(m, at, headers=other)).status_code for m in ("GET", "DELETE")] == [404, 404]


async def test_an_account_has_a_bounded_number() -> None:
    """The 26th is 400."""
    async with an_installation() as here:
        for n in range(25):
            await made(here, f"t{n}")

        answer = await here.client.post(TELEMETRIES, json=a_telemetry("more"))

        assert answer.status_code == 400
        assert "25" in answer.json()["detail"]


async def test_row_17_a_version_uses_endpoints() -> None:
    """They are echoed, also in the listing; the endpoint cannot be deleted meanwhile; afterwards it can."""
    async with an_installation() as here:
        every = await made(here, types=["LOGS", "METRICS", "TRACES"])
        chosen = {f"{kind}TelemetryId": every for kind in ("logs", "metrics", "traces")}

        fid, vid = await here.a_function(telemetries=chosen)
        shown = (await here.client.get(version_path(fid, vid))).json()["function"]
        refused = await here.client.delete(f"{TELEMETRIES}/{every}")
        await here.client.delete(version_path(fid, vid))

        assert shown["telemetries"] == chosen
        assert (refused.status_code, vid in refused.json()["detail"]) == (400, True)
        assert (await here.client.delete(f"{TELEMETRIES}/{every}")).status_code == 204


async def test_row_17_choices_that_do_not_fit() -> None:
    """Swapped types 400, an unknown endpoint or one of another account 404, none at all 400."""
    async with an_installation() as here:
        logs, metrics = await made(here), await made(here, "prom", types=["METRICS"])
        other = bearer(await here.a_key(nca_id=OTHER_ACCOUNT))
        foreign = await here.client.post(TELEMETRIES, json=a_telemetry(), headers=other)

        async def status(**chosen: str) -> int:
            body = a_body(telemetries=chosen)
            return (await here.client.post("/v2/nvcf/functions", json=body)).status_code

        assert await status(logsTelemetryId=metrics, metricsTelemetryId=logs) == 400
        assert await status(logsTelemetryId=RANDOM_ID) == 404
        assert await status(logsTelemetryId=foreign.json()["telemetry"]["telemetryId"]) == 404
        assert await status() == 400
        assert (await here.client.get("/v2/nvcf/functions")).json() == {"functions": []}


async def test_the_secret_can_be_exchanged() -> None:
    """204; the name of the endpoint stays; its users are told; an endpoint that does not exist is 204 too."""
    async with an_installation() as here:
        one = await made(here)
        _, vid = await here.a_function(telemetries={"logsTelemetryId": one})
        body = {"secret": {"name": "renamed", "value": "new"}}

        answer = await here.client.put(f"/v2/nvcf/secrets/telemetries/{one}", json=body)
        unknown = await here.client.put(f"/v2/nvcf/secrets/telemetries/{RANDOM_ID}", json=body)

        place = telemetry_place(DEFAULT_ACCOUNT, one)
        kept = await here.context.db.run(lambda tx: secrets.in_place(tx, place))
        assert (answer.status_code, unknown.status_code) == (204, 204)
        assert [here.context.keyring.open(s).value for s in kept] == ["new"]
        assert (await here.client.get(f"{TELEMETRIES}/{one}")).json()["telemetry"]["name"] == "grafana"
        assert ("secret", vid) in here.hints
