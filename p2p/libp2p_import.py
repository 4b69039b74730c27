"""The one door to py-libp2p: keys, peer ids and the TLS certificate, without its hosts and transports."""
# ruff: noqa: E402  # the imports need what comes before them

from __future__ import annotations

from p2p.bare_package import bare_package

for _name in ("libp2p", "libp2p.security", "libp2p.security.tls"):
    bare_package(_name)

from libp2p.crypto.ed25519 import Ed25519PrivateKey, Ed25519PublicKey, create_new_key_pair
from libp2p.crypto.exceptions import MissingDeserializerError
from libp2p.crypto.pb import crypto_pb2
from libp2p.crypto.serialization import deserialize_private_key
from libp2p.peer.id import ID
from libp2p.security.tls.certificate import (
    LIBP2P_CERT_PREFIX,
    LIBP2P_EXTENSION_OID,
    create_cert_template,
    decode_signed_key,
    generate_certificate,
)

__all__ = [
    "ID",
    "LIBP2P_CERT_PREFIX",
    "LIBP2P_EXTENSION_OID",
    "Ed25519PrivateKey",
    "Ed25519PublicKey",
    "MissingDeserializerError",
    "create_cert_template",
    "create_new_key_pair",
    "crypto_pb2",
    "decode_signed_key",
    "deserialize_private_key",
    "generate_certificate",
]
