"""Bearer tokens that are no API keys: JWTs of this installation, and of issuers it was told to trust.

Claims are the reference's (auth page, sections 5 and 6): ``sub`` is a client, which belongs to an account, and scopes
are a list. Only asymmetric signatures are looked at; which keys are good is told per issuer, whose name must match
exactly.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeyParameters, KeySet

from gpufn.model.access import ADMIN_SCOPES, SUPER_SCOPE, Intended
from gpufn.model.errors import Unauthenticated
from gpufn.model.ids import new_id

OWN_AUDIENCE = "s:api"
"""Who tokens of this installation are for."""
ALGORITHMS = ("ES256",)
OTHERS_ALGORITHMS = ("ES256", "ES384", "EdDSA", "RS256", "PS256")
"""What external issuers sign with; the reference knows ES256 only."""
INVOCATION_AUDIENCE = "nvcf-api"
"""Who invocation assertions are for: the first of ``aud`` (auth page, section 8)."""
INVOKE = "invoke_function"
LEEWAY = 30.0
"""Seconds by which clocks may differ."""
TIME_MAX = 2.0**53
"""Latest time that is one: neither infinite nor beyond what a float holds."""
CLAIMS_MAX = 128
"""Scopes looked at, and characters of a subject."""


@dataclass(frozen=True)
class Issuer:
    """Somebody whose tokens are believed."""

    name: str
    """``iss``, compared exactly."""
    audience: str
    """One of ``aud``."""
    keys: Mapping[str, Any] = field(repr=False)
    """Its public keys, as a JWK set."""
    algorithms: tuple[str, ...] = OTHERS_ALGORITHMS
    scopes_claim: str = "scopes"
    """Where the scopes are: a list, or a text with blanks between them."""
    nca_id: str = ""
    """The account of all its clients. Empty: the account that each client was associated with."""
    admin: bool = False
    """Whether it may grant scopes beyond one account."""
    own: bool = False
    """Whether it is this installation, whose tokens may name the API key they were made with."""


@dataclass(frozen=True)
class Claims:
    """What a valid token says."""

    client: str
    scopes: frozenset[str]
    expires_at: float
    """Seconds since the epoch."""
    nca_id: str = ""
    """The account, where the issuer stands for one."""
    key_id: str | None = None
    """The API key it was made with: it is worth nothing without it."""
    issuer: str = ""
    """Who made it; empty: this installation."""
    intended: frozenset[Intended] | None = None
    """Of an invocation assertion: the only functions it is good for."""


@dataclass(frozen=True)
class Assertion:
    """What an invocation assertion says: its holder invokes these functions, and nothing else, as the account does."""

    nca_id: str
    client: str
    """Who is to hold it; rates per user are counted by it."""
    intended: frozenset[Intended]


class Signer:
    """Makes tokens of this installation. Its file is a private JWK set: the first key signs, all are published, so a
    key is rotated by putting a new one in front.
    """

    def __init__(self, stored: str, *, name: str) -> None:
        """``stored``: the file's content; raises ValueError when it is not what ``new_keys`` makes."""
        try:
            self._keys = KeySet.import_key_set(json.loads(stored))
            self._signing = self._keys.keys[0]
            self._public: dict[str, Any] = dict(self._keys.as_dict(private=False))
            self._name = name
            self.issue("probe", scopes=(), now=0.0, ttl=0.0)
        except (JoseError, ValueError, KeyError, IndexError, TypeError) as error:
            raise ValueError(f"no set of private signing keys: {error}") from error

    @property
    def issuer(self) -> Issuer:
        """This installation, as an issuer to be believed."""
        return Issuer(self._name, OWN_AUDIENCE, self._public, algorithms=ALGORITHMS, admin=True, own=True)

    def issue(self, client: str, *, scopes: Sequence[str], now: float, ttl: float, key_id: str | None = None) -> str:
        """A token for ``client`` that ends ``ttl`` seconds after ``now``."""
        claims = {"sub": client, "azp": client, "aud": [client, OWN_AUDIENCE], "scopes": list(scopes)}
        return self._signed(claims, now=now, ttl=ttl, key_id=key_id)

    def delegate(self, caller: str, assertion: Assertion, *, now: float, ttl: float, key_id: str | None = None) -> str:
        """An invocation assertion that ``caller`` gives to a client of its own (auth page, section 8)."""
        functions = [{"functionId": f} | ({"functionVersionId": v} if v else {}) for f, v in sorted(assertion.intended)]
        told = {"ncaId": assertion.nca_id, "clientId": assertion.client, "intendedFunctions": functions}
        claims = {"sub": caller, "aud": INVOCATION_AUDIENCE, "assertion": told}
        return self._signed(claims, now=now, ttl=ttl, key_id=key_id)

    def _signed(self, claims: Mapping[str, Any], *, now: float, ttl: float, key_id: str | None) -> str:
        times = {"iss": self._name, "iat": int(now), "exp": int(now + ttl), "jti": new_id()}
        bound = {} if key_id is None else {"gpufn_key": key_id}
        return jwt.encode({"alg": "ES256", "kid": self._signing.kid}, {**claims, **times, **bound}, self._signing)


