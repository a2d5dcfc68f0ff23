"""Tokens that are no API keys, as a gateway sees them: verified once, then remembered until anything changes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from gpufn.auth.tokens import Claims, Issuer, verify
from gpufn.gateway.problems import Refused, problem
from gpufn.model.errors import Unauthenticated
from gpufn.wire.feed import Trust, TrustedIssuer

REMEMBERED_MAX = 4096
"""Tokens whose signature is not looked at again."""
TOKEN_MAX = 8192
"""Longest token looked at, in bytes."""


class Tokens:
    """Who is believed, and which tokens were found valid."""

    def __init__(self) -> None:
        self._issuers: dict[str, Issuer] = {}
        self._clients: dict[tuple[str, str], str] = {}
        self._found: OrderedDict[bytes, Claims] = OrderedDict()

    def learn(self, trust: Trust) -> None:
        """Take what control says; what was found before is looked at again."""
        names = TrustedIssuer.model_fields
        self._issuers = {one.name: Issuer(**{n: getattr(one, n) for n in names}) for one in trust.issuers}
        self._clients = {("", client): nca_id for client, nca_id in trust.clients.items()}
        for issuer, clients in trust.others.items():
            self._clients |= {(issuer, client): nca_id for client, nca_id in clients.items()}
        self._found.clear()

    def claims(self, token: bytes, *, digest: bytes, now: float, holds: Callable[[str], bool]) -> tuple[Claims, str]:
        """What the token says, and the account it acts for. ``holds`` tells whether an API key is valid.

        Raises Refused: 401 for what is no valid token, 404 for a client that acts for nobody.
        """
        claims = self._found.get(digest) or self._verified(token, digest, now)
        if claims.expires_at <= now:
            raise Refused(problem(401, "the token has expired; ask for a fresh one"))
        if claims.key_id is not None and not holds(claims.key_id):
            raise Refused(problem(401, "the API key that this token was made with was revoked; use another one"))
        nca_id = claims.nca_id or self._clients.get((claims.issuer, claims.client), "")
        if not nca_id:
            raise Refused(problem(404, f"Client '{claims.client}': Not found"))
        return claims, nca_id

    def _verified(self, token: bytes, digest: bytes, now: float) -> Claims:
        if len(token) > TOKEN_MAX:
            raise Refused(problem(401, f"the token is longer than {TOKEN_MAX} bytes"))
        try:
            claims = verify(token.decode("latin-1"), self._issuers, now=now)
        except Unauthenticated as error:
            raise Refused(problem(401, error.message)) from error
        self._found[digest] = claims
        while len(self._found) > REMEMBERED_MAX:
            self._found.popitem(last=False)
        return claims
