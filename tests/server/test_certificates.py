"""The certificates of the TLS port."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from gpufn.model.errors import Fatal
from gpufn.server.certificates import OWN_NAMES, ensure

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def read(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_an_authority_is_made_once_and_signs_the_server(tmp_path: Path) -> None:
    """The second start finds everything as it was; keys are for the owner alone."""
    made = ensure(tmp_path / "tls", OWN_NAMES, now=NOW)
    before = {p.name: p.read_bytes() for p in (tmp_path / "tls").iterdir()}
    ensure(tmp_path / "tls", OWN_NAMES, now=NOW + timedelta(days=1))

    read(made.chain).verify_directly_issued_by(read(made.authority))
    assert before == {p.name: p.read_bytes() for p in (tmp_path / "tls").iterdir()}
    assert {stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "tls").iterdir()} == {0o600}
    assert stat.S_IMODE((tmp_path / "tls").stat().st_mode) == 0o700
    assert made.bundle.read_bytes().endswith(made.authority.read_bytes())
    assert made.context().minimum_version.name == "TLSv1_2"


@pytest.mark.parametrize(("names", "days"), [((*OWN_NAMES, "gpu.example.com"), 0), (OWN_NAMES, 380)])
def test_the_server_s_is_made_anew_for_other_names_or_near_its_end(
    tmp_path: Path, names: tuple[str, ...], days: int
) -> None:
    """The authority that clients trust stays."""
    made = ensure(tmp_path, OWN_NAMES, now=NOW)
    authority, chain = made.authority.read_bytes(), made.chain.read_bytes()

    ensure(tmp_path, names, now=NOW + timedelta(days=days))

    assert made.authority.read_bytes() == authority
    assert made.chain.read_bytes() != chain
    held = read(made.chain).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {*held.get_values_for_type(x509.DNSName), *map(str, held.get_values_for_type(x509.IPAddress))} == set(names)


def test_an_authority_that_was_half_made_is_made(tmp_path: Path) -> None:
    """Killed between its two files at the first start, an installation is no wreck: nobody trusts that key yet."""
    ensure(tmp_path, OWN_NAMES, now=NOW)
    for name in ("ca.pem", "server.pem", "server-key.pem", "bundle.pem"):
        (tmp_path / name).unlink()

    made = ensure(tmp_path, OWN_NAMES, now=NOW)

    read(made.chain).verify_directly_issued_by(read(made.authority))


@pytest.mark.parametrize("gone", ["", "ca.pem", "ca-key.pem"])
def test_damaged_files_are_refused(tmp_path: Path, gone: str) -> None:
    """An authority is never replaced behind its clients' back, nor when a part of it is missing."""
    made = ensure(tmp_path, OWN_NAMES, now=NOW)
    if gone:
        (tmp_path / gone).unlink()
    else:
        made.authority.write_bytes(b"nothing")

    with pytest.raises(Fatal, match="damaged"):
        ensure(tmp_path, OWN_NAMES, now=NOW)
