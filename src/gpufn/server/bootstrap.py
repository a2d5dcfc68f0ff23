"""First boot: the default account and the admin key."""

from __future__ import annotations

from gpufn.auth.keys import digest, mint
from gpufn.model.access import ALL_FUNCTIONS, USER_SCOPES
from gpufn.model.ids import DEFAULT_ACCOUNT
from gpufn.runtime.clock import utc_now
from gpufn.server.data import DataDirectory, write
from gpufn.store import accounts, keys
from gpufn.store.database import Database


async def ensure_admin(db: Database, data: DataDirectory) -> bool:
    """See that the account exists and ``admin.key`` holds a valid key of it; True when the key is new.

    Whoever may read the data directory is its admin, so a key that was lost or revoked is replaced.
    """
    now, pepper = utc_now(), data.pepper()
    await db.run(lambda tx: accounts.ensure(tx, accounts.Account(DEFAULT_ACCOUNT, str(DEFAULT_ACCOUNT), now)))
    if data.admin_key.exists():
        held = digest(pepper, data.admin_key.read_bytes().strip())
        key = await db.run(lambda tx: keys.by_digest(tx, held))
        if key is not None and key.is_valid(now):
            return False
    key, value = mint(
        pepper=pepper,
        nca_id=DEFAULT_ACCOUNT,
        owner="admin",
        description="the key of this installation's owner",
        scopes=USER_SCOPES,
        resources=ALL_FUNCTIONS,
        now=now,
    )
    # The file first: a key on disk that the database lacks is replaced at the next start, the reverse would be lost.
    write(data.admin_key, value.encode() + b"\n")
    await db.run(lambda tx: keys.insert(tx, key))
    return True
