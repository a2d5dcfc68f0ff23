"""Whose tokens are believed: read, published, and kept when an issuer is away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from control_world import BEGIN, a_context

from gpufn.auth.discovery import fetch_keys
from gpufn.auth.tokens import Signer, new_keys, verify
from gpufn.compute.fake import FakeBackend
from gpufn.controllers.context import Context
from gpufn.controllers.trust import REFRESH, TRUST, TrustLoop
from gpufn.model.account import Client
from gpufn.model.errors import Fatal, Unauthenticated, Unavailable
from gpufn.model.ids import DEFAULT_ACCOUNT
from gpufn.settings import ExternalIssuer, IdentitySettings, Settings, load_issuers
from gpufn.store import accounts
from gpufn.wire.feed import Trust

NAME = "https://login.example.com"


class Provider:
    """An issuer elsewhere: its present keys, or None while it is away."""

    def __init__(self) -> None:
        self.signer: Signer | None = Signer(new_keys(), name=NAME)

    async def fetch(self, issuer: str, jwks_url: str) -> Mapping[str, Any]:
        if self.signer is None:
            raise Unavailable("away")
        return self.signer.issuer.keys


def a_loop(context: Context, provider: Provider, **changes: Any) -> TrustLoop:
    external = ExternalIssuer(NAME, "s:api", **changes)
    return TrustLoop(replace(context, external_issuers=(external,), fetch_keys=provider.fetch))


def told(context: Context) -> Trust:
    message = context.feed.latest()[TRUST][1]
    assert isinstance(message, Trust)
    return message


@pytest.mark.looptime
async def test_an_issuer_is_believed_once_its_keys_are_known() -> None:
    """Before, its tokens are nobody's; after, the API believes them and gateways are told; they are read again."""
    context = a_context(FakeBackend())
    provider = Provider()
    loop = a_loop(context, provider, account="acme")
    assert provider.signer is not None
    token = provider.signer.issue("someone", scopes=["invoke_function", "admin:deploy_function"], now=0, ttl=60)
    with pytest.raises(Unauthenticated, match="trusts"):
        verify(token, context.issuers, now=1)
    listed = await loop.keys()
    again = await loop.reconcile(NAME)
    await loop.reconcile(TRUST)
    claims = verify(token, context.issuers, now=1)

    assert list(listed) == [TRUST, NAME]
    assert again == REFRESH
    assert (claims.client, claims.nca_id, claims.scopes) == ("someone", "acme", frozenset({"invoke_function"}))
    assert [i.name for i in told(context).issuers] == [NAME]


@pytest.mark.looptime
async def test_an_issuer_that_is_away_keeps_the_keys_it_had() -> None:
    """Static stability: reading fails, and what was known goes on being believed."""
    context = a_context(FakeBackend())
    provider = Provider()
    loop = a_loop(context, provider)
    await loop.reconcile(NAME)
    before = context.issuers[NAME]
    provider.signer = None
    with pytest.raises(Unavailable):
        await loop.reconcile(NAME)

    assert context.issuers[NAME] is before


@pytest.mark.looptime
async def test_gateways_hear_of_clients_that_come_and_go() -> None:
    """A hint is enough: the whole mapping is told anew."""
    context = a_context(FakeBackend())
    loop = TrustLoop(context)
    bots = [Client("bot", DEFAULT_ACCOUNT, BEGIN, issuer) for issuer in ("", NAME)]
    found = []
    for change in (accounts.add_client, accounts.remove_client):
        for bot in bots:
            await context.db.run(partial(change, client=bot))
        await loop.reconcile(TRUST)
        found.append((told(context).clients, told(context).others))

    assert found == [({"bot": "nvcf-default"}, {NAME: {"bot": "nvcf-default"}}), ({}, {})]


@pytest.mark.parametrize("url", ["http://login.example.com/jwks", "file:///etc/passwd", "nonsense"])
async def test_keys_are_read_over_https_only(url: str) -> None:
    """A URL that anybody on the way could answer is refused before anything is sent."""
    with pytest.raises(Unavailable, match="no https URL"):
        await fetch_keys(NAME, url)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[issuer]]\nissuer = 'x'\n", "cannot be read"),
        ("[[issuer]]\nissuer = 'x'\naudience = 'y'\nunheard = 1\n", "unheard"),
        ("[[issuer]]\nissuer = 'x'\naudience = ''\n", "audience"),
        ("[[issuer]]\nissuer = 'x'\naudience = 'y'\nadmin = 'yes'\n", "admin"),
        ("nonsense", "cannot be read"),
    ],
)
def test_a_file_that_is_not_understood_ends_the_start(tmp_path: Path, text: str, words: str) -> None:
    """The file, the issuer and what is wrong are named, with exit code 2."""
    (tmp_path / "issuers.toml").write_text(text)
    with pytest.raises(Fatal, match=words):
        load_issuers(Settings(data=tmp_path))


def test_the_file_of_issuers(tmp_path: Path) -> None:
    """Read from the data directory or where the setting says; none there is none; a named one must be there."""
    assert load_issuers(Settings(data=tmp_path)) == ()
    other = tmp_path / "other.toml"
    missing = Settings(data=tmp_path, identity=IdentitySettings(issuers=str(other)))
    with pytest.raises(Fatal, match="cannot be read"):
        load_issuers(missing)
    other.write_text("[[issuer]]\nissuer = 'x'\naudience = 'y'\naccount = 'acme'\n")
    assert load_issuers(missing) == (ExternalIssuer("x", "y", account="acme"),)


@pytest.mark.parametrize("direct", [True, False])
async def test_keys_are_found_where_the_issuer_says(direct: bool) -> None:
    """At the URL that is given, or at the jwks_uri of the OpenID configuration; a private half is never kept."""
    stored = new_keys()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        body = stored if b"GET /jwks " in head else json.dumps({"jwks_uri": f"{base}/jwks"})
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        keys = await fetch_keys(base, f"{base}/jwks" if direct else "")
    finally:
        server.close()
        await server.wait_closed()

    assert keys == Signer(stored, name="x").issuer.keys
    assert "d" not in keys["keys"][0]
