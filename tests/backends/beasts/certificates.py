"""Certificates of a zoo: an authority, what it signed for us, and what a client must not accept."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from pathlib import Path

_DAY: Final = datetime.timedelta(days=1)
_OURS: Final = (x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
_OTHER: Final = (x509.DNSName("elsewhere.example"),)


class Certificates:
    """Writes `authority.pem`, which clients are to trust, and makes a server's contexts."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named("the zoo's authority")
        now = datetime.datetime.now(tz=datetime.UTC)
        authority = (
            _begun(self._name, self._name, self._key, now - _DAY, now + _DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.authority = directory / "authority.pem"
        self.authority.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
        self.contexts = {
            "good": self._context("good", _OURS, now + _DAY),
            "tls-expired": self._context("tls-expired", _OURS, now - _DAY / 2),
            "tls-wrong-host": self._context("tls-wrong-host", _OTHER, now + _DAY),
            "tls-self-signed": self._context("tls-self-signed", _OURS, now + _DAY, alone=True),
        }

    def _context(
        self,
        name: str,
        hosts: tuple[x509.GeneralName, ...],
        until: datetime.datetime,
        *,
        alone: bool = False,
    ) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _named(name)
        signed = (
            _begun(subject, subject if alone else self._name, key, until - 2 * _DAY, until)
            .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
            .sign(key if alone else self._key, hashes.SHA256())
        )
        path = self._directory / f"{name}.pem"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + signed.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        context.set_alpn_protocols(["h2", "http/1.1"])
        return context


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _begun(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    since: datetime.datetime,
    until: datetime.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(until)
    )
