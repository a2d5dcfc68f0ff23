"""The certificates of the TLS port: an authority of this installation's own, made at first use, and what it signs.

Clients are told to trust the authority (`gpufn env`); its key never leaves the data directory. The server's certificate
is made anew when it is about to end, or when it must hold for other names.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import certifi
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gpufn.model.errors import Fatal
from gpufn.server.data import write

AUTHORITY_DAYS, SERVER_DAYS, RENEW_DAYS = 3650, 397, 30
OWN_NAMES = (
    "localhost",
    *(f"{name}.localhost" for name in ("api", "invocation", "llm", "api-keys", "tasks", "sis", "grpc", "gpufn")),
    "*.invocation.localhost",
    "127.0.0.1",
    "::1",
)
"""Names of an installation on this machine. OpenSSL takes no ``*.localhost``."""
PERMITTED = ("localhost", "nvcf.nvidia.com", "api.ngc.nvidia.com", "authn.nvidia.com")
"""Domains that an authority may sign for, with all below them: this machine's, and those the proxy stands in for.
Addresses are not bounded: BoringSSL, and so gRPC, refuses an authority with bounds of that kind.
"""


@dataclass(frozen=True)
class Certificates:
    """Files in PEM. ``bundle``: the usual authorities and this installation's, for clients that know one file only."""

    authority: Path
    bundle: Path
    chain: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """For a listening socket. HTTP/1.1 is preferred by clients that speak both; gRPC's speak HTTP/2 only."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.chain, self.key)
        context.set_alpn_protocols(["http/1.1", "h2"])
        return context


def files(directory: Path) -> Certificates:
    """Where they are."""
    return Certificates(*(directory / f"{name}.pem" for name in ("ca", "bundle", "server", "server-key")))


def ensure(directory: Path, names: Sequence[str], *, now: datetime) -> Certificates:
    """See that there is a server certificate for ``names`` that does not end soon. Raises Fatal for damaged files."""
    directory.mkdir(mode=0o700, exist_ok=True)
    made, authority_key = files(directory), directory / "ca-key.pem"
    try:
        if not (made.authority.exists() or made.chain.exists()):  # the key alone: its making was cut off
            key, certificate = authority(names, now)
            write(authority_key, _pem(key))
            write(made.authority, certificate.public_bytes(serialization.Encoding.PEM))
        ca = x509.load_pem_x509_certificate(made.authority.read_bytes())
        ca_key = serialization.load_pem_private_key(authority_key.read_bytes(), None)
        if not isinstance(ca_key, ec.EllipticCurvePrivateKey):
            raise ValueError("the key is of another kind")
        _check_permitted(ca, names, directory)
        write(made.bundle, Path(certifi.where()).read_bytes() + b"\n" + made.authority.read_bytes())
        if not _serves(made.chain, names, now):
            key, certificate = server(ca_key, ca, names, now)
            write(made.key, _pem(key))
            write(made.chain, certificate.public_bytes(serialization.Encoding.PEM))
    except (ValueError, FileNotFoundError) as error:
        raise Fatal(
            f"the certificates in {directory} are damaged ({error}); delete that directory, and have clients trust the "
            "new authority",
            exit_code=4,
        ) from error
    return made


def _serves(chain: Path, names: Sequence[str], now: datetime) -> bool:
    if not chain.exists():
        return False
    present = x509.load_pem_x509_certificate(chain.read_bytes())
    return _names(present) == set(names) and present.not_valid_after_utc > now + timedelta(days=RENEW_DAYS)


def _names(certificate: x509.Certificate) -> set[str]:
    held = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {*held.get_values_for_type(x509.DNSName), *map(str, held.get_values_for_type(x509.IPAddress))}


def _check_permitted(ca: x509.Certificate, names: Sequence[str], directory: Path) -> None:
    """Raises Fatal for a name that no client would believe of this authority. Those made before had no bounds."""
    try:
        bounds = ca.extensions.get_extension_for_class(x509.NameConstraints).value.permitted_subtrees or ()
    except x509.ExtensionNotFound:
        return
    beyond = [name for name in names if not _within(bounds, name)]
    if beyond:
        raise Fatal(
            f"the authority in {directory} may not sign for {', '.join(beyond)}; delete that directory, and have "
            "clients trust the new one, which may",
            exit_code=2,
        )


def _within(bounds: Iterable[x509.GeneralName], name: str) -> bool:
    """Whether an authority with these bounds may sign for ``name``."""
    if isinstance(_alternative(name), x509.IPAddress):
        return True
    host = name.removeprefix("*.").lower()
    return any(host == bound.value or host.endswith(f".{bound.value}") for bound in bounds)


def _bounds(names: Sequence[str]) -> x509.NameConstraints:
    """What the authority may sign: whoever steals its key can be no other host to those who trust it."""
    own = [name.removeprefix("*.").lower() for name in names if not isinstance(_alternative(name), x509.IPAddress)]
    permitted: list[x509.GeneralName] = [x509.DNSName(domain) for domain in PERMITTED]
    permitted += (x509.DNSName(host) for host in own if not _within(permitted, host))
    return x509.NameConstraints(permitted_subtrees=permitted, excluded_subtrees=None)


def authority(names: Sequence[str], now: datetime) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """A new authority that may sign servers of these names and of the permitted domains, and no other authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("gpufn local authority")
    builder = _builder(name, name, key, now=now, days=AUTHORITY_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_bounds(names), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return key, builder.add_extension(identifier, critical=False).sign(key, hashes.SHA256())


def server(
    ca_key: ec.EllipticCurvePrivateKey, ca: x509.Certificate, names: Sequence[str], now: datetime
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """A new certificate for a server of those names and addresses."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(_name("gpufn"), ca.subject, key, now=now, days=SERVER_DAYS)
    builder = builder.add_extension(x509.SubjectAlternativeName([_alternative(n) for n in names]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    return key, builder.add_extension(issuer, critical=False).sign(ca_key, hashes.SHA256())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, *, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=days))
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
