"""Strict HTTP/1.1 message heads, for requests and for responses.

Every line is accepted whole or refuses the head, so there is no state in which half of a head was believed: no bare
line feed, no folded line, no space before a colon, no control character. What two servers could read in two
ways (two lengths, a length and a transfer coding, another coding than ``chunked``) is refused (RFC 9112, sections 2.2,
6.1 and 11.2). Why this is not a library: docs/adr/0001-own-http1-head-parser.md.
"""

from __future__ import annotations

import re
from functools import lru_cache

from gpufn.gateway.fields import FRAMING, LISTS, NOTED, SPECIAL_REQUEST, SPECIAL_RESPONSE
from gpufn.gateway.lines import TOKEN, VALUE, Lines

REQUEST_LINE = re.compile(rb"(" + TOKEN + rb"{1,32}) ([\x21-\x7e]+) HTTP/1\.([01])")
STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: (" + VALUE + rb"*))?")
REQUEST_LINES = Lines(SPECIAL_REQUEST, NOTED)
RESPONSE_LINES = Lines(SPECIAL_RESPONSE, FRAMING)
ABSOLUTE = re.compile(rb"(?i:https?)://([^/?#@\\]+)(/[^#]*|\?[^#]*)?")
HOST = re.compile(rb"(?:[0-9A-Za-z](?:[0-9A-Za-z._-]*[0-9A-Za-z])?\.?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
BARE_LINE_FEED = re.compile(rb"(?<!\r)\n")
LENGTH_DIGITS = 18
HOST_MAX = 255
"""Longest host with its port, in bytes."""
END = [b"", b""]
"""What is left of a head after its last line."""
NOTHING: frozenset[bytes] = frozenset()


class BadMessage(Exception):
    """The bytes are not a message we accept; ``status`` is how a client is told."""

    def __init__(self, detail: str, status: int = 400) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status


class RequestHead:
    """A request line and its fields."""

    __slots__ = (
        "chunked",
        "expects",
        "keep_alive",
        "length",
        "method",
        "minor",
        "named",
        "plain",
        "special",
        "target",
        "values",
    )

    def __init__(self, method: bytes, target: bytes, minor: int) -> None:
        self.method = method
        self.target = target
        """Path and query as they came; the absolute form is reduced to this."""
        self.minor = minor
        self.plain: list[bytes] = []
        """Lines, without their ends, of fields that mean nothing here."""
        self.special: list[tuple[bytes, bytes]] = []
        """(name in lower case, line) of every other field."""
        self.values: dict[bytes, bytes] = {}
        """The trimmed values of the NOTED fields."""
        self.named: frozenset[bytes] = frozenset()
        """Fields that ``Connection`` declares to be for this hop only."""
        self.length = 0
        self.chunked = False
        self.keep_alive = minor == 1
        self.expects = False


class ResponseHead:
    """A status line and its fields."""

    __slots__ = ("chunked", "keep_alive", "length", "named", "plain", "reason", "special", "status")

    def __init__(self, status: int, reason: bytes, minor: int) -> None:
        self.status = status
        self.reason = reason
        self.plain: list[bytes] = []
        self.special: list[tuple[bytes, bytes]] = []
        self.named: frozenset[bytes] = frozenset()
        self.length: int | None = None
        self.chunked = False
        self.keep_alive = minor == 1


def head_end(data: bytes, limit: int) -> int:
    """Where the body begins, or -1 while the head is not complete. Raises BadMessage (431) beyond ``limit`` bytes."""
    end = data.find(b"\r\n\r\n")
    if end < 0 and BARE_LINE_FEED.search(data):
        raise BadMessage("a line of the request head ends without a carriage return")
    if (end if end >= 0 else len(data)) > limit:
        raise BadMessage(f"the request head is larger than {limit} bytes; send fewer or shorter headers", 431)
    return end + 4 if end >= 0 else -1


def parse_request(data: bytes, headers_max: int) -> RequestHead:
    """Read a complete head, up to and including its empty line. Raises BadMessage."""
    lines = data.split(b"\r\n")
    match = REQUEST_LINE.fullmatch(lines[0])
    if match is None or lines[-2:] != END:
        raise _why_not(data)
    if len(lines) > headers_max + 3:
        raise BadMessage(f"the request has more than {headers_max} header lines", 431)
    method, target, minor = match.groups()
    head = RequestHead(method, target, 1 if minor == b"1" else 0)
    values, plain, special, known = head.values, head.plain, head.special, REQUEST_LINES.known
    for line in lines[1:-2]:
        field = known.get(line) or REQUEST_LINES.read(line)
        if field is None:
            raise _why_not(data)
        if field.plain:
            plain.append(line)
            continue
        special.append(field.named)
        if field.noted:
            name = field.named[0]
            values[name] = field.value if name not in values else _merged(name, values[name], field.value)
    _request_framing(head)
    _request_target(head)
    return head


def parse_response(data: bytes, headers_max: int) -> ResponseHead:
    """Read a complete response head. Raises BadMessage."""
    lines = data.split(b"\r\n")
    match = STATUS_LINE.fullmatch(lines[0])
    if match is None or lines[-2:] != END:
        raise BadMessage("not an HTTP/1.1 response head", 502)
    if len(lines) > headers_max + 3:
        raise BadMessage(f"the response has more than {headers_max} header lines", 502)
    minor, status, reason = match.groups()
    head = ResponseHead(int(status), reason or b"", 1 if minor == b"1" else 0)
    values: dict[bytes, bytes] = {}
    plain, special, known = head.plain, head.special, RESPONSE_LINES.known
    for line in lines[1:-2]:
        field = known.get(line) or RESPONSE_LINES.read(line)
        if field is None:
            raise BadMessage("not an HTTP/1.1 response head", 502)
        if field.plain:
            plain.append(line)
            continue
        special.append(field.named)
        if field.noted:
            name = field.named[0]
            values[name] = field.value if name not in values else _merged(name, values[name], field.value)
    _response_framing(head, values)
    return head


def end_to_end(head: RequestHead | ResponseHead, drop: frozenset[bytes]) -> list[bytes]:
    """The lines to pass on: all but those in ``drop`` and those that ``Connection`` named."""
    named = head.named
    if named:
        drop = drop | named
        lines = [line for line in head.plain if line.partition(b":")[0].lower() not in named]
    else:
        lines = head.plain.copy()
    lines += [line for name, line in head.special if name not in drop]
    return lines


def _merged(name: bytes, first: bytes, second: bytes) -> bytes:
    if name not in LISTS:
        raise BadMessage(f"header {name.decode()} is given twice")
    return first + b"," + second


def _why_not(data: bytes) -> BadMessage:
    line, _, _ = data.partition(b"\r\n")
    version = re.search(rb" HTTP/([0-9]+(?:\.[0-9]+)?)$", line)
    if version and version[1] not in (b"1.0", b"1.1"):
        return BadMessage(f"HTTP/{version[1].decode()} is not spoken here; use HTTP/1.1", 505)
    return BadMessage("the request head is not valid HTTP/1.1")


def _request_framing(head: RequestHead) -> None:
    values = head.values
    if b"transfer-encoding" in values:
        if values[b"transfer-encoding"].lower() != b"chunked":
            raise BadMessage("Transfer-Encoding other than chunked is not supported", 501)
        if b"content-length" in values or head.minor == 0:
            raise BadMessage("Transfer-Encoding with Content-Length, or in HTTP/1.0, is ambiguous")
        head.chunked = True
        head.length = -1
    elif b"content-length" in values:
        head.length = _length(values[b"content-length"])
    if b"connection" in values:
        head.named, head.keep_alive = _connection(values[b"connection"], head.keep_alive)
    if b"expect" in values:
        if values[b"expect"].lower() != b"100-continue":
            raise BadMessage("Expect other than 100-continue cannot be met", 417)
        head.expects = head.minor == 1


def _response_framing(head: ResponseHead, values: dict[bytes, bytes]) -> None:
    if b"transfer-encoding" in values:
        if values[b"transfer-encoding"].lower() != b"chunked" or b"content-length" in values:
            raise BadMessage("the response's length is ambiguous", 502)
        head.chunked = True
    elif b"content-length" in values:
        head.length = _length(values[b"content-length"])
    if b"connection" in values:
        head.named, head.keep_alive = _connection(values[b"connection"], head.keep_alive)


def _length(value: bytes) -> int:
    if not value.isdigit() or len(value) > LENGTH_DIGITS:
        raise BadMessage("Content-Length is not a number")
    return int(value)


def _connection(value: bytes, keep_alive: bool) -> tuple[frozenset[bytes], bool]:
    """The fields named for this hop only, and whether the connection stays open."""
    if value == b"keep-alive":  # what nearly everybody says
        return NOTHING, True
    options = frozenset(option.strip(b" \t") for option in value.lower().split(b","))
    if b"close" in options:
        keep_alive = False
    elif b"keep-alive" in options:
        keep_alive = True
    return options - {b"close", b"keep-alive", b""}, keep_alive


@lru_cache(1024)
def _is_host(host: bytes) -> bool:
    return HOST.fullmatch(host) is not None


def _request_target(head: RequestHead) -> None:
    """Reduce the target to path and query, and see that there is exactly one host."""
    host = head.values.get(b"host")
    if host is None:
        if head.minor == 1:
            raise BadMessage("header host is missing")
    elif len(host) > HOST_MAX or not _is_host(host):
        raise BadMessage("header host is not a host name")
    target = head.target
    if target[:1] == b"/":
        return
    if target == b"*" and head.method == b"OPTIONS":
        return
    absolute = ABSOLUTE.fullmatch(target)
    if absolute is None:
        raise BadMessage("the request target must be a path, or a URL with a host")
    authority, rest = absolute.groups()
    if host is None or len(authority) > HOST_MAX or authority.lower() != host.lower():
        raise BadMessage("the host of the URL is not that of header host")
    rest = rest or b"/"
    head.target = rest if rest[:1] == b"/" else b"/" + rest
