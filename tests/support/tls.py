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


@cache
def stranger() -> trustme.CA:
    """Return an authority that no client and no server trusts."""
    return trustme.CA()


def server_context(certificate: trustme.LeafCert | None = None) -> ssl.SSLContext:
    """Return a server's context; by default with the authority's own certificate, which has no host name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if certificate is not None:
        certificate.configure_cert(context)
    else:
        with authority().private_key_pem.tempfile() as key, authority().cert_pem.tempfile() as chain:
            context.load_cert_chain(chain, key)
    return context


def loopback_context(*, needs_certificate: bool = False) -> ssl.SSLContext:
    """Return a server's context for 127.0.0.1, which may require a client certificate of `authority()`."""
    context = server_context(authority().issue_cert("127.0.0.1"))
    if needs_certificate:
        authority().configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(name: str = "") -> ssl.SSLContext:
    """Return a context that trusts `authority()` alone; if *name* is given, with a client certificate for it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority().configure_trust(context)
    if name:
        authority().issue_cert(name).configure_cert(context)
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
