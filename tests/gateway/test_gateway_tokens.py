"""Tokens at the gateway: verified with what control says, worth nothing when it says otherwise."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from gateway_world import ABSENT, PINNED, F, V, World, a_key, a_world, revoked

from gpufn.auth.tokens import Assertion, Signer, new_keys
from gpufn.wire.feed import Trust, TrustedIssuer

SIGNER = Signer(new_keys(), name="http://api.test")


def a_trust(*, clients: dict[str, str] | None = None, **changes: Any) -> Trust:
    issuer = TrustedIssuer(**(vars(SIGNER.issuer) | changes))
    return Trust(issuers=(issuer,), clients={"bot": "nvcf-default"} if clients is None else clients)


def bearer(*, client: str = "bot", scopes: tuple[str, ...] = ("invoke_function",), **given: Any) -> dict[str, str]:
    token = SIGNER.issue(client, scopes=scopes, now=time.time(), ttl=given.pop("ttl", 60.0), **given)
    return {"Authorization": f"Bearer {token}"}


async def trusting(world: World, trust: Trust) -> None:
    world.control.publish("trust", trust)
    await world.settled()


async def test_a_token_invokes_in_the_account_of_its_client() -> None:
    """The instance is told the client and the account; the second call needs no signature to be checked."""
    async with a_world() as world:
        server = await world.instance()
        await world.deploy(server)
        await trusting(world, a_trust())
        headers = bearer()
        codes = [(await world.call("POST", PINNED, headers)).status for _ in range(2)]

    assert codes == [200, 200]
    assert (server.seen[0].one("NVCF-SUB"), server.seen[0].one("NVCF-NCAID")) == ("bot", "nvcf-default")


async def test_what_a_token_lacks() -> None:
    """No scope 403, expired 401, a client of no account 404, an untrusted issuer or a mangled token 401."""
    async with a_world() as world:
        await world.deploy(await world.instance())
        early = await world.call("POST", PINNED, bearer())
        await trusting(world, a_trust())
        found = [
            await world.call("POST", PINNED, headers)
            for headers in (
                bearer(scopes=("list_functions",)),
                bearer(ttl=-1.0),
                bearer(client="stranger"),
                {"Authorization": "Bearer a.b.c"},
                {"Authorization": bearer()["Authorization"][:-6] + "AAAAAA"},
                {"Authorization": "Bearer " + "a." * 5000},
            )
        ]

    assert early.status == 401
    assert [f.status for f in found] == [403, 401, 404, 401, 401, 401]
    assert json.loads(found[0].body)["detail"] == "missing requested authorities"


async def test_what_is_revoked_is_refused_though_it_was_remembered() -> None:
    """The key a token was made with, its client, its issuer: each of them gone is the end of the token."""
    async with a_world() as world:
        await world.deploy(await world.instance())
        await trusting(world, a_trust())
        world.control.publish("k2", a_key("nvapi-second"))
        await world.settled()
        bound, free = bearer(key_id="id-nvapi-second"), bearer()
        before = [(await world.call("POST", PINNED, h)).status for h in (bound, free)]
        world.control.publish("k2", revoked("nvapi-second"))
        await world.settled()
        after_key = [(await world.call("POST", PINNED, h)).status for h in (bound, free)]
        await trusting(world, a_trust(clients={}))
        after_client = (await world.call("POST", PINNED, free)).status
        await trusting(world, a_trust(keys=Signer(new_keys(), name="x").issuer.keys))
        after_issuer = (await world.call("POST", PINNED, free)).status

    assert (before, after_key, after_client, after_issuer) == ([200, 200], [401, 200], 404, 401)


@pytest.mark.parametrize("algorithms", [("RS256",), ("ES256",)])
async def test_only_agreed_algorithms_are_looked_at(algorithms: tuple[str, ...]) -> None:
    """A good signature of another kind than agreed is no signature."""
    async with a_world() as world:
        await world.deploy(await world.instance())
        await trusting(world, a_trust(algorithms=algorithms))
        found = await world.call("POST", PINNED, bearer())

    assert found.status == (200 if algorithms == ("ES256",) else 401)


def delegated(*intended: tuple[str, str], nca_id: str = "nvcf-default", **given: Any) -> dict[str, str]:
    assertion = Assertion(nca_id, "end-user", frozenset(intended))
    token = SIGNER.delegate("someone", assertion, now=time.time(), ttl=given.pop("ttl", 60.0), **given)
    return {"Authorization": f"Bearer {token}"}


async def test_a_delegated_token_invokes_what_it_was_made_for() -> None:
    """That function or that version, under the name of its holder; everything else, public or not, is 403."""
    async with a_world() as world:
        server = await world.instance()
        await world.deploy(server)
        await trusting(world, a_trust())
        good = [delegated((F, "")), delegated((F, V)), delegated((F, ABSENT), (F, V))]
        bad = [delegated(), delegated((ABSENT, "")), delegated((F, ABSENT))]
        codes = [[(await world.call("POST", PINNED, h)).status for h in each] for each in (good, bad)]
        late = (await world.call("POST", PINNED, delegated((F, ""), ttl=-1.0))).status
        await world.deploy(server, parties=("*",))
        public = [(await world.call("POST", PINNED, h)).status for h in bad]
        foreign = (await world.call("POST", PINNED, delegated((F, ""), nca_id="other"))).status

    assert codes == [[200] * 3, [403] * 3]
    assert (late, public, foreign) == (401, [403] * 3, 200)
    assert server.seen[0].one("NVCF-SUB") == "end-user"


async def test_a_delegated_token_is_worth_no_more_than_its_key() -> None:
    """What the key may not do now its tokens may not, and they end with it."""
    async with a_world() as world:
        await world.deploy(await world.instance())
        await trusting(world, a_trust())
        codes = []
        for changes in ({}, {"scopes": ("list_functions",)}, {"resources": (("function", f"{ABSENT}/*"),)}, {}):
            world.control.publish("k2", a_key("nvapi-second").model_copy(update=changes))
            await world.settled()
            token = delegated((F, ""), key_id="id-nvapi-second")
            codes.append((await world.call("POST", PINNED, token)).status)
        world.control.publish("k2", revoked("nvapi-second"))
        await world.settled()
        codes.append((await world.call("POST", PINNED, token)).status)

    assert codes == [200, 403, 403, 200, 401]


@pytest.mark.parametrize("changes", [{"own": False}, {"own": False, "audience": "nvcf-api"}])
async def test_only_our_own_assertions_are_believed(changes: dict[str, Any]) -> None:
    """Whoever else signs one says nothing about our accounts: it is 401, or a token like any other."""
    async with a_world() as world:
        await world.deploy(await world.instance())
        await trusting(world, a_trust(**changes, clients={}))
        answer = await world.call("POST", PINNED, delegated((F, "")))

    assert answer.status in (401, 404)


async def test_a_client_is_known_by_its_issuer_too() -> None:
    """The same name in another issuer's token acts for the account that was given to that one, or for none."""
    other = Signer(new_keys(), name="https://idp.test")
    async with a_world() as world:
        await world.deploy(await world.instance())
        issuers = (
            TrustedIssuer(**vars(SIGNER.issuer)),
            TrustedIssuer(**(vars(other.issuer) | {"own": False, "admin": False})),
        )
        token = other.issue("bot", scopes=("invoke_function",), now=time.time(), ttl=60.0)
        codes = []
        for clients in ({}, {"bot": "other"}, {"bot": "nvcf-default"}):
            trust = Trust(issuers=issuers, clients={"bot": "nvcf-default"}, others={"https://idp.test": clients})
            await trusting(world, trust)
            theirs = (await world.call("POST", PINNED, {"Authorization": f"Bearer {token}"})).status
            codes.append((theirs, (await world.call("POST", PINNED, bearer())).status))

    assert codes == [(404, 200), (404, 200), (200, 200)]
