"""The key file, and what its key signs."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from libp2p.crypto.rsa import create_new_key_pair as new_rsa_key_pair
from libp2p.peer.id import ID

from p2p.identity import Identity, KeyFileCorrupt, KeyFileError, KeyFileMode, is_peer_id, verify


def test_a_key_file_is_made_once_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "node.key"
    old = os.umask(0)
    try:
        first = Identity.load_or_create(path)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Identity.load_or_create(path).peer_id == first.peer_id == Identity.load(path).peer_id
    assert [file.name for file in path.parent.iterdir()] == ["node.key"]


def test_nodes_that_start_at_once_agree_on_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(lambda _: Identity.load_or_create(tmp_path / "node.key").peer_id, range(16)))
    assert len(ids) == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o777])
def test_a_key_that_others_can_read_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "node.key"
    Identity.load_or_create(path)
    path.chmod(mode)
    with pytest.raises(KeyFileMode, match=f"mode {mode:04o}.*: chmod 600 {path}"):
        Identity.load_or_create(path)
    path.chmod(0o400)
    Identity.load(path)


@pytest.mark.parametrize("content", [b"", b"\x00" * 36, b"not a key", b"\xff" * 5000, b"\x08\x01\x12\x20short"])
def test_a_corrupt_key_file_is_a_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "node.key"
    path.touch(0o600)
    path.write_bytes(content)
    with pytest.raises(KeyFileCorrupt, match="holds no Ed25519 private key: restore it"):
        Identity.load_or_create(path)
    assert path.read_bytes() == content


def test_another_kind_of_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    path.touch(0o600)
    path.write_bytes(new_rsa_key_pair(2048).private_key.serialize())
    with pytest.raises(KeyFileCorrupt):
        Identity.load(path)


def test_a_path_that_cannot_be_used_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(KeyFileError, match="cannot write the key file"):
        Identity.load_or_create(tmp_path / "file" / "node.key")
    with pytest.raises(KeyFileError, match="cannot read the key file"):
        Identity.load(tmp_path / "missing")
    tmp_path.chmod(0o700)
    with pytest.raises(KeyFileError, match="cannot read the key file"):
        Identity.load(tmp_path)


def test_peer_ids_are_those_of_libp2p() -> None:
    identity = Identity.generate()
    assert identity.peer_id == ID.from_pubkey(identity.private_key.get_public_key()).to_base58()
    assert identity.peer_id.startswith("12D3KooW")
    assert is_peer_id(identity.peer_id)
    assert repr(identity) == f"Identity({identity.peer_id})"


def test_a_signature_holds_for_its_signer_domain_and_data_alone() -> None:
    signer, other = Identity.generate(), Identity.generate()
    signature = signer.sign(b"a", b"bc")
    assert verify(signer.peer_id, b"a", b"bc", signature)
    assert not verify(other.peer_id, b"a", b"bc", signature)
    assert not verify(signer.peer_id, b"ab", b"c", signature)
    assert not verify(signer.peer_id, b"a", b"bd", signature)
    assert not verify(signer.peer_id, b"a", b"bc", signature[:-1])
    assert not verify(signer.peer_id, b"a", b"bc", bytes(64))


def test_only_the_canonical_name_of_an_ed25519_peer_is_a_peer_id() -> None:
    identity = Identity.generate()
    rsa = ID.from_pubkey(new_rsa_key_pair(2048).public_key).to_base58()
    truncated = ID(ID.from_base58(identity.peer_id).to_bytes()[:-1]).to_base58()
    names = ["", " " + identity.peer_id, identity.peer_id + "\n", rsa, truncated, "0OIl" * 12, "1" * 52, "é" * 52]
    assert not any(is_peer_id(name) for name in names)
    assert not any(verify(name, b"d", b"x", identity.sign(b"d", b"x")) for name in names)


@given(st.text(max_size=80), st.binary(max_size=80))
def test_hostile_names_and_signatures_never_raise(name: str, signature: bytes) -> None:
    assert not verify(name, b"domain", b"data", signature)


def test_the_module_does_not_bring_hivemind_along() -> None:
    code = "import sys, p2p.identity, p2p.contact, p2p.channel.mesh; sys.exit('hivemind' in sys.modules)"
    assert subprocess.run([sys.executable, "-W", "error", "-c", code], timeout=60, check=False).returncode == 0
