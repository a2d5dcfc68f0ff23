"""The certificates of the TLS port."""

from __future__ import annotations

import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gpufn.gateway.proxy import HOSTS
from gpufn.model.errors import Fatal
from gpufn.server.certificates import OWN_NAMES, ensure, server

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


@pytest.mark.parametrize(("names", "days"), [((*OWN_NAMES, *HOSTS), 0), (OWN_NAMES, 380)])
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


def forged(directory: Path, name: str) -> Path:
    """A certificate for ``name``, signed by who stole the authority's key; with its key, in one file."""
    key = serialization.load_pem_private_key((directory / "ca-key.pem").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    own, made = server(key, read(directory / "ca.pem"), [name], datetime.now(UTC))
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    file = directory / "forged.pem"
    file.write_bytes(
        own.private_bytes(serialization.Encoding.PEM, *plain) + made.public_bytes(serialization.Encoding.PEM)
    )
    return file


def believes(authority: Path, chain: Path, name: str) -> bool:
    """Whether a client that trusts the authority takes the certificate for ``name``: a handshake in memory."""
    trusting = ssl.create_default_context(cafile=str(authority))
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(chain)
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(to_client, to_server, server_hostname=name)
    other = serving.wrap_bio(to_server, to_client, server_side=True)
    for side in (client, other, client, other, client):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLCertVerificationError:
            return False
    return True


@pytest.mark.parametrize(
    ("name", "is_believed"),
    [
        ("localhost", True),
        ("anything.localhost", True),
        ("127.0.0.1", True),
        ("api.nvcf.nvidia.com", True),
        ("example.com", False),
        ("nvidia.com", False),
        ("www.nvidia.com", False),
        ("evilnvcf.nvidia.com", False),
    ],
)
def test_a_stolen_authority_is_good_for_nothing_else(tmp_path: Path, name: str, is_believed: bool) -> None:
    """Clients that trust it believe its certificates for this machine and the proxy's hosts alone."""
    made = ensure(tmp_path, OWN_NAMES, now=datetime.now(UTC))

    assert believes(made.authority, forged(tmp_path, name), name) is is_believed


def test_the_name_of_the_installation_is_within_the_bounds(tmp_path: Path) -> None:
    """The one it is made with can be signed; another one later is refused, with what to do."""
    ensure(tmp_path, [*OWN_NAMES, "gpu.example.com"], now=datetime.now(UTC))

    ensure(tmp_path, [*OWN_NAMES, "gpu.example.com"], now=datetime.now(UTC))
    assert believes(tmp_path / "ca.pem", forged(tmp_path, "gpu.example.com"), "gpu.example.com")
    with pytest.raises(Fatal, match=r"may not sign for other\.example\.com; delete"):
        ensure(tmp_path, [*OWN_NAMES, "other.example.com"], now=datetime.now(UTC))
