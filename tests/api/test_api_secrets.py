"""Secrets of versions on the wire (control-plane page, section 10; checks 18, 25 and 47)."""

from __future__ import annotations

from typing import Any

import pytest
from api_building import OTHER_ACCOUNT, RANDOM_ID, a_body, an_installation, bearer, version_path

from gpufn.auth.keyring import Keyring
from gpufn.model.access import Resource
from gpufn.model.ids import DEFAULT_ACCOUNT
from gpufn.model.secret import SealedSecret, version_place
from gpufn.store import secrets

CANARY = "canary-4711"


def path(fid: str, vid: str) -> str:
    return f"/v2/nvcf/secrets/functions/{fid}/versions/{vid}"


def body(*names: str, value: Any = CANARY) -> dict[str, Any]:
    return {"secrets": [{"name": name, "value": value} for name in names]}


async def stored(here: Any, vid: str) -> list[SealedSecret]:
    """The rows of a version."""
    found: list[SealedSecret] = await here.context.db.run(
        lambda tx: secrets.in_place(tx, version_place(DEFAULT_ACCOUNT, vid))
    )
    return found


async def test_secrets_at_creation_are_named_and_never_shown() -> None:
    """Check 18: the create response lists names; no later answer holds a value."""
    async with an_installation() as here:
        made = await here.client.post("/v2/nvcf/functions", json=a_body(**body("secret1")))
        function = made.json()["function"]
        at = version_path(function["id"], function["versionId"])
        answers = [made, await here.client.get(at), await here.client.get("/v2/nvcf/functions")]

        assert function["secrets"] == ["secret1"]
        assert [CANARY in a.text for a in answers] == [False, False, False]
        assert here.context.keyring.open((await stored(here, function["versionId"]))[0]).value == CANARY


async def test_names_are_shown_with_details_and_only_there() -> None:
    """Check 25: with list_functions_details, unless includeSecrets=false; never in a list."""
    async with an_installation() as here:
        fid, vid = await here.a_function(**body("b", "a"))
        plain = bearer(await here.a_key(scopes=["list_functions"]))

        assert (await here.client.get(version_path(fid, vid))).json()["function"]["secrets"] == ["a", "b"]
        for answer in (
            await here.client.get(version_path(fid, vid), params={"includeSecrets": "false"}),
            await here.client.get(version_path(fid, vid), headers=plain),
        ):
            assert "secrets" not in answer.json()["function"]
        assert "secrets" not in (await here.client.get("/v2/nvcf/functions")).json()["functions"][0]


@pytest.mark.parametrize(
    "bad",
    [
        body("secret1", "secret1"),
        body("secret1", value=""),
        body("secret1", value="   "),
        body("secret1", value=7),
        body("secret1", value=None),
        body("secret1", value="x" * 32769),
        body("secret1", value={"a": "x" * 32769}),
        body("x" * 49),
        body("*secret1*"),
        body(""),
        {"secrets": [{"name": "a"}]},
    ],
)
async def test_bad_secrets_are_refused_at_creation_and_by_put(bad: dict[str, Any]) -> None:
    """Checks 18 and 47, 400 in both places."""
    async with an_installation() as here:
        fid, vid = await here.a_function()

        assert (await here.client.post("/v2/nvcf/functions", json=a_body(**bad))).status_code == 400
        assert (await here.client.put(path(fid, vid), json=bad)).status_code == 400
        assert await stored(here, vid) == []


async def test_a_refusal_does_not_repeat_the_value() -> None:
    """What is wrong is named; what was sent is not in the answer."""
    async with an_installation() as here:
        fid, vid = await here.a_function()

        for sent in (body("a", value=CANARY * 4000), {"secrets": CANARY}, [CANARY], {"secrets": [CANARY]}):
            answer = await here.client.put(path(fid, vid), json=sent)

            assert answer.status_code == 400
            assert CANARY not in answer.text