def new_keys() -> str:
    """The content of a fresh file of signing keys."""
    parameters: KeyParameters = {"kid": new_id(), "use": "sig", "alg": "ES256"}
    return json.dumps(KeySet([ECKey.generate_key("P-256", parameters)]).as_dict(private=True))


def verify(token: str, issuers: Mapping[str, Issuer], *, now: float) -> Claims:
    """What the token says, if one of ``issuers`` signed it and it is valid ``now``. Raises Unauthenticated."""
    issuer = issuers.get(_issuer_of(token))
    if issuer is None:
        raise _invalid("its issuer (iss) is not one that this installation trusts")
    try:
        claims = jwt.decode(token, KeySet.import_key_set(dict(issuer.keys)), algorithms=list(issuer.algorithms)).claims  # type: ignore[arg-type]
    except (JoseError, ValueError, KeyError, TypeError) as error:
        raise _invalid("its signature is not the issuer's") from error
    return _checked(claims, issuer, now)


def _issuer_of(token: str) -> str:
    """Who claims to have made it: nothing is believed yet."""
    try:
        claims = json.loads(jws.extract_compact(token.encode()).payload)
    except (JoseError, ValueError, RecursionError) as error:
        raise _invalid("it is neither an API key nor a JWT") from error
    name = claims.get("iss") if isinstance(claims, dict) else None
    return name if isinstance(name, str) else ""


def _checked(claims: Mapping[str, Any], issuer: Issuer, now: float) -> Claims:
    client, expires = claims.get("sub"), _time(claims.get("exp"))
    if now >= expires:
        raise _invalid("it has expired")
    if now + LEEWAY < _time(claims.get("nbf", 0)):
        raise _invalid("it is not valid yet")
    given = claims.get("aud")
    audiences = given if isinstance(given, list) else [given]
    key_id = claims.get("gpufn_key")
    bound = key_id if issuer.own and isinstance(key_id, str) else None
    if issuer.own and audiences[:1] == [INVOCATION_AUDIENCE]:
        return _asserted(claims, expires, bound)
    if issuer.audience not in audiences:
        raise _invalid(f"its audience (aud) is not '{issuer.audience}'")
    if not isinstance(client, str) or not 0 < len(client) <= CLAIMS_MAX:
        raise _invalid("it has no subject (sub)")
    return Claims(
        client=client,
        scopes=_scopes(claims.get(issuer.scopes_claim), admin=issuer.admin),
        expires_at=expires,
        nca_id=issuer.nca_id,
        key_id=bound,
        issuer="" if issuer.own else issuer.name,
    )


def _asserted(claims: Mapping[str, Any], expires: float, key_id: str | None) -> Claims:
    """What one of our own invocation assertions says. Two entries for one function merge; one without a version means
    every version (control-plane page, section 15).
    """
    told = claims.get("assertion")
    if not isinstance(told, dict):
        raise _invalid("it asserts nothing")
    listed = [f for f in told.get("intendedFunctions") or [told] if isinstance(f, dict)]
    intended = frozenset(
        (str(f["functionId"]), str(f.get("functionVersionId") or "")) for f in listed if "functionId" in f
    )
    client, nca_id = told.get("clientId"), told.get("ncaId")
    if not (isinstance(client, str) and client.strip() and isinstance(nca_id, str) and nca_id):
        raise _invalid("it names no client, or no account")
    return Claims(client, frozenset((INVOKE,)), expires, nca_id, key_id, intended=intended)


def _scopes(value: object, *, admin: bool) -> frozenset[str]:
    given: Collection[object] = value.split() if isinstance(value, str) else value if isinstance(value, list) else ()
    scopes = frozenset(s for s in list(given)[:CLAIMS_MAX] if isinstance(s, str))
    return scopes if admin else scopes - {SUPER_SCOPE, *ADMIN_SCOPES}


def _time(value: object) -> float:
    """Seconds since the epoch."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= TIME_MAX:
        raise _invalid("its times (exp, nbf) are no numbers")
    return float(value)


def _invalid(why: str) -> Unauthenticated:
    return Unauthenticated(
        f"the bearer token is not valid: {why}; send an API key (nvapi-…) or a fresh token",
        challenge='Bearer error="invalid_token"',
    )
