"""Accounts, clients, admin tokens and admin work in other accounts: checks 55 and 56, sections 4.4 and 19."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from api_building import NOW, OTHER_ACCOUNT, RANDOM_ID, Installation, a_body, an_installation, bearer, version_path

from gpufn.auth.keyservice import SERVICES
from gpufn.auth.tokens import Signer, new_keys
from gpufn.model.access import USER_SCOPES
from gpufn.model.event import Event, EventKind
from gpufn.model.ids import AccountId, FunctionId, VersionId
from gpufn.model.usage import Usage
from gpufn.settings import IdentitySettings
from gpufn.store import events, keys, usage
from gpufn.store.database import Transaction
from gpufn.wire.scalars import format_time

ACCOUNTS = "/v2/nvcf/accounts"
ACME = f"{ACCOUNTS}/acme"


def admin(it: Installation) -> dict[str, str]:
    return bearer(it.a_token())


async def test_an_account_lives() -> None:
    """Made, read, listed, changed and deleted by an admin token, with the defaults of section 19."""
    async with an_installation() as it:
        who = admin(it)
        made = await it.client.post(ACME, json={"name": "Acme", "adminClientId": "acme-ci"}, headers=who)
        read = await it.client.get(ACME, headers=who)
        listed = await it.client.get(ACCOUNTS, headers=who)
        client = await it.client.get("/v2/nvcf/clients/acme-ci", headers=who)
        changed = await it.client.patch(ACME, json={"maxFunctionsAllowed": 150, "name": "Acme2"}, headers=who)
        gone = await it.client.delete(ACME, headers=who)
        after = await it.client.get(ACME, headers=who)

    account = made.json()["account"]
    assert (account["ncaId"], account["name"], account["adminClientIds"]) == ("acme", "Acme", ["acme-ci"])
    assert (account["maxTelemetriesAllowed"], account["maxRegistryCredentialsAllowed"]) == (25, 25)
    assert read.json()["account"]["currentNumberFunctions"] == 0
    assert {a["ncaId"] for a in listed.json()["cloudAccounts"]} == {"nvcf-default", "other-account", "acme"}
    assert client.json()["client"] == {"clientId": "acme-ci", "ncaId": "acme", "name": "Acme"}
    assert (changed.json()["account"]["maxFunctionsAllowed"], changed.json()["account"]["name"]) == (150, "Acme2")
    assert (gone.status_code, gone.content, after.status_code) == (204, b"", 404)


@pytest.mark.parametrize(
    ("nca_id", "body", "status"),
    [
        ("332aa*@@", {"name": "good"}, 200),
        ("!332", {"name": "good"}, 400),
        ("acme", {"name": None}, 400),
        ("acme", {"name": ""}, 400),
        ("acme", {"name": " "}, 400),
        ("acme", {"name": "abc"}, 400),
        ("acme", {"name": "bad name"}, 400),
        ("acme", {"name": "x" * 37}, 400),
        ("acme", {"name": "good", "maxFunctionsAllowed": 0}, 400),
        ("acme", {"name": "good", "maxTelemetriesAllowed": 26}, 400),
        ("acme", {"name": "good", "adminClientId": "ncp"}, 409),
        ("other-account", {"name": "good"}, 409),
    ],
)
async def test_what_an_account_may_be(nca_id: str, body: dict[str, Any], status: int) -> None:
    """Check 55: names, ids, bounds; what exists already is 409."""
    async with an_installation() as it:
        answer = await it.client.post(f"{ACCOUNTS}/{nca_id}", json=body, headers=admin(it))
        listed = await it.client.get(ACCOUNTS, headers=admin(it))

    assert answer.status_code == status, answer.text
    assert len(listed.json()["cloudAccounts"]) == (3 if status == 200 else 2)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"maxFunctionsAllowed": 150, "maxTasksAllowed": 150}, 200),
        ({"maxFunctionsAllowed": 0, "maxTasksAllowed": 0}, 200),
        ({"maxFunctionsAllowed": -50}, 400),
        ({"maxFunctionsAllowed": None, "maxTasksAllowed": None}, 400),
        ({"maxTelemetriesAllowed": 50}, 200),
        ({"maxTelemetriesAllowed": 51}, 400),
    ],
)
async def test_how_bounds_may_change(body: dict[str, Any], status: int) -> None:
    """Check 55: PATCH of the bounds."""
    async with an_installation() as it:
        answer = await it.client.patch(f"{ACCOUNTS}/{OTHER_ACCOUNT}", json=body, headers=admin(it))

    assert answer.status_code == status


async def test_a_bound_of_zero_forbids_creation() -> None:
    """Section 19: an account bounded to 0 functions gets 400 for the next one, and keeps those it has."""
    async with an_installation() as it:
        fid, vid = await it.a_function()
        await it.client.patch(f"{ACCOUNTS}/nvcf-default", json={"maxFunctionsAllowed": 0}, headers=admin(it))
        refused = await it.client.post("/v2/nvcf/functions", json=a_body())
        kept = await it.client.get(version_path(fid, vid))

    assert (refused.status_code, kept.status_code) == (400, 200)
    assert "Reached or exceeded the max limit for the number of functions allowed: 0" in refused.json()["detail"]


async def test_an_account_that_is_in_use_stays() -> None:
    """Check 55: with functions, or functions shared with it, 400; the installation's own account always."""
    async with an_installation() as it:
        who = admin(it)
        await it.client.post(ACME, json={"name": "Acme"}, headers=who)
        fid, vid = await it.a_function()
        await it.client.post(
            f"/v2/nvcf/authorizations/functions/{fid}", json={"authorizedParties": [{"ncaId": "acme"}]}
        )
        shared = await it.client.delete(ACME, headers=who)
        await it.client.delete(version_path(fid, vid))
        unshared = await it.client.delete(ACME, headers=who)
        own = await it.client.delete(f"{ACCOUNTS}/nvcf-default", headers=who)
        owner = bearer(await it.a_key(nca_id=OTHER_ACCOUNT))
        await it.client.post("/v2/nvcf/functions", json=a_body(), headers=owner)
        owning = await it.client.delete(f"{ACCOUNTS}/{OTHER_ACCOUNT}", headers=who)

    assert [a.status_code for a in (shared, unshared, own, owning)] == [400, 204, 400, 400]