@pytest.mark.parametrize("names", [("a.b-c_d",), ("secret1", "Secret1"), ("x" * 48,)])
async def test_put_adds_secrets(names: tuple[str, ...]) -> None:
    """Check 47: dots, dashes and underscores; names differ by case; 48 characters."""
    async with an_installation() as here:
        fid, vid = await here.a_function()

        answer = await here.client.put(path(fid, vid), json=body(*names))

        assert (answer.status_code, answer.content) == (204, b"")
        assert {s.name for s in await stored(here, vid)} == set(names)
        assert ("secret", vid) in here.hints


async def test_put_merges_by_name() -> None:
    """A listed name is overwritten, others stay as they are; text and objects."""
    async with an_installation() as here:
        fid, vid = await here.a_function(**body("a", "b", value="old"))

        await here.client.put(path(fid, vid), json=body("b", "c", value={"user": "u", "key": "k"}))

        opened = {s.name: here.context.keyring.open(s).value for s in await stored(here, vid)}
        new = {"user": "u", "key": "k"}
        assert opened == {"a": "old", "b": new, "c": new}


async def test_put_refusals() -> None:
    """Check 47: an empty or missing list 400, another account's version 404, out of reach or no scope 403."""
    async with an_installation() as here:
        fid, vid = await here.a_function()
        other = bearer(await here.a_key(nca_id=OTHER_ACCOUNT))
        narrow = bearer(await here.a_key(resources=[Resource("function", f"{RANDOM_ID}/*")]))
        no_scope = bearer(await here.a_key(scopes=["update_function"]))

        async def status(sent: Any = None, at: str = path(fid, vid), **options: Any) -> int:
            return (await here.client.put(at, json=body("a") if sent is None else sent, **options)).status_code

        assert await status({"secrets": None}) == 400
        assert await status({"secrets": []}) == 400
        assert await status(at=path(fid, RANDOM_ID)) == 404
        assert await status(headers=other) == 404
        assert await status(headers=narrow) == 403
        assert await status(headers=no_scope) == 403


async def test_the_first_secrets_need_an_inactive_version() -> None:
    """A deployed version without secrets refuses them (400); one that has some takes more."""
    async with an_installation() as here:
        fid, vid, _ = await here.a_deployment()
        fid2, vid2, _ = await here.a_deployment(**body("a"))

        refused = await here.client.put(path(fid, vid), json=body("a"))

        assert refused.status_code == 400
        assert "INACTIVE" in refused.json()["detail"]
        assert (await here.client.put(path(fid2, vid2), json=body("b"))).status_code == 204


async def test_one_version_holds_a_bounded_number() -> None:
    """Merging cannot grow without end."""
    async with an_installation() as here:
        fid, vid = await here.a_function(**body(*(f"a{n}" for n in range(256))))

        refused = await here.client.put(path(fid, vid), json=body("more"))

        assert refused.status_code == 400
        assert "256" in refused.json()["detail"]


async def test_secrets_go_with_their_version() -> None:
    """Nothing is left of them after DELETE."""
    async with an_installation() as here:
        fid, vid = await here.a_function(**body("a"))

        await here.client.delete(version_path(fid, vid))

        assert await stored(here, vid) == []


async def test_rotation_wraps_every_secret_under_the_new_key() -> None:
    """It needs scope account_setup, tells how many there were, and none is lost."""
    async with an_installation() as here:
        _, vid = await here.a_function(**body("a", "b"))
        before = await stored(here, vid)
        ring: Keyring = here.context.keyring
        weak = bearer(await here.a_key(scopes=["update_secrets"]))

        assert (await here.client.post("/v2/gpufn/master-key/rotate", headers=weak)).status_code == 403
        answer = (await here.client.post("/v2/gpufn/master-key/rotate")).json()

        after = await stored(here, vid)
        assert answer == {"masterKeyId": ring.newest, "secrets": 2}
        assert {s.master for s in after} == {ring.newest} != {s.master for s in before}
        assert [ring.open(s).value for s in after] == [CANARY, CANARY]
