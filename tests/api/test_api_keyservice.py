"""The API-key service: checks 2 to 11 and 34 of the auth page, over HTTP as NVIDIA's command line talks to it."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from api_building import NOW, OTHER_ACCOUNT, Installation, a_body, an_installation, bearer

from gpufn.auth.keyservice import SERVICES
from gpufn.wire.scalars import format_time

FUNCTIONS, TASKS = (s.id for s in SERVICES)
CLI = {"Key-Issuer-Service": "nvcf-api", "Key-Issuer-Id": FUNCTIONS, "Key-Owner-Id": "svc@nvcf-api.local"}
USER = "svc@nvcf-api.local"
ADMIN = f"/v1/service-admin/users/{USER}"
SCOPES = ["invoke_function", "list_functions", "queue_details", "list_functions_details"]
EVALUATE = "/v1/namespaces/nvcf/evaluations/apikey.allow"


def a_policy(service: str = FUNCTIONS, **changes: Any) -> dict[str, Any]:
    """A policy as nvcf-cli writes it."""
    resources = [{"id": "*", "type": "account-functions"}, {"id": "*", "type": "authorized-functions"}]
    policy = {"aud": service, "auds": [service], "product": "nv-cloud-functions", "resources": resources}
    return policy | {"scopes": SCOPES} | changes


def a_request(*policies: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A key for a day; a change to None leaves the member out."""
    body = {
        "description": "nvcf-cli key",
        "expires_at": format_time(NOW + timedelta(days=1)),
        "authorizations": {"policies": list(policies or (a_policy(),))},
        "audience_service_ids": [FUNCTIONS],
    }
    return {k: v for k, v in (body | changes).items() if v is not None}


