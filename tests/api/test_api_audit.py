"""The audit log: what is recorded, what is not, and who may read it."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from api_building import OTHER_ACCOUNT, Installation, a_body, an_installation, bearer, version_path

from gpufn.model.access import USER_SCOPES
from gpufn.model.audit import broken
from gpufn.store.database import Transaction
from gpufn.wire.audit import AuditDto

AUDIT = "/v2/gpufn/audit"


async def records(it: Installation, query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await it.client.get(AUDIT + query)).json()["records"]
    return found


async def test_changes_are_recorded_with_who_where_and_how_they_ended() -> None:
    """Successes and refusals alike, with the account worked in; reads and questions are not; no body is kept."""
    async with an_installation() as it:
        fid, vid = await it.a_function(description="a-secret-word")
        await it.client.get(version_path(fid, vid))
        powerless = bearer(await it.a_key(scopes=[]))
        await it.client.delete(version_path(fid, vid), headers=powerless)
        await it.client.post("/v1/introspect", json={"key": "nvapi-" + "a" * 57})
        admin = bearer(it.a_token())
        path = f"/v2/nvcf/accounts/{OTHER_ACCOUNT}/functions"
        await it.client.post(path, json=a_body(), headers=admin)
        await it.client.post("/v2/nvcf/functions", json=a_body(), headers={"Authorization": ""})
        found = await records(it)

    shown = [(r["seq"], r["method"], r["path"], r["status"], r["ncaId"], r["subject"]) for r in found]
    assert shown == [
        (1, "POST", "/v2/nvcf/functions", 200, "nvcf-default", "admin"),
        (2, "DELETE", version_path(fid, vid), 403, "nvcf-default", "someone"),
        (3, "POST", path, 200, OTHER_ACCOUNT, "ncp"),
    ]
    assert found[0]["keyId"] == it.key.id
    assert "a-secret-word" not in str(found)
    assert broken([AuditDto.model_validate(r).to_model() for r in found]) is None


async def test_the_log_is_read_in_pages_by_the_installations_admin_alone() -> None:
    """after and limit; other keys 403, however many scopes of their account they have."""
    async with an_installation() as it:
        for _ in range(5):
            await it.a_function()
        page = await records(it, "?after=2&limit=2")
        tenant = bearer(await it.a_key(scopes=[s for s in USER_SCOPES if s != "account_setup"]))
        denied = await it.client.get(AUDIT, headers=tenant)
        much = await it.client.get(AUDIT + "?limit=1001")

    assert [r["seq"] for r in page] == [3, 4]
    assert (denied.status_code, much.status_code) == (403, 400)


async def test_a_change_in_the_database_is_found() -> None:
    """Who edits a row behind our back breaks the chain at that row."""
    async with an_installation() as it:
        for _ in range(3):
            await it.a_function()

        def edit(tx: Transaction) -> None:
            tx.execute(sa.text("UPDATE audit SET subject = 'nobody' WHERE seq = 2"))

        await it.context.db.run(edit)
        found = [AuditDto.model_validate(r).to_model() for r in await records(it)]

    assert "record 2" in (broken(found) or "")


async def test_no_answer_without_a_record() -> None:
    """When the record cannot be written the caller is told so with 503, not that all is well."""
    async with an_installation() as it:
        await it.context.db.run(lambda tx: tx.execute(sa.text("ALTER TABLE audit RENAME TO gone")))
        answer = await it.client.post("/v2/nvcf/functions", json=a_body())

    assert answer.status_code == 503


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_the_log_cannot_be_changed_over_http(method: str) -> None:
    """There is no route that writes or removes records."""
    async with an_installation() as it:
        answer = await it.client.request(method, AUDIT)

    assert answer.status_code == 405
