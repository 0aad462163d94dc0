"""The Ed25519 key pair of this state directory, which signs seals (and later receipts).

Owns `STATE/keys/`: `signing.pem` (PKCS #8, RFC 8410, mode 0600), made on first use, and `verify.pem`
(its public half), which may be given away. Must never write a private key anywhere else, nor
replace one: of two creators at once the first to link its file in place wins, and both use that key.

The PEM files are written and read here, since an Ed25519 key has exactly one DER form (RFC 8410
section 10.3): a fixed prefix and 32 bytes. That saves 8 ms of imports at the end of every run.
"""

from __future__ import annotations

import contextlib
import os
from binascii import a2b_base64, b2a_base64
from typing import TYPE_CHECKING

from mvm.audit.state import open_private, place_file
from mvm.canonical import digest_of_bytes
from mvm.errors import AuditError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

KEYS = "keys"
PRIVATE_FILE = "signing.pem"
PUBLIC_FILE = "verify.pem"

_KEY_BYTES = 32
_PKCS8 = bytes.fromhex("302e020100300506032b657004220420")
_SPKI = bytes.fromhex("302a300506032b6570032100")
_LONGEST_FILE = 1024
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def load() -> None:
    """Load what it takes to sign and to verify: 7 ms, best spent while something else is waited for."""
    import cryptography.hazmat.primitives.asymmetric.ed25519  # noqa: F401  the next import finds it


class SigningKey:
    """A private key; the `Signer` of `audit.chain`."""

    __slots__ = ("_key", "identity", "public")

    def __init__(self, secret: bytes) -> None:
        from cryptography.hazmat.primitives.asymmetric import ed25519

        self._key: Ed25519PrivateKey = ed25519.Ed25519PrivateKey.from_private_bytes(secret)
        self.public = self._key.public_key().public_bytes_raw()
        self.identity = digest_of_bytes(self.public)

    def sign(self, message: bytes) -> bytes:
        """Return the 64 bytes of the signature (RFC 8032 section 5.1.6)."""
        return self._key.sign(message)


class PublicKey:
    """A public key; the `Verifier` of `audit.chain`."""

    __slots__ = ("_key", "identity")

    def __init__(self, raw: bytes) -> None:
        from cryptography.hazmat.primitives.asymmetric import ed25519

        self._key: Ed25519PublicKey = ed25519.Ed25519PublicKey.from_public_bytes(raw)
        self.identity = digest_of_bytes(raw)

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Tell whether the signature is this key's over the message (RFC 8032 section 5.1.7)."""
        from cryptography.exceptions import InvalidSignature

        try:
            self._key.verify(signature, message)
        except InvalidSignature:
            return False
        return True


def require_key(directory: str) -> None:
    """Make sure that there is a key to sign with, without loading what it takes to sign: that is 4 MB.

    Args:
        directory: the state directory; made with mode 0700 if it is not there.

    Raises:
        AuditError: as for `signing_key`.
    """
    with _opened(directory) as keys:
        secret = _secret(directory, keys)
        if _read(PUBLIC_FILE, "PUBLIC KEY", _SPKI, below=keys) is None:
            _publish(keys, SigningKey(secret).public)


def signing_key(directory: str) -> SigningKey:
    """Load this state directory's signing key, making it if there is none.

    Args:
        directory: the state directory; made with mode 0700 if it is not there.

    Returns:
        The key; its public half lies beside it in a file.

    Raises:
        AuditError: the key cannot be made or read, is not a key, or others could read it.
    """
    with _opened(directory) as keys:
        key = SigningKey(_secret(directory, keys))
        if _read(PUBLIC_FILE, "PUBLIC KEY", _SPKI, below=keys) != key.public:
            _publish(keys, key.public)
    return key


@contextlib.contextmanager
def _opened(directory: str) -> Iterator[int]:
    try:
        state = open_private(directory)
        try:
            keys = open_private(KEYS, below=state)
        finally:
            os.close(state)
        try:
            yield keys
        finally:
            os.close(keys)
    except OSError as error:
        msg = f"the signing key in {directory}/{KEYS} cannot be used: {error.strerror}"
        raise AuditError(msg, hint="the directory must be yours and writable") from error


def _secret(directory: str, keys: int) -> bytes:
    secret = _read(PRIVATE_FILE, "PRIVATE KEY", _PKCS8, below=keys)
    if secret is None:
        place_file(keys, PRIVATE_FILE, _pem("PRIVATE KEY", _PKCS8 + os.urandom(_KEY_BYTES)))
        secret = _read(PRIVATE_FILE, "PRIVATE KEY", _PKCS8, below=keys)
    if secret is None:
        msg = f"the signing key in {directory}/{KEYS} disappeared while it was made"
        raise AuditError(msg)
    return secret


def _publish(keys: int, public: bytes) -> None:
    place_file(keys, PUBLIC_FILE, _pem("PUBLIC KEY", _SPKI + public), replace=True)


def public_key(directory: str) -> PublicKey | None:
    """Load the public key that this state directory's seals are checked with.

    Args:
        directory: the state directory.

    Returns:
        The key, or None while nothing was ever sealed here.

    Raises:
        AuditError: the file is there and cannot be read, or is not a key.
    """
    return read_public_key(f"{directory}/{KEYS}/{PUBLIC_FILE}")


def read_public_key(path: str) -> PublicKey | None:
    """Load a public key from a PEM file (`verify.pem`, or one carried here from elsewhere).

    Args:
        path: of the file.

    Returns:
        The key, or None if there is no such file.

    Raises:
        AuditError: the file cannot be read, or is not an Ed25519 public key.
    """
    try:
        raw = _read(path, "PUBLIC KEY", _SPKI)
    except OSError as error:
        msg = f"the public key {path} cannot be read: {error.strerror}"
        raise AuditError(msg) from error
    return None if raw is None else PublicKey(raw)


def _pem(label: str, der: bytes) -> bytes:
    return b"-----BEGIN %b-----\n%b-----END %b-----\n" % (label.encode(), b2a_base64(der), label.encode())


def _read(path: str, label: str, prefix: bytes, *, below: int | None = None) -> bytes | None:
    try:
        file = os.open(path, _READ, dir_fd=below)
    except FileNotFoundError:
        return None
    with os.fdopen(file, "rb") as opened:
        private = label == "PRIVATE KEY"
        if private and (os.fstat(file).st_mode & 0o077 or os.fstat(file).st_uid != os.geteuid()):
            msg = f"the signing key {path} can be read by others, so that its signatures prove nothing"
            raise AuditError(msg, hint="remove it; a new one is made, and older seals no longer verify")
        text = opened.read(_LONGEST_FILE)
    try:
        der = a2b_base64(text.split(b"-----\n")[1].split(b"-----")[0])
    except (IndexError, ValueError):
        der = b""
    if not der.startswith(prefix) or len(der) != len(prefix) + _KEY_BYTES or text != _pem(label, der):
        msg = f"{path} is not an Ed25519 {label.lower()} as mvm writes it"
        raise AuditError(msg, hint="restore it from a copy; without it older seals cannot be verified")
    return der[len(prefix) :]
