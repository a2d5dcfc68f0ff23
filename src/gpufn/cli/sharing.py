"""``gpufn function share`` and ``unshare``: who else may invoke a function (control-plane page, section 9)."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from gpufn.cli import targets
from gpufn.cli.exits import Exit, Failed
from gpufn.cli.session import Run, Session
from gpufn.client.errors import Refused
from gpufn.client.reference import Reference

AUTHORIZATIONS = "/v2/nvcf/authorizations/functions"


def configure(verbs: Any) -> Iterator[tuple[argparse.ArgumentParser, Run]]:
    """Both verbs, and what runs them."""
    sharing = verbs.add_parser("share", help="let other accounts invoke a function; without accounts, show who may")
    _options(sharing)
    yield sharing, share
    unsharing = verbs.add_parser("unshare", help="let other accounts invoke a function no more")
    _options(unsharing)
    unsharing.add_argument("--all", action="store_true", help="every account")
    yield unsharing, unshare


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("function", metavar="NAME|ID[:VERSION]", help="every version, unless one is named")
    parser.add_argument("account", nargs="*", metavar="ACCOUNT", help="ncaId of the other account")


def share(session: Session) -> int:
    """Authorize accounts, then show everybody who may invoke each version."""
    path, shown = _paths(session)
    for account in session.args.account:
        _unless(409, partial(_add, session, path, account))
    return _show(session, shown)


def unshare(session: Session) -> int:
    """Withdraw accounts, then show who is left."""
    args = session.args
    if bool(args.account) == args.all:
        raise Failed(
            "say whom: one account or more, or --all", fix="see `gpufn function unshare --help`", exit=Exit.USAGE
        )
    path, shown = _paths(session)
    if args.all:
        session.client.send("DELETE", path)
    for account in args.account:
        session.client.send("PATCH", f"{path}/remove", {"authorizedParty": {"ncaId": account}})
    return _show(session, shown)


def _add(session: Session, path: str, account: str) -> None:
    """The first party is given with POST, every other one with PATCH (section 9)."""
    party = {"ncaId": account}
    if not _unless(404, lambda: session.client.send("PATCH", f"{path}/add", {"authorizedParty": party})):
        session.client.send("POST", path, {"authorizedParties": [party]})


def _unless(status: int, call: Callable[[], object]) -> bool:
    """Whether it worked; False when it was refused with that status."""
    try:
        call()
    except Refused as error:
        if error.status != status:
            raise
        return False
    return True


def _paths(session: Session) -> tuple[str, str]:
    """What is shared, and where everybody it is shared with can be read."""
    text = session.args.function
    found = targets.existing(session, text)
    whole = f"{AUTHORIZATIONS}/{found[0]['id']}"
    if not Reference.parse(text).version:
        return whole, whole
    if len(found) > 1:
        raise Failed(f"{text!r} has several versions", fix="write more of its version id", exit=Exit.USAGE)
    one = f"{AUTHORIZATIONS}/{targets.path_of(found[0])}"
    return one, one


def _show(session: Session, path: str) -> int:
    answer = session.client.get(path)
    if session.args.json:
        session.console.json(answer)
        return 0
    entries = answer["functions"] if "functions" in answer else [answer["function"]]
    rows = [(e["versionId"], " ".join(p["ncaId"] for p in e["authorizedParties"]) or "nobody") for e in entries]
    session.console.table(("VERSION", "SHARED WITH"), rows)
    return 0
