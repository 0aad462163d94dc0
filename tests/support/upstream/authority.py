"""The certificate authority of the fake internet, made anew for each session.

Owns the keys and certificates. They live in the world's directory and end with it.
"""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_VALID = timedelta(days=30)
_CA_NAME = "mvm test authority"


class Authority:
    """One authority, and one key that all its hosts share."""

    def __init__(self, directory: Path) -> None:
        """Make the keys and write `ca.pem` into `directory`. Raises OSError."""
        self._directory = directory
        self._ca_key = ec.generate_private_key(ec.SECP256R1())
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._now = datetime.now(UTC)
        # OpenSSL's strict checks (the default of Python 3.13) ask for key usage and both key identifiers.
        usage = x509.KeyUsage(
            digital_signature=False,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        certificate = (
            self._builder(_CA_NAME, self._ca_key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._ca_key, hashes.SHA256())
        )
        self.ca_file = directory / "ca.pem"
        self.ca_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self.ca_file.chmod(0o644)

    def context(self, name: str, *, alpn: Sequence[str]) -> ssl.SSLContext:
        """A server's TLS context with a certificate for the host name or address `name`. Raises OSError."""
        alternative: x509.GeneralName = x509.DNSName(name)
        if ":" in name or name.replace(".", "").isdigit():
            alternative = x509.IPAddress(ip_address(name))
        certificate = (
            self._builder(name, self._key.public_key())
            .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .sign(self._ca_key, hashes.SHA256())
        )
        pem = self._directory / "host.pem"
        pem.touch(mode=0o600)
        pem.write_bytes(
            self._key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        context.set_alpn_protocols(list(alpn))
        return context

    def _builder(self, subject: str, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _CA_NAME)])
        own = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject[:64])])
        return (
            x509.CertificateBuilder()
            .issuer_name(issuer)
            .subject_name(own)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._now - timedelta(days=1))
            .not_valid_after(self._now + _VALID)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._ca_key.public_key()), critical=False
            )
        )
