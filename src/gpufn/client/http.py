"""A small synchronous client of the REST API. The only module that knows httpx: its errors end here."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from gpufn import __version__
from gpufn.client.errors import ClientError, NotRunning, TooSlow, refusal

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 60.0
BODY_MAX = 64 * 1024 * 1024
"""Largest JSON answer read into memory, in bytes."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Call:
    """One request: what goes over the wire, and how many seconds its answer may take."""

    method: str
    path: str
    body: bytes | None = None
    headers: Mapping[str, str] | None = None
    params: Mapping[str, str] | None = None
    timeout: float | None = ANSWER_SECONDS
    """None: wait for ever between two pieces of the answer."""


class Answer:
    """An answer whose body has not been read yet."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self.status = response.status_code
        self.reason = response.reason_phrase

    def header(self, name: str) -> str:
        """The value of a header, or an empty string."""
        return str(self._response.headers.get(name, ""))

    def chunks(self) -> Iterator[bytes]:
        """The body as it arrives."""
        with _translated(str(self._response.url)):
            yield from self._response.iter_bytes()

    def lines(self) -> Iterator[str]:
        """The body, line by line, as it arrives."""
        with _translated(str(self._response.url)):
            yield from self._response.iter_lines()

    def read(self, limit: int = BODY_MAX) -> bytes:
        """The whole body; raises ClientError when it is larger than ``limit`` bytes."""
        parts, size = [], 0
        for chunk in self.chunks():
            size += len(chunk)
            if size > limit:
                raise ClientError(f"the answer is larger than {limit} bytes", fix="ask for less")
            parts.append(chunk)
        return b"".join(parts)


class Client:
    """Talks to one installation. May be used by several threads. ``transport`` is for tests."""

    def __init__(self, url: str, key: str | None, *, transport: httpx.BaseTransport | None = None) -> None:
        self.url = url.rstrip("/")
        headers = {"user-agent": f"gpufn/{__version__}"}
        if key:
            headers["authorization"] = f"Bearer {key}"
        try:
            local = urlsplit(self.url).hostname in LOOPBACK
            self._http = httpx.Client(
                base_url=self.url, headers=headers, transport=transport, trust_env=not local, verify=_trusted(self.url)
            )
        except (ValueError, UnicodeEncodeError, httpx.InvalidURL) as error:
            raise ClientError(
                f"cannot talk to {self.url} with this key: {error}", fix="check --url, --key, GPUFN_URL, GPUFN_API_KEY"
            ) from error

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, path: str, **params: str) -> Any:
        """The JSON of a GET."""
        return self.call(Call("GET", path, params=params))

    def send(self, method: str, path: str, body: object = None, **params: str) -> Any:
        """Send ``body`` as JSON and return the answer's JSON, or None when it has no body."""
        content = None if body is None else json.dumps(body).encode()
        headers = {} if body is None else {"content-type": "application/json"}
        return self.call(Call(method, path, body=content, headers=headers, params=params))

    def call(self, call: Call) -> Any:
        """Carry out a call; JSON, or None when there is no body. Raises Refused for a status that is no success."""
        with self.open(call) as answer:
            body = answer.read()
            if not 200 <= answer.status < 300:
                raise refusal(answer.status, answer.reason, body)
        if not body:
            return None
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise ClientError(
                f"{self.url}{call.path} did not answer in JSON", fix="is this a gpufn installation? check --url"
            ) from error

    @contextmanager
    def open(self, call: Call) -> Iterator[Answer]:
        """Carry out a call and hand over the answer as soon as its head is there, whatever its status."""
        timeout = httpx.Timeout(call.timeout, connect=CONNECT_SECONDS)
        with _translated(self.url):
            request = self._http.build_request(
                call.method,
                call.path,
                content=call.body,
                headers=call.headers,
                params=call.params or None,
                timeout=timeout,
            )
            response = self._http.send(request, stream=True)
        try:
            yield Answer(response)
        finally:
            response.close()


def _trusted(url: str) -> ssl.SSLContext | bool:
    """The usual authorities, or those of SSL_CERT_FILE, which `gpufn env` sets; also for this machine's own names."""
    return httpx.create_ssl_context(trust_env=True) if url.lower().startswith("https:") else True


@contextmanager
def _translated(url: str) -> Iterator[None]:
    """httpx's errors as ours."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise NotRunning(
                f"the certificate of {url} is not trusted: {error}",
                fix='`eval "$(gpufn env)"` trusts that of this machine; else name its authority in SSL_CERT_FILE',
            ) from error
        raise NotRunning(
            f"nothing answers at {url}: {error}", fix="start it with `gpufn up`, or check --url and GPUFN_URL"
        ) from error
    except httpx.TimeoutException as error:
        raise TooSlow(f"no answer from {url} in time", fix="look at `gpufn status`, or wait longer") from error
    except httpx.RequestError as error:
        raise NotRunning(
            f"the connection to {url} broke: {str(error) or type(error).__name__}", fix="look at `gpufn status`"
        ) from error
    except (
        httpx.InvalidURL,
        httpx.CookieConflict,
        RuntimeError,
        ValueError,
    ) as error:  # RuntimeError: closed meanwhile
        raise ClientError(f"cannot send this request: {error}", fix="check the URL, path and headers") from error
