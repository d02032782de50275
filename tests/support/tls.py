"""A certificate authority for tests."""

from __future__ import annotations

import ssl
from functools import cache

import attrs
import trustme


@cache
def authority() -> trustme.CA:
    """Return the certificate authority of the tests."""
    return trustme.CA(organization_name="Tests' own CA")


def server_context(certificate: trustme.LeafCert | None = None) -> ssl.SSLContext:
    """Return a server's context; by default with the authority's own certificate, which has no host name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if certificate is not None:
        certificate.configure_cert(context)
    else:
        with authority().private_key_pem.tempfile() as key, authority().cert_pem.tempfile() as chain:
            context.load_cert_chain(chain, key)
    return context


def client_context() -> ssl.SSLContext:
    """Return a context that trusts `authority()` alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority().configure_trust(context)
    return context


@attrs.frozen
class PrivateCA:
    """A certificate authority that only its own client context trusts."""

    server: ssl.SSLContext
    client: ssl.SSLContext


@cache
def private_ca() -> PrivateCA:
    """Return contexts of `authority()`; the server's certificate is valid for loopback and three names."""
    names = ("127.0.0.1", "localhost", "api.example", "evil.example", "token.example")
    return PrivateCA(server_context(authority().issue_cert(*names)), client_context())
