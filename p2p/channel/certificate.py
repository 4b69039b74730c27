"""TLS contexts of a node, and the peer id that a certificate proves.

The listener's certificate carries the libp2p extension: its Ed25519 identity signs the certificate's key, TLS proves
that key. https://github.com/libp2p/specs/blob/master/tls/tls.md. The dialler has no certificate: it proves itself over
the channel (handshake.py). Only documented parts of `ssl` are used.
"""

from __future__ import annotations

import os
import ssl

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from p2p.identity import SIGNATURE_BYTES, Identity
from p2p.libp2p_import import (
    ID,
    LIBP2P_CERT_PREFIX,
    LIBP2P_EXTENSION_OID,
    Ed25519PublicKey,
    create_cert_template,
    decode_signed_key,
    generate_certificate,
)

ALPN = "swarm/1"
_MAX_CERTIFICATE_BYTES = 8192
_ED25519_PROTOBUF_PREFIX = bytes((0x08, 0x01, 0x12, 0x20))


class BadCertificate(ValueError):
    """The certificate does not prove a libp2p identity; the text says why."""


def server_context(identity: Identity) -> ssl.SSLContext:
    """TLS 1.3 with a fresh certificate that proves `identity`."""
    certificate, key = generate_certificate(identity.private_key, create_cert_template())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols([ALPN])
    context.num_tickets = 0  # links are few and long: nothing is ever resumed
    # load_cert_chain wants a path; a memfd keeps the key off the disk
    descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "w") as file:
        file.write(certificate + key)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    return context


def client_context() -> ssl.SSLContext:
    """TLS 1.3 without certificate authorities: the caller checks the peer id with `peer_id_of`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([ALPN])
    return context


def peer_id_of(der: bytes) -> str:
    """The Ed25519 peer id that a DER certificate's libp2p extension proves. Raises BadCertificate.

    The validity dates are not looked at: the certificate lives as long as its process, and no rule of a swarm depends
    on anybody's wall clock.
    """
    if len(der) > _MAX_CERTIFICATE_BYTES:
        raise BadCertificate("certificate too large")
    try:
        certificate = x509.load_der_x509_certificate(der)
        extension = certificate.extensions.get_extension_for_oid(LIBP2P_EXTENSION_OID).value
        assert isinstance(extension, x509.UnrecognizedExtension), "the oid is unknown to cryptography"
        signed = decode_signed_key(extension.value)
        certificate.verify_directly_issued_by(certificate)
        spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (x509.ExtensionNotFound, x509.DuplicateExtension):
        raise BadCertificate("certificate without a libp2p extension") from None
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise BadCertificate(f"malformed certificate: {error}") from None
    packed = signed.public_key_bytes
    if len(packed) != len(_ED25519_PROTOBUF_PREFIX) + 32 or not packed.startswith(_ED25519_PROTOBUF_PREFIX):
        raise BadCertificate("certificate of an identity that is not Ed25519")
    key = Ed25519PublicKey.from_bytes(packed[len(_ED25519_PROTOBUF_PREFIX) :])
    if len(signed.signature) != SIGNATURE_BYTES or not key.verify(LIBP2P_CERT_PREFIX + spki, signed.signature):
        raise BadCertificate("certificate not signed by the identity it names")
    return str(ID.from_pubkey(key).to_base58())
