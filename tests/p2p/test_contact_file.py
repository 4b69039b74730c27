"""Contacts on disk: whole or not at all, and a file that is broken costs nothing but its contents."""

from __future__ import annotations

from pathlib import Path

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p2p.contact import MAX_KNOWN, Contact, SignedContact, sign_contact
from p2p.contact_file import MAGIC, BadContactFile, load_contacts, save_contacts
from p2p.identity import Identity


def signed(identity: Identity, sequence: int = 1) -> SignedContact:
    addresses = (("192.0.2.7", 7400), ("node.example.org", 7401))
    contact = Contact(
        peer=identity.peer_id, p2pd="", addresses=addresses, fingerprint=bytes(32), sequence=sequence, run="demo"
    )
    return sign_contact(identity, contact)


CONTACTS = [signed(Identity.generate()) for _ in range(3)]


def test_contacts_survive_and_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "contacts"
    assert load_contacts(path) == []
    save_contacts(path, CONTACTS)
    assert load_contacts(path) == CONTACTS
    save_contacts(path, CONTACTS[:1])
    assert load_contacts(path) == CONTACTS[:1]
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_written_or_read_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadContactFile, match=r"cannot write .*nowhere.*: No such file"):
        save_contacts(tmp_path / "nowhere" / "contacts", CONTACTS)
    (tmp_path / "folder").mkdir()
    with pytest.raises(BadContactFile, match=r"cannot read .*folder: Is a directory"):
        load_contacts(tmp_path / "folder")
    with pytest.raises(BadContactFile, match="cannot write"):
        save_contacts(tmp_path / "folder", CONTACTS)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize(
    "body",
    [
        b"\xc1",
        msgpack.packb(7),
        msgpack.packb([1]),
        msgpack.packb([CONTACTS[0].to_wire(), []]),
        b"\xdd\xff\xff\xff\xff",
    ],
)
def test_what_is_no_list_of_contacts_is_refused(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / "contacts"
    path.write_bytes(MAGIC + body)
    with pytest.raises(BadContactFile, match="is no file of contacts"):
        load_contacts(path)
    path.write_bytes(body)
    with pytest.raises(BadContactFile, match="begin"):
        load_contacts(path)


def test_more_contacts_than_anybody_needs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "contacts"
    path.write_bytes(MAGIC + msgpack.packb([None] * (MAX_KNOWN + 1)))
    with pytest.raises(BadContactFile, match="no list"):
        load_contacts(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_file_is_refused_or_gives_contacts(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "contacts"
    save_contacts(path, CONTACTS)
    found = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        found[data.draw(st.integers(0, len(found) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(found[: data.draw(st.integers(0, len(found)))])
    try:
        contacts = load_contacts(path)
    except BadContactFile:
        return
    assert all(isinstance(contact, SignedContact) for contact in contacts)
