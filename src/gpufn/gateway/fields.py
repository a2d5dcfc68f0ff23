"""Header fields by what the gateway does with them. All names in lower case.

A field in none of these sets is passed on as it came; parsing puts it aside at once, so that the common case costs
least.
"""

from __future__ import annotations

NOTED = frozenset(
    {
        b"host", b"content-length", b"transfer-encoding", b"connection", b"expect", b"authorization", b"accept",
        b"content-type", b"origin", b"function-id", b"function-version-id", b"nvcf-poll-seconds",
        b"nvcf-feature-disable-worker-compatibility", b"gpufn-invocation-id", b"nvcf-input-asset-references",
        b"access-control-request-method",
        b"access-control-request-headers", b"upgrade", b"sec-websocket-protocol",
    }
)  # fmt: skip
"""Request fields whose values the gateway acts upon."""
LISTS = frozenset(
    {
        b"connection",
        b"accept",
        b"access-control-request-headers",
        b"upgrade",
        b"sec-websocket-protocol",
        b"nvcf-input-asset-references",
    }
)
"""Those of them that may come in several lines; any other that does is refused."""
FRAMING = frozenset({b"content-length", b"transfer-encoding", b"connection"})
"""Response fields that the gateway acts upon."""
HOP_BY_HOP = frozenset(
    {
        b"connection", b"proxy-connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"te",
        b"trailer", b"transfer-encoding", b"upgrade",
    }
)  # fmt: skip
"""Never passed on, in either direction (invocation-plane page, section 5.2)."""
OWNED = frozenset(
    {
        b"nvcf-reqid", b"nvcf-sub", b"nvcf-ncaid", b"nvcf-function-id", b"nvcf-function-version-id",
        b"nvcf-function-name", b"nvcf-asset-dir", b"nvcf-large-output-dir", b"nvcf-max-response-size-bytes",
        b"nvcf-function-asset-ids", b"nvcf-backend", b"nvcf-instancetype", b"nvcf-region", b"nvcf-env",
        b"nvcf-nspectid", b"nvcf-invocation-region", b"nvcf-poll-seconds",
    }
)  # fmt: skip
"""Only the platform may set these on the way to an instance (section 10.2)."""
FORWARDED = frozenset(
    {b"forwarded", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port", b"x-real-ip"}
)
"""Only the gateway may tell control these: nobody stands before it whose word could be taken."""
SPECIAL_REQUEST = NOTED | HOP_BY_HOP | OWNED | FORWARDED
SPECIAL_RESPONSE = HOP_BY_HOP | {
    b"content-length", b"nvcf-reqid", b"nvcf-status", b"access-control-allow-origin",
    b"access-control-allow-credentials",
}  # fmt: skip
