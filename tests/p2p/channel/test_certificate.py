"""A certificate proves one libp2p identity, or nothing."""

from __future__ import annotations

import contextlib
import os
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from libp2p.crypto.rsa import create_new_key_pair as new_rsa_key_pair
from libp2p.security.tls.certificate import (
    LIBP2P_CERT_PREFIX,
    LIBP2P_EXTENSION_OID,
    create_cert_template,
    encode_signed_key,
    generate_certificate,
    verify_certificate_chain,
)

from p2p.channel.certificate import BadCertificate, client_context, peer_id_of, server_context
from p2p.identity import Identity


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """A TLS handshake in memory; (server's side, client's side)."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        server.wrap_bio(to_server, to_client, server_side=True),
        client.wrap_bio(to_client, to_server, server_side=False),
    )
    for _ in range(4):
        for end in reversed(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return ends


def certificate(
    *extensions: bytes, issuer_key: ec.EllipticCurvePrivateKey | None = None, key: ec.EllipticCurvePrivateKey
) -> bytes:
    """DER of a certificate for `key` with these libp2p extensions."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).serial_number(1)
    builder = builder.not_valid_before(now).not_valid_after(now + timedelta(days=1)).public_key(key.public_key())
    for extension in extensions:
        builder = builder.add_extension(x509.UnrecognizedExtension(LIBP2P_EXTENSION_OID, extension), critical=False)
    return builder.sign(issuer_key or key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def spki(key: ec.EllipticCurvePrivateKey) -> bytes:
    public = key.public_key()
    return public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def test_the_dialler_learns_the_listeners_peer_id() -> None:
    identity = Identity.generate()
    server, client = shake_hands(server_context(identity), client_context())
    der = client.getpeercert(binary_form=True)
    assert der is not None
    assert peer_id_of(der) == identity.peer_id
    assert client.version() == "TLSv1.3"
    assert client.selected_alpn_protocol() == server.selected_alpn_protocol() == "swarm/1"
    assert server.getpeercert(binary_form=True) is None


def test_py_libp2p_accepts_our_certificate_and_we_theirs() -> None:
    identity = Identity.generate()
    _, client = shake_hands(server_context(identity), client_context())
    ours = x509.load_der_x509_certificate(client.getpeercert(binary_form=True) or b"")
    assert verify_certificate_chain([ours]) == identity.private_key.get_public_key()
    pem, _ = generate_certificate(identity.private_key, create_cert_template())
    assert peer_id_of(ssl.PEM_cert_to_DER_cert(pem)) == identity.peer_id


def test_older_tls_is_refused() -> None:
    client = client_context()
    client.minimum_version = ssl.TLSVersion.TLSv1_2
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        shake_hands(server_context(Identity.generate()), client)


def test_the_key_of_the_certificate_leaves_no_file() -> None:
    before = set(os.listdir("/proc/self/fd"))
    server_context(Identity.generate())
    assert set(os.listdir("/proc/self/fd")) == before


def test_an_extension_signed_for_another_key_is_refused(key: ec.EllipticCurvePrivateKey) -> None:
    identity = Identity.generate()
    other = ec.generate_private_key(ec.SECP256R1())
    public = identity.private_key.get_public_key().serialize()
    signed = encode_signed_key(public, identity.private_key.sign(LIBP2P_CERT_PREFIX + spki(key)))
    assert peer_id_of(certificate(signed, key=key)) == identity.peer_id
    with pytest.raises(BadCertificate, match="not signed by the identity"):
        peer_id_of(certificate(signed, key=other))


def test_a_certificate_not_signed_by_its_own_key_is_refused(key: ec.EllipticCurvePrivateKey) -> None:
    identity = Identity.generate()
    public = identity.private_key.get_public_key().serialize()
    signed = encode_signed_key(public, identity.private_key.sign(LIBP2P_CERT_PREFIX + spki(key)))
    with pytest.raises(BadCertificate, match="malformed"):
        peer_id_of(certificate(signed, key=key, issuer_key=ec.generate_private_key(ec.SECP256R1())))


def test_other_kinds_of_identity_are_refused(key: ec.EllipticCurvePrivateKey) -> None:
    rsa = new_rsa_key_pair(2048)
    signed = encode_signed_key(rsa.public_key.serialize(), rsa.private_key.sign(LIBP2P_CERT_PREFIX + spki(key)))
    with pytest.raises(BadCertificate, match="not Ed25519"):
        peer_id_of(certificate(signed, key=key))


def test_a_certificate_without_identity_is_refused(key: ec.EllipticCurvePrivateKey) -> None:
    with pytest.raises(BadCertificate, match="without a libp2p extension"):
        peer_id_of(certificate(key=key))
    with pytest.raises(BadCertificate, match="malformed"):
        peer_id_of(certificate(b"\x30\x05nonsense", key=key))
    public = Identity.generate().private_key.get_public_key().serialize()
    with pytest.raises(BadCertificate, match="not signed"):
        peer_id_of(certificate(encode_signed_key(public, b"short"), key=key))
    with pytest.raises(BadCertificate, match="too large"):
        peer_id_of(bytes(10_000))


@pytest.mark.filterwarnings("ignore:Parsed a serial number")  # by cryptography, which will refuse it one day
@given(st.binary(max_size=300), st.integers(0, 400))
def test_hostile_der_is_a_bad_certificate(noise: bytes, at: int) -> None:
    with pytest.raises(BadCertificate):
        peer_id_of(noise)
    valid = ssl.PEM_cert_to_DER_cert(PEM)
    damaged = valid[:at] + noise + valid[at + len(noise) :]
    with contextlib.suppress(BadCertificate):
        assert peer_id_of(damaged) == IDENTITY.peer_id  # it may have changed what nobody looks at


IDENTITY = Identity.generate()
PEM, _ = generate_certificate(IDENTITY.private_key, create_cert_template())