async def test_the_keys_of_an_account_end_with_it() -> None:
    """Deleting an account is the end of its keys, here at once, and the gateways are told."""
    async with an_installation() as it:
        await it.client.post(ACME, json={"name": "Acme"}, headers=admin(it))
        made = await it.client.post("/v2/gpufn/accounts/acme/keys", headers=admin(it))
        key = made.json()["key"]
        works = await it.client.get("/v2/nvcf/functions", headers=bearer(key["value"]))
        await it.client.delete(ACME, headers=admin(it))
        ended = await it.client.get("/v2/nvcf/functions", headers=bearer(key["value"]))
        left = await it.context.db.run(lambda tx: keys.get(tx, key["id"]))

    assert (works.status_code, ended.status_code, left) == (200, 403, None)
    assert it.hints.count(("key", key["id"])) == 2
    assert "account_setup" not in key["scopes"]
    assert key["ncaId"] == "acme"


async def test_nothing_of_a_deleted_account_comes_back_with_its_name() -> None:
    """Section 19: telemetries and credentials go with it; a new account of the same id starts empty."""
    async with an_installation() as it:
        who = admin(it)
        await it.client.post(ACME, json={"name": "Acme"}, headers=who)
        telemetry = {
            "name": "t",
            "endpoint": "https://otlp.example",
            "protocol": "HTTP",
            "provider": "GRAFANA_CLOUD",
            "types": ["LOGS"],
            "secret": {"name": "s", "value": {"instanceId": "1", "apiKey": "k"}},
        }
        made = await it.client.post(f"{ACME}/telemetries", json=telemetry, headers=who)
        await it.client.delete(ACME, headers=who)
        await it.client.post(ACME, json={"name": "Acme"}, headers=who)
        left = await it.client.get(f"{ACME}/telemetries", headers=who)
        secrets = await it.context.db.run(lambda tx: tx.execute(sa.text("SELECT count(*) FROM secrets")).scalar())

    assert made.status_code == 200, made.text
    assert left.json()["telemetries"] == []
    assert secrets == 0


