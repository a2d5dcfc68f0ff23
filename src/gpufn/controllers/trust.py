"""Whose tokens are believed, and for which accounts clients act: kept up to date, and told to the gateways.

Keys of the loop: ``trust`` publishes what is known, an issuer's name reads that issuer's keys again. An issuer that
cannot be reached keeps the keys it had; one that never could is not believed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from gpufn.auth.tokens import Issuer
from gpufn.controllers.context import Context
from gpufn.runtime.controller import Controller
from gpufn.settings import ExternalIssuer
from gpufn.store import accounts
from gpufn.wire.feed import Trust, TrustedIssuer

TRUST = "trust"
REFRESH = 300.0
"""Seconds after which an issuer's keys are read again."""


class TrustLoop:
    """Publishes ``Trust`` to the feed."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._external = {one.issuer: one for one in context.external_issuers}
        self.controller = Controller(TRUST, self.reconcile, self.keys, workers=2, resync=context.settings.resync)

    async def keys(self) -> Sequence[str]:
        """What is known, and the issuers whose keys were never read."""
        return (TRUST, *(name for name in self._external if name not in self._context.issuers))

    async def reconcile(self, key: str) -> float | None:
        """Publish, or read one issuer's keys."""
        if key == TRUST:
            await self._publish()
            return None
        await self._read(self._external[key])
        self.controller.hint(TRUST)
        return REFRESH

    def hint_client(self, client_id: str) -> None:
        """A client was associated or parted."""
        self.controller.hint(TRUST)

    async def _read(self, external: ExternalIssuer) -> None:
        self._context.issuers[external.issuer] = Issuer(
            name=external.issuer,
            audience=external.audience,
            keys=await self._context.fetch_keys(external.issuer, external.jwks_url),
            scopes_claim=external.scopes_claim,
            nca_id=external.account,
            admin=external.admin,
        )

    async def _publish(self) -> None:
        clients = await self._context.db.run(accounts.every_client)
        issuers = [*self._context.issuers.values()]
        if self._context.own_issuer is not None:
            issuers.append(self._context.own_issuer)
        others: defaultdict[str, dict[str, str]] = defaultdict(dict)
        for client in clients:
            if client.issuer:
                others[client.issuer][client.client_id] = client.nca_id
        message = Trust(
            issuers=tuple(TrustedIssuer(**vars(issuer)) for issuer in issuers),
            clients={client.client_id: client.nca_id for client in clients if not client.issuer},
            others=others,
        )
        self._context.feed.publish(TRUST, message)
