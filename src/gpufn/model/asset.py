"""An asset: a file that a client uploads once and gives to invocations by its id."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

from gpufn.model.ids import AccountId, AssetId


@dataclass(frozen=True)
class Asset:
    """What is recorded of one. It exists for clients from ``uploaded_at`` on, until ``expires_at``."""

    id: AssetId
    nca_id: AccountId
    content_type: str
    description: str
    created_at: datetime
    expires_at: datetime
    size: int = 0
    """Bytes, as announced while the upload runs; what counts against the account."""
    uploaded_at: datetime | None = None

    def exists(self, now: datetime) -> bool:
        """Whether its bytes are there and it has not expired."""
        return self.uploaded_at is not None and now < self.expires_at


def object_key(nca_id: str, asset_id: str) -> str:
    """Where the bytes are kept. Who knows an id still needs its account: a key names both, and no text of a user."""
    return f"assets/{hashlib.sha256(nca_id.encode()).hexdigest()[:32]}/{asset_id}"
