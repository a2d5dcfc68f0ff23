"""What can go wrong between a client and an installation. Each says the cause and, where there is one, the fix."""

from __future__ import annotations

import json


class ClientError(Exception):
    """A call that did not end well."""

    def __init__(self, cause: str, *, fix: str | None = None) -> None:
        super().__init__(cause)
        self.cause = cause
        self.fix = fix


class BadUrl(ClientError):
    """What was given as the URL of an installation is none."""


class NotRunning(ClientError):
    """There is no installation to talk to, or nothing answers where it should be."""


class TooSlow(ClientError):
    """The installation did not answer in time."""


class Refused(ClientError):
    """The installation answered, with a status that is not a success."""

    def __init__(self, cause: str, *, status: int, origin: str = "", fix: str | None = None) -> None:
        super().__init__(cause, fix=fix)
        self.status = status
        self.origin = origin
        """``type`` of the problem: says which part refused (invocation-plane page, section 6.1)."""


FIXES = {
    401: "check the key: --key, GPUFN_API_KEY, or the admin.key in the data directory",
    403: "use a valid key with the scope this needs; that of the installation is in admin.key of its data directory",
    503: "look at `gpufn status`; if control restarts, try again in a few seconds",
}


def refusal(status: int, reason: str, body: bytes) -> Refused:
    """Read a refusal off its body, in any of the dialects on the wire (RFC 7807, OpenAI's, plain text)."""
    cause, origin = _read(body)
    return Refused(cause or f"answered {status} {reason}".strip(), status=status, origin=origin, fix=FIXES.get(status))


def _read(body: bytes) -> tuple[str, str]:
    """The sentence for people, and the problem's ``type``."""
    text = body[:4096].decode(errors="replace").strip()
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return ("" if text.startswith("<") else text), ""
    if not isinstance(document, dict):
        return text, ""
    error = document.get("error")
    inner = error.get("message") if isinstance(error, dict) else error
    for found in (document.get("detail"), inner, document.get("title")):
        if isinstance(found, str) and found:
            return found, str(document.get("type", ""))
    return text, str(document.get("type", ""))