async def test_what_was_told_of_an_account_ends_with_it() -> None:
    """Events and usage outlive functions, but not the account: the next of that name is somebody else."""
    acme = AccountId("acme")
    event = Event(NOW, EventKind.VERSION_CREATED, "made", acme, FunctionId(RANDOM_ID), VersionId(RANDOM_ID))

    def leave_behind(tx: Transaction) -> None:
        events.insert(tx, [event])
        usage.add(tx, acme, RANDOM_ID, RANDOM_ID, hour=NOW, more=Usage(gpu_seconds=7.0))

    async with an_installation() as it:
        who = admin(it)
        await it.client.post(ACME, json={"name": "Acme"}, headers=who)
        await it.context.db.run(leave_behind)
        old = await told(it)
        gone = await it.client.delete(ACME, headers=who)
        await it.client.post(ACME, json={"name": "Acme"}, headers=who)
        new = await told(it)

    assert (old, gone.status_code, new) == ((1, 1), 204, (0, 0))


async def told(it: Installation) -> tuple[int, int]:
    """How many events, and how many used versions, a key of acme is told of."""
    key = bearer(await it.a_key(nca_id=AccountId("acme")))
    told_events = await it.client.get("/v2/gpufn/events", headers=key)
    used = await it.client.get("/v2/gpufn/usage", headers=key)
    return len(told_events.json()["events"]), len(used.json()["versions"])


async def test_an_account_with_tasks_stays() -> None:
    """A task is a thing the account owns: 400 until it is deleted, and not an error of ours."""
    async with an_installation() as it:
        who = admin(it)
        await it.client.post(ACME, json={"name": "Acme"}, headers=who)
        gpu = {"gpu": "H100", "instanceType": "ON-PREM.GPU.H100_1x"}
        body = {"name": "t", "gpuSpecification": gpu, "containerImage": "job:1", "resultHandlingStrategy": "NONE"}
        made = await it.client.post("/v1/nvct/accounts/acme/tasks", json=body, headers=who)
        refused = await it.client.delete(ACME, headers=who)

    assert made.status_code == 200, made.text
    assert refused.status_code == 400, refused.text
    assert "tasks" in refused.json()["detail"]


async def test_clients_are_associated_and_parted() -> None:
    """Check 56: a known client 409; a foreign one 400, an unknown one 404; its tokens act for the account."""
    async with an_installation() as it:
        who, base = admin(it), f"{ACCOUNTS}/{OTHER_ACCOUNT}/clients"
        token = bearer(it.a_token("bot", scopes=["list_functions"]))
        before = await it.client.get("/v2/nvcf/functions", headers=token)
        answers = [
            await it.client.patch(f"{base}/{verb}", json={"adminClientId": name}, headers=who)
            for verb, name in (
                ("associate", "bot"),
                ("associate", "bot"),
                ("disassociate", "ncp"),
                ("disassociate", "nobody"),
            )
        ]
        during = await it.client.get("/v2/nvcf/functions", headers=token)
        parted = await it.client.patch(f"{base}/disassociate", json={"adminClientId": "bot"}, headers=who)
        after = await it.client.get("/v2/nvcf/functions", headers=token)

    assert [a.status_code for a in answers] == [200, 409, 400, 404]
    assert [a.status_code for a in (before, during, parted, after)] == [404, 200, 200, 404]
    assert "Client 'bot': Not found" in before.json()["detail"]


async def test_keys_see_their_own_account_only() -> None:
    """Sections 2 and 19: making and deleting accounts take a token; a key with account_setup sees its own alone."""
    async with an_installation() as it:
        codes = [
            (await it.client.post(ACME, json={"name": "Acme"})).status_code,
            (await it.client.delete(f"{ACCOUNTS}/{OTHER_ACCOUNT}")).status_code,
            (await it.client.get(f"{ACCOUNTS}/nvcf-default")).status_code,
            (await it.client.get(f"{ACCOUNTS}/{OTHER_ACCOUNT}")).status_code,
            (await it.client.patch(f"{ACCOUNTS}/{OTHER_ACCOUNT}", json={"name": "taken"})).status_code,
            (
                await it.client.patch(f"{ACCOUNTS}/{OTHER_ACCOUNT}/clients/associate", json={"adminClientId": "mine"})
            ).status_code,
        ]
        listed = await it.client.get(ACCOUNTS)
        tenant = bearer(await it.a_key(scopes=[s for s in USER_SCOPES if s != "account_setup"]))
        denied = await it.client.get(ACCOUNTS, headers=tenant)

    assert codes == [403, 403, 200, 403, 403, 403]
    assert [a["ncaId"] for a in listed.json()["cloudAccounts"]] == ["nvcf-default"]
    assert denied.status_code == 403


