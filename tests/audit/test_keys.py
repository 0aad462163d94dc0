"""The signing key: made once, whole, one's own, and readable by others' tools."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

import mvm
from mvm.audit.keys import PublicKey, SigningKey, public_key, read_public_key, signing_key
from mvm.errors import AuditError


def test_the_key_is_made_once_and_kept(state: str) -> None:
    """The first use makes the key, later ones load the same; private 0600 in a 0700 directory."""
    assert public_key(state) is None
    first, second = signing_key(state), signing_key(state)
    found = public_key(state)
    assert found is not None
    assert first.identity == second.identity == found.identity
    keys = Path(state) / "keys"
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in keys.iterdir()} == {
        "signing.pem": 0o600,
        "verify.pem": 0o600,
    }


def test_what_one_signs_the_other_verifies(state: str) -> None:
    """A signature holds for its message and key alone."""
    key, found = signing_key(state), public_key(state)
    assert found is not None
    signature = key.sign(b"message")
    assert found.verify(b"message", signature)
    assert not found.verify(b"massage", signature)
    assert not found.verify(b"message", bytes(64))
    assert not found.verify(b"message", b"")
    assert not PublicKey(SigningKey(b"\x01" * 32).public).verify(b"message", signature)


def test_vector_of_rfc_8032() -> None:
    """The first test vector of RFC 8032 section 7.1 gives its public key and signature."""
    key = SigningKey(bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"))
    assert key.public.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert key.sign(b"").hex().startswith("e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155")


def test_other_tools_read_the_files(state: str) -> None:
    """The PEM files are standard: another library loads them, and they belong together."""
    key = signing_key(state)
    private = load_pem_private_key((Path(state) / "keys/signing.pem").read_bytes(), None)
    public = load_pem_public_key((Path(state) / "keys/verify.pem").read_bytes())
    assert private.public_key().public_bytes_raw() == key.public  # type: ignore[union-attr]
    assert public.public_bytes_raw() == key.public  # type: ignore[union-attr]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_verifies_a_signature(state: str, tmp_path: Path) -> None:
    """A stranger with openssl and verify.pem can check a signature, and sees a wrong one."""
    (tmp_path / "message").write_bytes(b"message")
    (tmp_path / "signature").write_bytes(signing_key(state).sign(b"message"))
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", f"{state}/keys/verify.pem", "-rawin"]
    command += ["-in", str(tmp_path / "message"), "-sigfile", str(tmp_path / "signature")]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    (tmp_path / "message").write_bytes(b"massage")
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0


def test_many_creators_agree(state: str) -> None:
    """Eight threads that use a state directory for the first time at once all get the same key."""
    barrier = threading.Barrier(8)
    identities: list[str] = []

    def create() -> None:
        barrier.wait()
        identities.append(signing_key(state).identity)

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(identities), len(set(identities))) == (8, 1)
    assert sorted(path.name for path in (Path(state) / "keys").iterdir()) == ["signing.pem", "verify.pem"]


def test_many_processes_agree(state: str) -> None:
    """Four processes that use a state directory for the first time at once all get the same key."""
    source = str(Path(mvm.__file__).parent.parent)
    program = (
        f"import sys; sys.path.insert(0, {source!r})\nfrom mvm.audit.keys import signing_key\n"
        "import cryptography.hazmat.primitives.asymmetric.ed25519\n"
        "sys.stdin.read()\nprint(signing_key(sys.argv[1]).identity)"
    )
    gate, opener = os.pipe()
    creators = [
        subprocess.Popen(
            [sys.executable, "-c", program, state], stdin=gate, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    os.close(gate)
    os.close(opener)
    identities = {creator.communicate()[0] for creator in creators}
    assert len(identities) == 1
    assert identities == {signing_key(state).identity + "\n"}


def test_a_lost_public_file_is_made_again(state: str) -> None:
    """Without its public half, or with another's, the key is used and the file is put right."""
    key = signing_key(state)
    public = Path(state) / "keys/verify.pem"
    kept = public.read_bytes()
    public.unlink()
    assert signing_key(state).identity == key.identity
    assert public.read_bytes() == kept
    stranger = f"{state}-other"
    signing_key(stranger)
    public.write_bytes((Path(stranger) / "keys/verify.pem").read_bytes())
    signing_key(state)
    assert public.read_bytes() == kept


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620])
def test_a_key_that_others_can_reach_is_refused(state: str, mode: int) -> None:
    """A private key that group or others may read or write is refused with what to do."""
    signing_key(state)
    (Path(state) / "keys/signing.pem").chmod(mode)
    with pytest.raises(AuditError, match="can be read by others"):
        signing_key(state)


@pytest.mark.parametrize(
    "content", [b"", b"x", b"-----BEGIN PRIVATE KEY-----\n", b"-----BEGIN PUBLIC KEY-----\nAA==\n"]
)
def test_a_damaged_key_is_refused_and_kept(state: str, content: bytes) -> None:
    """A file that is no key is refused, never replaced: it may be all there is of an older key."""
    signing_key(state)
    for name in ("signing.pem", "verify.pem"):
        path = Path(state) / "keys" / name
        whole = path.read_bytes()
        path.write_bytes(content)
        with pytest.raises(AuditError, match="is not an Ed25519"):
            signing_key(state) if name == "signing.pem" else public_key(state)
        assert path.read_bytes() == content
        path.write_bytes(whole)
    assert signing_key(state).sign(b"x")


def test_links_are_refused(state: str, tmp_path: Path) -> None:
    """A symbolic link in the key's place is not followed."""
    signing_key(state)
    private = Path(state) / "keys/signing.pem"
    private.rename(tmp_path / "moved.pem")
    private.symlink_to(tmp_path / "moved.pem")
    with pytest.raises(AuditError, match="symbolic links"):
        signing_key(state)
    with pytest.raises(AuditError, match="cannot be read"):
        read_public_key(str(private))


def test_no_secret_in_what_is_shown(state: str) -> None:
    """Neither the key object nor an error spells the private key."""
    key = signing_key(state)
    secret = (Path(state) / "keys/signing.pem").read_text().splitlines()[1]
    assert secret not in repr(key)
    (Path(state) / "keys/signing.pem").write_text(f"-----BEGIN PRIVATE KEY-----\n{secret}\n")
    with pytest.raises(AuditError) as caught:
        signing_key(state)
    assert secret not in str(caught.value)