async def make(it: Installation, *policies: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A key made with an admin token, as ``nvcf-cli api-key generate`` does."""
    headers = CLI | bearer(it.a_token())
    answer = await it.client.post("/v1/keys", json=a_request(*policies, **changes), headers=headers)
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def evaluation(it: Installation, value: str) -> Any:
    return await it.client.post(EVALUATE, json={"input": {"apiKey": value}})


async def test_a_key_as_nvcf_cli_makes_it() -> None:
    """Check 34: 200, not 201; the value once; scopes and resources come from the policy, even those a token lacks."""
    async with an_installation() as it:
        made = await make(it)
        works = await it.client.get("/v2/nvcf/functions", headers=bearer(made["value"]))
        denied = await it.client.post("/v2/nvcf/functions", json=a_body(), headers=bearer(made["value"]))
        listed = (await it.client.get("/v1/keys", headers=CLI)).json()["keys"]
        read = (await it.client.get(f"/v1/keys/{made['id']}", headers=CLI)).json()

    assert (works.status_code, denied.status_code) == (200, 403)
    assert {k: made[k] for k in ("status", "owner_type", "owner_id", "issuer_service_id", "audience_service_ids")} == {
        "status": "ACTIVE",
        "owner_type": "USER",
        "owner_id": USER,
        "issuer_service_id": FUNCTIONS,
        "audience_service_ids": [FUNCTIONS],
    }
    assert made["value"].startswith("nvapi-")
    assert [(k["id"], "value" in k, "authorizations" in k) for k in listed] == [(made["id"], False, False)]
    assert read["authorizations"] == {"policies": [a_policy()]}


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"description": None}, "description is invalid"),
        ({"description": "no/slash"}, "description is invalid"),
        ({"description": "x" * 65}, "description is invalid"),
        ({"expires_at": None}, "expires_at must be in the future and not more than 365 days from now"),
        ({"expires_at": NOW - timedelta(seconds=1)}, "expires_at must be in the future"),
        ({"expires_at": NOW + timedelta(days=365, seconds=1)}, "not more than 365 days from now"),
        ({"expires_at": NOW + timedelta(days=365)}, ""),
        ({"audience_service_ids": None}, ""),
        ({"audience_service_ids": []}, "audience_service_ids can't be empty"),
        ({"audience_service_ids": ["a", FUNCTIONS, "b"]}, f"service '{FUNCTIONS}' cannot use audiences: a,b"),
        ({"authorizations": None}, "authorizations must be given"),
        ({"authorizations": "x" * 2047}, "authorizations are longer than 2048 characters"),
        ({"authorizations": "x" * 2046}, ""),
    ],
)
async def test_what_a_key_may_be(changes: dict[str, Any], detail: str) -> None:
    """Checks 3 and 4, and section 3.2: every rule at its bound."""
    if hasattr(changes.get("expires_at"), "isoformat"):
        changes = changes | {"expires_at": changes["expires_at"].isoformat()}
    async with an_installation() as it:
        answer = await it.client.post("/v1/keys", json=a_request(**changes), headers=CLI)

    assert answer.status_code == (400 if detail else 200), answer.text
    assert detail in answer.json().get("detail", "")


@pytest.mark.parametrize(
    ("headers", "detail"),
    [
        ({"Key-Issuer-Id": ""}, "Key-Issuer-Id is not set"),
        ({"Key-Issuer-Id": "stranger"}, "Caller service not registered"),
        ({"Key-Owner-Id": ""}, "Key-Owner-Id is not set"),
        ({"Key-Issuer-Id": "nvct-api"}, ""),
    ],
)
async def test_who_asks_is_said_in_headers(headers: dict[str, str], detail: str) -> None:
    """Section 3: issuer and owner are needed; the names nvcf-cli uses are known as well as the ids."""
    async with an_installation() as it:
        answer = await it.client.get("/v1/keys", headers=CLI | headers)

    assert answer.status_code == (400 if detail else 200)
    assert detail in answer.json().get("detail", "")


async def test_keys_of_one_owner_are_few_and_made_slowly() -> None:
    """Section 3.2: within 3 s 429 `Slow down.`; the ninth live key 400; ended keys do not count."""
    async with an_installation() as it:
        first = await make(it)
        fast = await it.client.post("/v1/keys", json=a_request(), headers=CLI)
        other = await it.client.post("/v1/keys", json=a_request(), headers=CLI | {"Key-Issuer-Id": TASKS})
        for _ in range(7):
            it.clock.advance(3)
            await make(it)
        it.clock.advance(3)
        ninth = await it.client.post("/v1/keys", json=a_request(), headers=CLI)
        gone = await it.client.delete(f"/v1/keys/{first['id']}", headers=CLI)
        again = await it.client.post("/v1/keys", json=a_request(), headers=CLI)

    assert (fast.status_code, fast.json()["detail"], other.status_code) == (429, "Slow down.", 200)
    assert (ninth.status_code, gone.status_code, again.status_code) == (400, 204, 200)
    assert ninth.json()["detail"] == "Actor reached maximum allowed number of keys in service"


async def test_an_evaluation_returns_the_first_policy_of_the_service() -> None:
    """Check 7: of two policies with one aud the first, verbatim; other auds are ignored; each namespace has its own."""
    async with an_installation() as it:
        other = a_policy("someone-else", scopes=["account_setup"])
        first, second = a_policy(scopes=["list_functions"]), a_policy(scopes=["deploy_function"])
        made = await make(it, other, first, second)
        allowed = await evaluation(it, made["value"])
        path = EVALUATE.replace("/nvcf/", "/nvct/")
        in_tasks = await it.client.post(path, json={"input": {"apiKey": made["value"]}})
        listing = await it.client.get("/v2/nvcf/functions", headers=bearer(made["value"]))
        accounts = await it.client.get("/v2/nvcf/accounts", headers=bearer(made["value"]))

    assert allowed.json() == {
        "namespace": "nvcf",
        "rule_name": "apikey.allow",
        "result": {"allowed": True, "ncaId": "nvcf-default", "ownerId": USER, "policy": first},
    }
    assert allowed.headers["Cache-Control"] == "max-age=60"
    assert in_tasks.json()["result"] == {"allowed": False}
    assert (listing.status_code, accounts.status_code) == (200, 403)


async def test_a_key_that_does_not_work_is_not_allowed_whatever_the_reason() -> None:
    """Check 8: expired, revoked, suspended, mistyped or unknown: 200 with allowed false, and never cached."""
    async with an_installation() as it:
        made = await make(it)
        await it.client.put(f"{ADMIN}/keys/{made['id']}/status", json={"status": "SUSPENDED"}, headers=CLI)
        suspended = await evaluation(it, made["value"])
        refused = await it.client.get("/v2/nvcf/functions", headers=bearer(made["value"]))
        await it.client.put(f"{ADMIN}/keys/{made['id']}/status", json={"status": "ACTIVE"}, headers=CLI)
        back = await evaluation(it, made["value"])
        mistyped = await evaluation(it, made["value"][:-1] + "!")
        it.clock.advance(86401)
        expired = await evaluation(it, made["value"])

    assert [a.json()["result"]["allowed"] for a in (suspended, back, mistyped, expired)] == [False, True, False, False]
    assert {a.headers["Cache-Control"] for a in (suspended, mistyped, expired)} == {"no-store"}
    assert refused.status_code == 403


async def test_no_scope_is_too_far_down_a_list_to_be_looked_at() -> None:
    """An evaluation shows the whole policy, so the whole of it is checked against what its maker may grant."""
    async with an_installation() as it:
        tenant = CLI | bearer(await it.a_key(scopes=["manage_keys"]))
        scopes = [""] * 300 + ["deploy_function"]
        refused = await it.client.post("/v1/keys", json=a_request(a_policy(scopes=scopes)), headers=tenant)
        resources: list[dict[str, str]] = [{}] * 300 + [{"type": "account-functions", "id": "*"}]
        limited = CLI | bearer(await it.a_key(scopes=["manage_keys"], resources=[]))
        policy = a_policy(scopes=[], resources=resources)
        beyond = await it.client.post("/v1/keys", json=a_request(policy), headers=limited)

    assert (refused.status_code, beyond.status_code) == (403, 403), (refused.text, beyond.text)


@pytest.mark.parametrize(
    ("path", "body", "detail"),
    [
        ("/v1/namespaces/nvcf/evaluations/invalid-policy", {"input": {"apiKey": "x"}}, "Rule name is not supported"),
        ("/v1/namespaces/elsewhere/evaluations/apikey.allow", {"input": {"apiKey": "x"}}, "namespace 'elsewhere'"),
        (EVALUATE, {"input": {}}, "Api key is not provided"),
        ("/v1/introspect", {"key": ""}, "api key empty"),
        ("/v1/introspect", {"key": "nvapi-short"}, "api key format invalid"),
        ("/v1/introspect", {"key": "nvapi-" + "a" * 57}, "Invalid key"),
    ],
)
async def test_questions_that_cannot_be_answered(path: str, body: dict[str, Any], detail: str) -> None:
    """Checks 2 and 9: 400 with the cause in the service's words."""
    async with an_installation() as it:
        answer = await it.client.post(path, json=body)

    assert answer.status_code == 400
    assert detail in answer.json()["detail"]
    assert answer.json()["type"] == "urn:nv-boot:problem-details:bad-request"


async def test_introspection_says_whose_key_it_is() -> None:
    """Section 3.5: for its audience; another one 400; what does not work 404, and that is not cached."""
    async with an_installation() as it:
        made = await make(it)
        ask = {"key": made["value"], "audience_service_id": FUNCTIONS}
        found = await it.client.post("/v1/introspect", json=ask)
        wrong = await it.client.post("/v1/introspect", json=ask | {"audience_service_id": TASKS})
        await it.client.delete(f"/v1/keys/{made['id']}", headers=CLI)
        gone = await it.client.post("/v1/introspect", json=ask)

    assert found.json() == {
        "owner_type": "USER",
        "owner_id": USER,
        "key_id": made["id"],
        "issuer_service_id": FUNCTIONS,
        "authorizations": {"policies": [a_policy()]},
    }
    assert found.headers["Cache-Control"] == "max-age=360"
    assert (wrong.status_code, wrong.json()["detail"]) == (400, "audience_service_id invalid")
    assert (gone.status_code, gone.json()["detail"]) == (404, "Key not found.")


async def test_only_three_changes_of_status_are_possible() -> None:
    """Check 6 and section 3.3: ACTIVE to SUSPENDED and back, EXPIRED to SUSPENDED; everything else 400."""
    async with an_installation() as it:
        made = await make(it)

        async def become(status: str) -> int:
            path = f"{ADMIN}/keys/{made['id']}/status"
            return (await it.client.put(path, json={"status": status}, headers=CLI)).status_code

        codes = [await become(s) for s in ("ACTIVE", "SUSPENDED", "SUSPENDED", "ACTIVE", "EXPIRED")]
        it.clock.advance(86401)
        codes += [await become(s) for s in ("ACTIVE", "SUSPENDED")]

    assert codes == [400, 200, 400, 200, 400, 400, 200]


async def test_authorizations_are_replaced_while_the_key_is_active() -> None:
    """Check 5: what the key grants changes at once; SUSPENDED and EXPIRED are 400 `Key is not active`."""
    async with an_installation() as it:
        made = await make(it)
        path = f"/v1/keys/{made['id']}/authorizations"
        less = {"authorizations": {"policies": [a_policy(scopes=["invoke_function"])]}}
        it.clock.advance(4)
        changed = await it.client.put(path, json=less, headers=CLI)
        listing = await it.client.get("/v2/nvcf/functions", headers=bearer(made["value"]))
        await it.client.put(f"{ADMIN}/keys/{made['id']}/status", json={"status": "SUSPENDED"}, headers=CLI)
        suspended = await it.client.put(path, json=less, headers=CLI)

    assert (changed.status_code, listing.status_code) == (200, 403)
    assert (suspended.status_code, suspended.json()["detail"]) == (400, "Key is not active")
    assert ("key", made["id"]) in it.hints


async def test_a_suspended_owner_has_no_key_that_works() -> None:
    """Check 10: own operations 403, introspection 404, the keys refused everywhere; active again, they work again."""
    async with an_installation() as it:
        made = await make(it)
        before = await it.client.get(f"/v1/admin/users/{USER}")
        await it.client.put(f"/v1/admin/users/{USER}/status", json={"status": "SUSPENDED"})
        own = await it.client.get("/v1/keys", headers=CLI)
        ask = {"key": made["value"], "audience_service_id": FUNCTIONS}
        seen = await it.client.post("/v1/introspect", json=ask)
        used = await it.client.get("/v2/nvcf/functions", headers=bearer(made["value"]))
        back = await it.client.put(f"/v1/admin/users/{USER}/status", json={"status": "ACTIVE"})
        again = await it.client.get("/v2/nvcf/functions", headers=bearer(made["value"]))

    assert before.json() == {"owner_type": "USER", "owner_id": USER, "status": "ACTIVE"}
    assert (own.status_code, seen.status_code, used.status_code) == (403, 404, 403)
    assert back.json()["status_updated_at"]
    assert again.status_code == 200


async def test_all_keys_of_a_user_are_suspended_or_deleted() -> None:
    """Check 11: suspend answers with those that were active, then with none; delete ends all services' keys."""
    async with an_installation() as it:
        first = await make(it)
        task_headers = CLI | {"Key-Issuer-Id": TASKS}
        second = (await it.client.post("/v1/keys", json=a_request(), headers=task_headers)).json()
        once = await it.client.put(f"{ADMIN}/suspend", headers=CLI)
        twice = await it.client.put(f"{ADMIN}/suspend", headers=CLI)
        everything = await it.client.get(f"/v1/admin/users/{USER}/keys")
        gone = await it.client.delete(f"/v1/admin/users/{USER}/keys")
        left = await it.client.get(f"/v1/admin/users/{USER}/keys")

    assert [k["id"] for k in once.json()["keys"]] == [first["id"]]
    assert twice.json() == left.json() == {"keys": []}
    assert {k["id"] for k in everything.json()["keys"]} == {first["id"], second["id"]}
    assert gone.status_code == 204


async def test_nobody_grants_more_than_they_have() -> None:
    """Whoever lacks a scope makes no key that has it; unknown scopes and forms are kept and grant nothing."""
    async with an_installation() as it:
        fid, vid = await it.a_function()
        weak = CLI | bearer(await it.a_key(scopes=["manage_keys", "list_functions"]))
        more = await it.client.post("/v1/keys", json=a_request(), headers=weak)
        own = a_policy(scopes=["list_functions", "unheard_of"], resources=[{"type": "function", "id": "*"}])
        same = await it.client.post("/v1/keys", json=a_request(own), headers=weak)
        seen = await it.client.get("/v2/nvcf/functions", headers=bearer(same.json()["value"]))
        foreign = await it.client.get(f"/v1/keys/{same.json()['id']}", headers=CLI | bearer(await _tenant(it)))

    assert (more.status_code, same.status_code) == (403, 200)
    assert seen.json() == {"functions": []}
    assert foreign.status_code == 404
    assert json.dumps(same.json()["authorizations"]).count("unheard_of") == 1
    assert fid != vid


async def _tenant(it: Installation) -> str:
    return await it.a_key(nca_id=OTHER_ACCOUNT)


async def test_the_services_and_lookup() -> None:
    """Section 3.1: both registrations with their limits; lookup finds a key by its value."""
    async with an_installation() as it:
        made = await make(it)
        services = (await it.client.get("/v1/services")).json()["services"]
        one = await it.client.get(f"/v1/services/{FUNCTIONS}")
        none = await it.client.get("/v1/services/none")
        found = await it.client.post("/v1/admin/lookup", json={"key": made["value"]})
        foreign = await it.client.post(
            "/v1/admin/lookup", json={"key": made["value"]}, headers=bearer(await _tenant_of_keys(it))
        )

    assert [s["service_name"] for s in services] == ["nvcf-api", "nvct-api"]
    assert one.json()["max_api_keys_per_user"] == 8
    assert (none.status_code, found.json()["id"], foreign.status_code) == (404, made["id"], 404)


async def _tenant_of_keys(it: Installation) -> str:
    return await it.a_key(nca_id=OTHER_ACCOUNT, scopes=["manage_keys"])
