"""A host on the network. Rule: name, connection, TLS, each by itself and in this order, and nothing is sent."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
from contextlib import suppress
from typing import Any, Final

import attrs
from yarl import URL

from ._check import Outcome, failed, ok, skipped, warning
from ._lookup import Addresses, find_addresses

__all__ = ["Host"]

_DAY_SECONDS: Final = 86_400
_EXPIRES_SOON_SECONDS: Final = 14 * _DAY_SECONDS
_FAMILIES: Final = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}

_PRIVATE_CA: Final = (
    "if a CA of your own or a proxy that opens TLS signed it, name that CA's certificate: SSL_CERT_FILE for this "
    "command, ssl=ssl.create_default_context(cafile=…) in a program"
)
# By OpenSSL's numbers, X509_V_ERR_…
_ADVICE: Final = {
    9: "is this machine's clock right? Else the host's operator must mend it",
    10: "the host's operator must renew it; is this machine's clock right?",
    62: "correct the host in {variable}, or the host's operator must mend it",
    64: "write the host's name in {variable}, not its address, or the host's operator must mend it",
}


@attrs.define(eq=False, kw_only=True)
class Host:
    """What a URL's host is asked: each question after the one before it.

    Attributes:
        url: absolute.
        variable: the setting that it comes from.
        patience_seconds: how long one address may take to accept a connection.
    """

    url: URL
    variable: str
    patience_seconds: float
    _addresses: Addresses = attrs.field(init=False, factory=Addresses)
    _reached: str = attrs.field(init=False, default="")

    @property
    def name(self) -> str:
        return self.url.raw_host or ""

    @property
    def port(self) -> int:
        return self.url.port or 0

    async def look_up(self) -> Outcome:
        began_at = time.perf_counter()
        try:
            self._addresses = await find_addresses(self.name, self.port)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or "it cannot be a host's name"
            return failed(
                f"{self.name}: {reason}",
                advice=f"is it spelt right in {self.variable}? Else mend this machine's or container's DNS",
                host=self.name,
            )
        seconds = time.perf_counter() - began_at
        addresses = [address for each in self._addresses.values() for address in each]
        if addresses == [self.name]:
            return ok(f"{self.name} is an address, no name", host=self.name, addresses=addresses)
        return ok(
            f"{self.name} is {', '.join(addresses)} ({_milliseconds(seconds)})",
            host=self.name,
            addresses=addresses,
            duration_seconds=seconds,
        )

    async def connect(self) -> Outcome:
        tried = await asyncio.gather(*(self._try(addresses) for addresses in self._addresses.values()))
        results = dict(zip(self._addresses, tried, strict=True))
        told = "; ".join(f"{_FAMILIES.get(family, family.name)} {result}" for family, result in results.items())
        facts = {"port": self.port} | {
            f"{_FAMILIES.get(family, family.name).lower()}_seconds": result.seconds
            for family, result in results.items()
        }
        reached = [result for result in tried if result.seconds is not None]
        if not reached:
            return failed(
                f"port {self.port}: {told}",
                advice=f"is the port right in {self.variable}, the host up, and does a firewall let this machine out?",
                **facts,
            )
        self._reached = reached[0].address
        if len(reached) < len(tried):
            return warning(
                f"port {self.port}: {told}",
                advice="connections are made the other way, some of them late: mend the route, or the host's DNS entry",
                **facts,
            )
        return ok(f"port {self.port}: {told}", **facts)

    async def _try(self, addresses: list[str]) -> _Attempt:
        """Return the first address that accepts a connection, or why the last one does not."""
        attempt = _Attempt(address="", problem="no address")
        for address in addresses:
            began_at = time.perf_counter()
            try:
                async with asyncio.timeout(self.patience_seconds):
                    _, writer = await asyncio.open_connection(address, self.port)
            except TimeoutError as error:
                # The system gives up after minutes, with an error of the same type that has a number.
                reason = os.strerror(error.errno) if error.errno else f"no answer within {self.patience_seconds:g} s"
                attempt = _Attempt(address=address, problem=reason)
            except OSError as error:
                attempt = _Attempt(address=address, problem=_words_of(error))
            else:
                await _close(writer)
                return _Attempt(address=address, seconds=time.perf_counter() - began_at)
        return attempt

    async def shake_hands(self) -> Outcome:
        if self.url.scheme == "http":
            return skipped("plain http, which stays within this machine")
        try:
            # As aiohttp's own, which the package uses.
            context = ssl.create_default_context()
            _, writer = await asyncio.open_connection(self._reached, self.port, ssl=context, server_hostname=self.name)
        except ssl.SSLCertVerificationError as error:
            return failed(
                f"the certificate is not trusted: {error.verify_message}",
                advice=_ADVICE.get(error.verify_code, _PRIVATE_CA).format(variable=self.variable),
                verify_code=error.verify_code,
            )
        except (OSError, EOFError) as error:
            return failed(
                f"no TLS: {_words_of(error)}",
                advice=f"does this port speak https? Correct {self.variable}; else something on the way cuts it off",
            )
        try:
            connection = writer.get_extra_info("ssl_object")
            return _judge_certificate(connection.getpeercert(), version=connection.version(), host=self.name)
        finally:
            await _close(writer)


@attrs.frozen(kw_only=True)
class _Attempt:
    address: str
    seconds: float | None = None
    problem: str = ""

    def __str__(self) -> str:
        if self.seconds is None:
            return f"{self.address}: {self.problem}"
        return f"{self.address} in {_milliseconds(self.seconds)}"


def _judge_certificate(certificate: dict[str, Any], *, version: str, host: str) -> Outcome:
    expires_at = ssl.cert_time_to_seconds(certificate["notAfter"])
    life_seconds = expires_at - time.time()
    names = {name: value for part in certificate.get("issuer", ()) for name, value in part}
    issuer = names.get("organizationName") or names.get("commonName") or "an unnamed CA"
    told = f"{version}, a certificate for {host} by {issuer}, which expires in {life_seconds / _DAY_SECONDS:.0f} days"
    facts = {"tls_version": version, "issuer": issuer, "expires_at": expires_at, "life_seconds": life_seconds}
    if life_seconds < _EXPIRES_SOON_SECONDS:
        return warning(told, advice="the host's operator must renew it before that", **facts)
    return ok(told, **facts)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()  # nothing was sent, and a farewell may be waited for without end
    with suppress(OSError):
        await writer.wait_closed()


def _words_of(error: Exception) -> str:
    # asyncio puts words of its own in the place of the system's; OpenSSL has numbers of its own.
    if isinstance(error, ssl.SSLError):
        return (error.reason or type(error).__name__).replace("_", " ").lower()
    number = getattr(error, "errno", None)
    return os.strerror(number) if number else "the connection was closed"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
