"""What a signature alone does not make true: times, audiences, keys and algorithms of tokens."""

from __future__ import annotations

import json
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OctKey

from gpufn.auth.tokens import OWN_AUDIENCE, Issuer, Signer, new_keys, verify
from gpufn.model.errors import Unauthenticated

NOW = 1_800_000_000.0
KEY = ECKey.generate_key("P-256", {"kid": "k1", "use": "sig"})
PUBLIC = KeySet([KEY]).as_dict(private=False)
ISSUER = Issuer("https://idp.test", OWN_AUDIENCE, PUBLIC)
GOOD: dict[str, Any] = {"iss": ISSUER.name, "sub": "bot", "aud": [OWN_AUDIENCE], "scopes": [], "exp": NOW + 60}


def a_token(header: dict[str, Any] | None = None, key: Any = KEY, **claims: Any) -> str:
    """A token signed by the issuer; a claim of None is left out."""
    wanted = {name: value for name, value in (GOOD | claims).items() if value is not None}
    return jwt.encode({"alg": "ES256", "kid": "k1"} | (header or {}), wanted, key, algorithms=["ES256", "HS256"])


def test_a_good_token() -> None:
    """The token that the others differ from is valid."""
    assert verify(a_token(), {ISSUER.name: ISSUER}, now=NOW).client == "bot"


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": None},
        {"exp": NOW},
        {"exp": float("nan")},
        {"exp": float("inf")},
        {"exp": 10**400},
        {"exp": str(NOW + 60)},
        {"exp": True},
        {"nbf": NOW + 31},
        {"nbf": 10**400},
        {"aud": None},
        {"aud": ["s:other"]},
        {"aud": {OWN_AUDIENCE: 1}},
        {"sub": None},
        {"sub": ""},
        {"sub": "x" * 129},
        {"iss": "https://idp.test/"},
        {"iss": ["https://idp.test"]},
    ],
)
def test_claims_that_a_good_signature_does_not_save(claims: dict[str, Any]) -> None:
    """Each is 401, never an error of ours, whoever signed it: a time that is none ends nothing."""
    with pytest.raises(Unauthenticated):
        verify(a_token(**claims), {ISSUER.name: ISSUER}, now=NOW)


def test_only_our_own_tokens_name_an_api_key() -> None:
    """The audit log holds the key of a token: an issuer that we merely trust cannot put somebody's there."""
    signer = Signer(new_keys(), name="http://own.test")
    own = signer.issue("ncp", scopes=[], now=NOW, ttl=60, key_id="key-1")
    trusted = {ISSUER.name: ISSUER, signer.issuer.name: signer.issuer}

    assert verify(own, trusted, now=NOW).key_id == "key-1"
    assert verify(a_token(gpufn_key="key-1"), trusted, now=NOW).key_id is None


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ({"alg": "HS256"}, OctKey.import_key(json.dumps(PUBLIC))),
        ({"kid": "../../dev/null"}, ECKey.generate_key("P-256")),
        ({"jwk": ECKey.generate_key("P-256").as_dict(private=False)}, ECKey.generate_key("P-256")),
        ({"jku": "https://evil.test/jwks.json"}, ECKey.generate_key("P-256")),
    ],
)
def test_the_token_does_not_choose_its_key(header: dict[str, Any], key: Any) -> None:
    """The public key is no shared secret, and what the header points at is not looked at."""
    with pytest.raises(Unauthenticated):
        verify(a_token(header, key), {ISSUER.name: ISSUER}, now=NOW)