async def test_an_admin_works_in_another_account() -> None:
    """Section 4.4: the twin routes act as the account in the path; unknown accounts are 404, user scopes 403."""
    async with an_installation() as it:
        who, base = admin(it), f"{ACCOUNTS}/{OTHER_ACCOUNT}"
        made = await it.client.post(f"{base}/functions", json=a_body(), headers=who)
        function = made.json()["function"]
        owner = bearer(await it.a_key(nca_id=OTHER_ACCOUNT))
        seen = await it.client.get(version_path(function["id"], function["versionId"]), headers=owner)
        tail = f"functions/{function['id']}/versions/{function['versionId']}"
        details = await it.client.get(f"{base}/{tail}", headers=who)
        deployments = await it.client.get(f"{base}/deployments", headers=who)
        unknown = await it.client.get(f"{ACCOUNTS}/nobody/functions", headers=who)
        user_only = bearer(it.a_token(scopes=["list_functions"]))
        no_admin = await it.client.get(f"{base}/functions", headers=user_only)
        admin_only = bearer(it.a_token(scopes=["admin:list_functions"]))
        no_user = await it.client.get("/v2/nvcf/functions", headers=admin_only)

    assert (made.status_code, function["ncaId"], seen.status_code) == (200, OTHER_ACCOUNT, 200)
    assert "ownedByDifferentAccount" not in seen.json()["function"]
    assert "activeInstances" in details.json()["function"]
    assert deployments.json() == {"deployments": []}
    assert [a.status_code for a in (unknown, no_admin, no_user)] == [404, 403, 403]


async def test_an_admin_makes_a_function_public_and_private_again() -> None:
    """Check 46: ``*`` from an admin; then the owner's and the admin's changes are refused; DELETE makes it private."""
    async with an_installation() as it:
        fid, vid = await it.a_function()
        who, path = admin(it), f"{ACCOUNTS}/nvcf-default/authorizations/functions/{fid}"
        everybody = {"authorizedParties": [{"ncaId": "*"}]}
        mixed = await it.client.post(
            path, json={"authorizedParties": [{"ncaId": "*"}, {"ncaId": OTHER_ACCOUNT}]}, headers=who
        )
        opened = await it.client.post(path, json=everybody, headers=who)
        again = await it.client.post(path, json=everybody, headers=who)
        added = await it.client.patch(f"{path}/add", json={"authorizedParty": {"ncaId": OTHER_ACCOUNT}}, headers=who)
        by_owner = await it.client.delete(f"/v2/nvcf/authorizations/functions/{fid}")
        deleted = await it.client.delete(f"{ACCOUNTS}/nvcf-default/functions/{fid}/versions/{vid}", headers=who)
        queue = await it.client.get(f"{ACCOUNTS}/nvcf-default/queues/functions/{fid}", headers=who)
        closed = await it.client.delete(path, headers=who)
        own = await it.client.delete(version_path(fid, vid))

    assert [mixed.status_code, opened.status_code, closed.status_code, own.status_code] == [400, 200, 200, 204]
    assert opened.json()["function"]["authorizedParties"] == [{"ncaId": "*"}]
    assert "Cannot create authorized parties for a public function" in again.json()["detail"]
    assert "Cannot add authorized parties for a public function" in added.json()["detail"]
    assert "Cannot delete authorized parties for public function" in by_owner.json()["detail"]
    assert "Cannot delete a public function" in deleted.json()["detail"]
    assert queue.status_code == 404  # not 400: nothing is deployed


