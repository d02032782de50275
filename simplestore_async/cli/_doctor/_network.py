"""Network checks of a host: name, connection, TLS. Rule: nothing is sent."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from typing import Any, Final, TypeAlias

import attrs
from yarl import URL

from simplestore_async._core.transport_errors import describe_system_error
from simplestore_async._core.worker import Worker

from ._check import Result, failed, ok, skipped, warning

__all__ = ["Host", "check_proxy_connection"]

_Addresses: TypeAlias = dict[socket.AddressFamily, list[str]]

_DAY_SECONDS: Final = 86_400
_EXPIRES_SOON_SECONDS: Final = 14 * _DAY_SECONDS
_FAMILIES: Final = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}

_PRIVATE_CA: Final = (
    "if a private CA or a proxy that inspects TLS signed it, name that CA's certificate: SSL_CERT_FILE for this "
    "command, ssl=ssl.create_default_context(cafile=…) in a program; on guest Wi-Fi, log in to its portal first"
)
_CLOCK: Final = "check this machine's clock; if it is right, the host's operator must renew the certificate"
# By OpenSSL's numbers, X509_V_ERR_…
_ADVICE: Final = {
    9: _CLOCK,
    10: _CLOCK,
    62: "correct the host in {variable}; on guest Wi-Fi, log in to its portal first",
    64: "use the host's name in {variable}, not its address",
}


@attrs.define(eq=False, kw_only=True)
class Host:
    """The host of a URL, and the state of its checks, which run one after the other.

    Attributes:
        url: absolute.
        variable: the setting that it comes from.
        patience_seconds: time limit of a connection to one address.
    """

    url: URL
    variable: str
    patience_seconds: float
    _addresses: _Addresses = attrs.field(init=False, factory=dict[socket.AddressFamily, list[str]])
    _reached: str = attrs.field(init=False, default="")

    @property
    def name(self) -> str:
        return self.url.raw_host or ""

    @property
    def port(self) -> int:
        return self.url.port or 0

    async def check_name(self) -> Result:
        began_at = time.perf_counter()
        try:
            self._addresses = await _find_addresses(self.name, self.port)
        except (OSError, UnicodeError) as error:
            return failed(
                f"{self.name}: {_problem_of(error)}",
                advice=f"check its spelling in {self.variable}, then the DNS settings of this machine or container",
                host=self.name,
            )
        facts: dict[str, Any] = {"host": self.name, "duration_seconds": time.perf_counter() - began_at}
        facts["addresses"] = addresses = [address for each in self._addresses.values() for address in each]
        if addresses == [self.name]:
            return ok(f"{self.name} is an address", **facts)
        return ok(f"{self.name} is {', '.join(addresses)} ({_milliseconds(facts['duration_seconds'])})", **facts)

    async def check_connection(self) -> Result:
        tried = await asyncio.gather(*(self._try(addresses) for addresses in self._addresses.values()))
        attempts = {_FAMILIES[family]: attempt for family, attempt in zip(self._addresses, tried, strict=True)}
        shown = f"port {self.port}: {'; '.join(f'{family} {attempt}' for family, attempt in attempts.items())}"
        facts = {f"{family.lower()}_seconds": attempt.seconds for family, attempt in attempts.items()}
        facts["port"] = self.port
        reached = [attempt.address for attempt in tried if attempt.seconds is not None]
        if not reached:
            advice = f"check the port in {self.variable}, whether the host is up, and firewalls in between"
            return failed(shown, advice=advice, **facts)
        self._reached = reached[0]
        if len(reached) < len(tried):
            advice = "connections use the other address family, some after a delay; fix the route or the DNS entry"
            return warning(shown, advice=advice, **facts)
        return ok(shown, **facts)

    async def _try(self, addresses: list[str]) -> _Attempt:
        """Return the first address that accepts a connection, or the failure of the last one."""
        attempt = _Attempt(address="", problem="no address")
        for address in addresses:
            began_at = time.perf_counter()
            try:
                async with asyncio.timeout(self.patience_seconds):
                    _, writer = await asyncio.open_connection(address, self.port)
            except OSError as error:
                attempt = _Attempt(address=address, problem=_problem_of(error))
            else:
                await _close(writer)
                return _Attempt(address=address, seconds=time.perf_counter() - began_at)
        return attempt

    async def check_tls(self) -> Result:
        if self.url.scheme == "http":
            return skipped("plain http, on this machine only")
        try:
            # aiohttp's default, which the package uses.
            context = ssl.create_default_context()
            _, writer = await asyncio.open_connection(self._reached, self.port, ssl=context, server_hostname=self.name)
        except ssl.SSLCertVerificationError as error:
            return failed(
                f"certificate not trusted: {error.verify_message}",
                advice=_ADVICE.get(error.verify_code, _PRIVATE_CA).format(variable=self.variable),
                verify_code=error.verify_code,
            )
        except (OSError, EOFError) as error:
            return failed(
                f"no TLS: {_problem_of(error)}",
                advice=f"check that this port speaks https, in {self.variable}; otherwise something in between "
                "closes the connection",
            )
        try:
            connection = writer.get_extra_info("ssl_object")
            return _judge_certificate(connection.getpeercert(), version=connection.version(), host=self.name)
        finally:
            await _close(writer)


async def check_proxy_connection(url: URL, variable: str, *, patience_seconds: float) -> Result:
    """Connect to a proxy. No part of its URL is shown: if a password is not encoded, any part may belong to it."""
    began_at = time.perf_counter()
    try:
        async with asyncio.timeout(patience_seconds):
            addresses = await _find_addresses(url.raw_host or "", url.port or 0)
            first = next(address for each in addresses.values() for address in each)
            _, writer = await asyncio.open_connection(first, url.port)
    except (OSError, UnicodeError) as error:
        return failed(
            f"proxy of {variable}: {_problem_of(error)}",
            advice=f"check host and port in {variable}, and whether the proxy is up",
        )
    await _close(writer)
    seconds = time.perf_counter() - began_at
    return ok(f"proxy of {variable} reached in {_milliseconds(seconds)}", variable=variable, duration_seconds=seconds)


@attrs.frozen(kw_only=True)
class _Attempt:
    address: str
    seconds: float | None = None
    problem: str = ""

    def __str__(self) -> str:
        if self.seconds is None:
            return f"{self.address}: {self.problem}"
        return f"{self.address} in {_milliseconds(self.seconds)}"


def _judge_certificate(certificate: dict[str, Any], *, version: str, host: str) -> Result:
    expires_at = ssl.cert_time_to_seconds(certificate["notAfter"])
    life_seconds = expires_at - time.time()
    names = {name: value for part in certificate.get("issuer", ()) for name, value in part}
    issuer = names.get("organizationName") or names.get("commonName") or "an unnamed CA"
    shown = f"{version}, certificate for {host} by {issuer}, expires in {life_seconds / _DAY_SECONDS:.0f} days"
    facts = {"tls_version": version, "issuer": issuer, "expires_at": expires_at, "life_seconds": life_seconds}
    if life_seconds < _EXPIRES_SOON_SECONDS:
        return warning(shown, advice="the host's operator must renew the certificate before that", **facts)
    return ok(shown, **facts)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()  # nothing was sent, and an orderly close may never end
    with suppress(OSError):
        await writer.wait_closed()


def _problem_of(error: Exception) -> str:
    """Return the system's text for an error, or that of OpenSSL, which has numbers of its own."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or type(error).__name__).replace("_", " ").lower()
    if isinstance(error, UnicodeError):
        return "not a valid host name"
    if isinstance(error, TimeoutError) and not error.errno:
        return "no response in time"
    if isinstance(error, OSError) and (text := describe_system_error(error)):
        return text
    return "connection closed"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


async def _find_addresses(host: str, port: int) -> _Addresses:
    """Return the addresses of *host* by family, in the resolver's order.

    Raises:
        OSError: if there are none.
        UnicodeError: if it is not a valid host name.
    """
    # A daemon thread: a resolver that never responds must not delay the end of the process.
    return await Worker("simplestore-lookup").run(partial(_resolve, host, port))


def _resolve(host: str, port: int) -> _Addresses:
    # As aiohttp does: no lookup of addresses, and IPv6 only if this machine has it.
    flags = socket.AI_ADDRCONFIG
    with suppress(ValueError):
        ip_address(host)
        flags = socket.AI_NUMERICHOST
    found: _Addresses = {}
    for family, *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags):
        if family in _FAMILIES:
            found.setdefault(family, []).append(str(address[0]))
    return found
