"""Which names the CONNECT proxy leads here, and how it refuses the rest."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from gpufn.gateway.proxy import answer, is_ours


@pytest.mark.parametrize(
    "host",
    [
        "api.nvcf.nvidia.com",
        "API.NVCF.nvidia.com",
        "grpc.nvcf.nvidia.com",
        "invocation.api.nvcf.nvidia.com",
        "0b7e.invocation.api.nvcf.nvidia.com",
        "api.ngc.nvidia.com",
        "authn.nvidia.com",
    ],
)
def test_nvidia_s_names_are_ours(host: str) -> None:
    """Whatever case they are written in."""
    assert answer(f"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n".encode()).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "target",
    [
        "example.com:443",
        "nvcf.nvidia.com.evil.com:443",
        "evilnvcf.nvidia.com:443",
        "a.b.nvcf.nvidia.com:443",
        "127.0.0.1:443",
        "169.254.169.254:443",
        "api.nvcf.nvidia.com:22",
        ".nvcf.nvidia.com:443",
    ],
)
def test_every_other_host_is_refused(target: str) -> None:
    """403, with the way to reach it."""
    refused = answer(f"CONNECT {target} HTTP/1.1\r\n\r\n".encode())

    assert refused.startswith(b"HTTP/1.1 403 ")
    assert b"NO_PROXY" in refused


@pytest.mark.parametrize(
    "head", [b"GET http://x/ HTTP/1.1\r\n\r\n", b"CONNECT x HTTP/1.1\r\n\r\n", b"\x16\x03\x01\r\n\r\n"]
)
def test_what_is_no_connect_is_refused(head: bytes) -> None:
    """405."""
    assert answer(head).startswith(b"HTTP/1.1 405 ")


def test_the_gateway_s_own_tls_port_is_reached_too() -> None:
    """For clients that send everything to the proxy; no other local port is."""
    own, other = b"CONNECT localhost:8443 HTTP/1.1\r\n\r\n", b"CONNECT localhost:22 HTTP/1.1\r\n\r\n"

    assert answer(own, 8443).startswith(b"HTTP/1.1 200 ")
    assert answer(other, 8443).startswith(b"HTTP/1.1 403 ")
    assert answer(own).startswith(b"HTTP/1.1 403 ")


@given(st.binary(max_size=200))
def test_nothing_breaks_it(head: bytes) -> None:
    """Whatever comes is answered with one of the three."""
    assert answer(head)[9:12] in (b"200", b"403", b"405")


@given(st.text(alphabet="ab.-", max_size=40))
def test_only_one_more_label_is_ours(label: str) -> None:
    """A name below ours has exactly one label in front."""
    assert is_ours(f"{label}.nvcf.nvidia.com") == (bool(label) and "." not in label)