async def test_a_client_of_a_party_may_be_named() -> None:
    """Section 9: clientId must be a client of that account; it is never shown."""
    async with an_installation() as it:
        fid, _ = await it.a_function()
        path = f"/v2/nvcf/authorizations/functions/{fid}"
        base = f"{ACCOUNTS}/{OTHER_ACCOUNT}/clients"
        await it.client.patch(f"{base}/associate", json={"adminClientId": "bot"}, headers=admin(it))
        good = await it.client.post(path, json={"authorizedParties": [{"ncaId": OTHER_ACCOUNT, "clientId": "bot"}]})
        wrong = await it.client.post(path, json={"authorizedParties": [{"ncaId": OTHER_ACCOUNT, "clientId": "ncp"}]})

    assert (good.status_code, wrong.status_code) == (200, 400)
    assert good.json()["function"]["authorizedParties"] == [{"ncaId": OTHER_ACCOUNT}]


async def test_the_admin_token_is_made_with_a_key_and_worth_no_more_than_it() -> None:
    """Auth page, 6.1: POST {} gives value and expires_at; it ends with its time, and with the key that asked for it."""
    async with an_installation() as it:
        value = await it.a_key()
        made = await it.client.post("/v1/admin/keys", json={}, headers=bearer(value))
        token = bearer(made.json()["value"])
        works = await it.client.get(ACCOUNTS, headers=token)
        chained = await it.client.post("/v1/admin/keys", json={}, headers=token)
        tenant = bearer(await it.a_key(scopes=["manage_keys"]))
        denied = await it.client.post("/v1/admin/keys", json={}, headers=tenant)
        nobody = await it.client.post("/v1/admin/keys", json={}, headers={"Authorization": ""})
        it.clock.advance(3601)
        late = await it.client.get(ACCOUNTS, headers=token)
        fresh = await it.client.post("/v1/admin/keys", json={}, headers=bearer(value))
        listed = (await it.client.get("/v2/gpufn/keys")).json()["keys"]
        (key_id,) = [k["id"] for k in listed if k["owner"] == "someone" and "account_setup" in k["scopes"]]
        await it.client.delete(f"/v2/gpufn/keys/{key_id}")
        revoked = await it.client.get(ACCOUNTS, headers=bearer(fresh.json()["value"]))

    assert made.status_code == 200
    assert made.json()["expires_at"] == "2026-11-24T13:00:00.123Z"
    assert [a.status_code for a in (works, chained, denied, nobody, late, revoked)] == [200, 403, 403, 401, 401, 401]


async def test_an_admin_token_ends_when_its_key_may_not_ask_for_one_any_more() -> None:
    """A key whose authorizations no longer have account_setup takes the tokens made with it along."""
    service = {"Key-Issuer-Id": "nvcf-api", "Key-Owner-Id": "someone"}
    policy = {"aud": SERVICES[0].id, "resources": [], "scopes": ["account_setup"]}
    body = {"description": "k", "expires_at": format_time(NOW + timedelta(days=1))}
    async with an_installation() as it:
        authorizations = {"authorizations": {"policies": [policy]}}
        made = (await it.client.post("/v1/keys", json=body | authorizations, headers=service)).json()
        issued = await it.client.post("/v1/admin/keys", json={}, headers=bearer(made["value"]))
        token = bearer(issued.json()["value"])
        works = await it.client.get(ACCOUNTS, headers=token)
        it.clock.advance(3)
        lesser = {"authorizations": {"policies": [policy | {"scopes": ["list_functions"]}]}}
        taken = await it.client.put(f"/v1/keys/{made['id']}/authorizations", json=lesser, headers=service)
        ended = await it.client.get(ACCOUNTS, headers=token)

    assert [a.status_code for a in (issued, works, taken, ended)] == [200, 200, 200, 401]


async def test_an_open_issuer_asks_for_nothing() -> None:
    """With identity.open_issuer, which `nvcf-cli init` needs, no credential is asked for; nothing else is open."""
    async with an_installation() as it:
        it.client.headers.pop("Authorization")
        closed = await it.client.post("/v1/admin/keys", json={})
        object.__setattr__(it.context, "identity", IdentitySettings(open_issuer=True))
        opened = await it.client.post("/v1/admin/keys", json={})
        works = await it.client.get(ACCOUNTS, headers=bearer(opened.json()["value"]))
        elsewhere = await it.client.get(ACCOUNTS)
        wrong = await it.client.post("/v1/admin/keys", json={}, headers=bearer("nvapi-wrong"))

    assert [a.status_code for a in (closed, opened, works, elsewhere, wrong)] == [401, 200, 200, 401, 403]


