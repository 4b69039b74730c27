"""Level (a): everything that turns bytes of others, or of a disk, into something else."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import msgpack
import numpy as np

from ops.encoded import BadCodes
from ops.packing import pack, unpack
from p2p.chain_file import MAGIC as CHAIN_MAGIC
from p2p.chain_file import ChainFile, ForeignChain
from p2p.channel.frames import HEADER, FrameParser, frame_head
from p2p.channel.handshake import DiallerHandshake, Handshake, ListenerHandshake, Refusal
from p2p.channel.hello import OPEN_MESSAGES, decode_one_of, describe_difference
from p2p.contact import SignedContact
from p2p.contact_file import BadContactFile, load_contacts, save_contacts
from p2p.discovery.contact_entry import ContactValidator, expiration_of, key_of
from p2p.discovery.hivemind_import import DHTID, DHTRecord
from p2p.identity import Identity
from p2p.protocol.message import Message
from p2p.protocol.messages import decode, encode
from p2p.protocol.model import MAX_MESSAGE_BYTES, BadMessage
from p2p.transfer.state_file import StateFile
from tests.fuzz.hostile import Hostile
from tests.fuzz.mutate import mutated
from tests.fuzz.storm import Target
from tests.p2p.channel.test_handshake import terms
from tests.p2p.protocol.records import FINGERPRINT, history
from tests.p2p.test_contact_file import signed

TAKEN, REFUSED = "taken", "refused"
PAYLOAD_MEMORY = 64 << 10


class Decoding:
    """Targets by name, with how much of the storm each gets."""

    def __init__(self, random: Random, folder: Path) -> None:
        self.random = random
        self.folder = folder
        self.hostile = Hostile(random)
        self.corpus = self._make_corpus()
        self.contacts = [signed(Identity.generate()) for _ in range(4)]
        self.contact_bytes = [contact.to_bytes() for contact in self.contacts]
        self._make_files()
        self._validator = ContactValidator()

    def targets(self) -> dict[str, tuple[Target, int]]:
        return {
            "message": (self.message, 100),
            "frames": (self.frames, 20),
            "packed codes": (self.packed_codes, 8),
            "handshake": (self.handshake, 4),
            "contact": (self.contact, 8),
            "DHT entry": (self.dht_entry, 8),
            "run of a Hello": (self.run_fields, 8),
            "records on disk": (self.records, 2),
            "contacts on disk": (self.contacts_on_disk, 2),
            "state on disk": (self.state, 2),
        }

    def _make_corpus(self) -> list[bytes]:
        """Every kind of message, many times: drawn, and by way of their parts more and more of one piece."""
        found = []
        for kind in (*OPEN_MESSAGES.values(),) * 30:
            message = self.hostile.message(kind)
            data = encode(message)
            if len(data) < 20_000:
                found.append(data)
            self.hostile.learn(message)
        return found

    # --- from the network

    def message(self) -> str:
        """What comes out is what was meant: it has one form only."""
        data = mutated(self.random, self.random.choice(self.corpus), self.corpus)
        try:
            message = decode_one_of(data, OPEN_MESSAGES, MAX_MESSAGE_BYTES)
        except BadMessage:
            return REFUSED
        again = encode(message)
        assert encode(decode_one_of(again, OPEN_MESSAGES, MAX_MESSAGE_BYTES)) == again
        return TAKEN

    def frames(self) -> str:
        """A stream of frames, cut anywhere, with headers that may lie."""
        sink = _Sink(self.random)
        parser = FrameParser(sink)
        sink.parser = parser
        stream = b"".join(self._frame() for _ in range(self.random.randrange(1, 4)))
        if self.random.random() < 0.5:
            stream = mutated(self.random, stream)
        try:
            while stream:
                room = parser.buffer()
                assert len(room)
                size = min(len(room), len(stream), self.random.choice((1, 7, 100, 5000, 1 << 20)))
                room[:size] = stream[:size]
                stream = stream[size:]
                parser.received(size)
        except BadMessage:
            return REFUSED
        assert sink.held <= PAYLOAD_MEMORY
        return TAKEN if sink.ended else "unfinished"

    def _frame(self) -> bytes:
        message = self.random.choice(self.corpus)
        payload = self.random.choice((0, 0, 0, 1, 100, 20_000))
        head = frame_head(message, payload)
        if self.random.random() < 0.2:
            lies = (self.random.choice((0, 1, 1 << 20, 1 << 31, len(message) - 1)), self.random.choice((0, 1, 1 << 24)))
            head = HEADER.pack(*(max(0, lie) for lie in lies)) + head[HEADER.size :]
        return head + bytes(payload)

    def packed_codes(self) -> str:
        """All codes there are, or none."""
        codes = np.frombuffer(self.random.randbytes(self.random.choice((1, 20, 1000))) * 40, np.uint8)
        space = np.empty_like(codes)
        packed = space[: pack(codes, space)].tobytes()
        try:
            unpack(memoryview(mutated(self.random, packed)), np.empty_like(codes))
        except BadCodes:
            return REFUSED
        return TAKEN

    def handshake(self) -> str:
        """An honest side, and one that says the right things until it says a wrong one."""
        us, them = Identity.generate(), Identity.generate()
        listener, dialler = ListenerHandshake(terms(us)), DiallerHandshake(terms(them), us.peer_id)
        victim = self.random.choice((listener, dialler))
        wrong_at = self.random.randrange(4)
        mail: list[tuple[Handshake, Message]] = [(dialler, message) for message in listener.start()]
        try:
            while mail:
                receiver, message = mail.pop(0)
                other = listener if receiver is dialler else dialler
                if receiver is victim:
                    wrong_at -= 1
                if wrong_at < 0 and receiver is victim:
                    data = self._wrong(message)
                    receiver.receive(data)
                    return TAKEN
                mail += [(other, reply) for reply in receiver.receive(encode(message))]
        except BadMessage:
            return "bad message"
        except Refusal as refusal:
            return f"refused: {refusal.code}"
        return "nothing wrong was said"

    def _wrong(self, message: Message) -> bytes:
        if self.random.random() < 0.5:
            return encode(self.hostile.changed(message))
        return mutated(self.random, encode(message), self.corpus)

    def contact(self) -> str:
        data = mutated(self.random, self.random.choice(self.contact_bytes), self.contact_bytes)
        try:
            SignedContact.from_bytes(data)
        except BadMessage:
            return REFUSED
        return TAKEN

    def dht_entry(self) -> str:
        contact = self.random.choice(self.contacts).contact
        value = bytes(msgpack.packb(self.random.choice(self.contact_bytes)))
        key = DHTID.generate(source=key_of(contact.run)).to_bytes()
        subkey = bytes(msgpack.packb(contact.peer))
        expiration = expiration_of(contact.sequence)
        match self.random.randrange(4):
            case 0:
                key = mutated(self.random, key)
            case 1:
                subkey = mutated(self.random, subkey)
            case 2:
                value = mutated(self.random, value, self.contact_bytes)
            case _:
                expiration += self.random.choice((1.0, -1e9, 1e300))
        return TAKEN if self._validator.validate(DHTRecord(key, subkey, value, expiration)) else REFUSED

    def run_fields(self) -> str:
        ours = bytes(msgpack.packb({"model": "demo", "seed": 1}))
        theirs = mutated(
            self.random, bytes(msgpack.packb({"model": "\N{GRINNING FACE}\n", "seed": [1], "x" * 99: None}))
        )
        text = describe_difference(ours, theirs)
        assert text.isprintable()
        assert len(text) <= 500
        return "described"

    # --- from a disk that has suffered

    def _make_files(self) -> None:
        path = self.folder / "original"
        chain = ChainFile(path, FINGERPRINT)
        for record in history(4):
            chain.append(record)
        chain.close()
        self._chain_bytes = path.read_bytes()
        save_contacts(path, self.contacts)
        self._contact_file = path.read_bytes()
        path.unlink()
        state = StateFile(path, FINGERPRINT, 3000, 1024)
        for index, size in enumerate((1024, 1024, 952)):
            state.write(index, 7, os.urandom(8 * size))
        state.close()
        self._state_bytes = path.read_bytes()

    def _damaged(self, data: bytes) -> Path:
        path = self.folder / "damaged"
        path.write_bytes(mutated(self.random, data, [data]))
        return path

    def records(self) -> str:
        try:
            chain = ChainFile(self._damaged(self._chain_bytes), FINGERPRINT)
        except ForeignChain:
            return REFUSED
        try:
            height = chain.tip.height
            assert [chain.record(round).record.round for round in range(height + 1)] == list(range(height + 1))
            assert chain.path.stat().st_size >= len(CHAIN_MAGIC)
        finally:
            chain.close()
        return f"{height + 1} of 4 records"

    def contacts_on_disk(self) -> str:
        try:
            load_contacts(self._damaged(self._contact_file))
        except BadContactFile:
            return REFUSED
        return TAKEN

    def state(self) -> str:
        state = StateFile(self._damaged(self._state_bytes), FINGERPRINT, 3000, 1024)
        try:
            return f"{sum(state.read(index) is not None for index in range(3))} of 3 chunks"
        finally:
            state.close()


class _Sink:
    """Takes frames as a link does, with little memory."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.parser: FrameParser
        self.memory = memoryview(bytearray(PAYLOAD_MEMORY))
        self.held = self.ended = 0

    def frame_begins(self, message: bytes, payload_bytes: int) -> list[memoryview] | None:
        decode(message)
        if payload_bytes > PAYLOAD_MEMORY or self.random.random() < 0.3:
            return None
        self.held = payload_bytes
        cut = self.random.randrange(payload_bytes + 1)
        return [self.memory[:cut], self.memory[cut:payload_bytes]]

    def frame_ends(self) -> None:
        self.held = 0
        self.ended += 1
        if self.random.random() < 0.05:
            self.parser.stop()