async def test_the_signing_keys_are_published() -> None:
    """Auth page, section 6: ES256 keys at the usual place, without credentials and without their private half."""
    async with an_installation() as it:
        jwks = (await it.client.get("/.well-known/jwks.json", headers={"Authorization": ""})).json()
        about = (await it.client.get("/.well-known/openid-configuration")).json()

    (key,) = jwks["keys"]
    assert (key["kty"], key["crv"], key["alg"], key["use"]) == ("EC", "P-256", "ES256", "sig")
    assert "d" not in key
    assert about["jwks_uri"] == about["issuer"] + "/.well-known/jwks.json"


async def test_bad_tokens_are_401() -> None:
    """Check 2: expired, signed by somebody else, unsigned, mangled: 401 with a challenge, never anything else."""
    async with an_installation() as it:
        good = it.a_token()
        head, body, signature = good.split(".")
        stranger = Signer(new_keys(), name="http://api.test")
        now = it.clock().timestamp()
        bad = [
            it.a_token(ttl=-1),
            stranger.issue("ncp", scopes=["list_functions"], now=now, ttl=60),
            Signer(new_keys(), name="http://elsewhere").issue("ncp", scopes=[], now=now, ttl=60),
            f"eyJhbGciOiJub25lIn0.{body}.",
            f"{head}.{body}.{signature[:-8]}AAAAAAAA",
            "invalid-token",
            "a.b.c",
            good + "x" * 8192,
        ]
        answers = [await it.client.get("/v2/nvcf/functions", headers=bearer(token)) for token in bad]

    assert [a.status_code for a in answers] == [401] * len(bad)
    assert all(a.headers["WWW-Authenticate"].startswith("Bearer") for a in answers)


async def test_a_token_without_the_scope_is_403_and_without_an_account_404() -> None:
    """Check 3: no scopes 403; a client nobody associated 404."""
    async with an_installation() as it:
        none = await it.client.post("/v2/nvcf/functions", json=a_body(), headers=bearer(it.a_token(scopes=[])))
        unknown = await it.client.post("/v2/nvcf/functions", json=a_body(), headers=bearer(it.a_token("stranger")))

    assert (none.status_code, unknown.status_code) == (403, 404)


async def test_a_client_is_known_by_its_issuer_too() -> None:
    """One name in two issuers' tokens is two clients: each acts for its own account, and neither for the other's."""
    async with an_installation() as it:
        who = admin(it)
        idp = Signer(new_keys(), name="https://idp.test")
        it.context.issuers[idp.issuer.name] = replace(idp.issuer, own=False, admin=False)
        theirs = bearer(idp.issue("ncp", scopes=["list_functions"], now=it.clock().timestamp(), ttl=60.0))
        ours = bearer(it.a_token("ncp", scopes=["list_functions"]))
        await it.a_function()

        async def seen() -> list[int]:
            answers = [await it.client.get("/v2/nvcf/functions", headers=h) for h in (ours, theirs)]
            return [len(a.json()["functions"]) if a.status_code == 200 else a.status_code for a in answers]

        before = await seen()
        base, body = f"{ACCOUNTS}/{OTHER_ACCOUNT}/clients", {"adminClientId": "ncp", "issuer": idp.issuer.name}
        made = [(await it.client.patch(f"{base}/associate", json=body, headers=who)).status_code for _ in range(2)]
        unknown = await it.client.patch(f"{base}/associate", json=body | {"issuer": "https://x.test"}, headers=who)
        during = await seen()
        got = [
            (await it.client.get(f"/v2/nvcf/clients/ncp{query}", headers=who)).json()["client"]["ncaId"]
            for query in ("", f"?issuer={idp.issuer.name}")
        ]
        parted = await it.client.patch(f"{base}/disassociate", json=body, headers=who)
        after = await seen()

    assert (made, unknown.status_code, parted.status_code) == ([200, 409], 400, 200)
    assert "https://x.test" in unknown.json()["detail"]
    assert (before, during, after) == ([1, 404], [1, 0], [1, 404])
    assert got == ["nvcf-default", OTHER_ACCOUNT]
