"""Names to addresses. Rule: a resolver that never answers holds up nobody, not even the end of the process."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import suppress
from ipaddress import ip_address
from typing import TypeAlias

__all__ = ["Addresses", "find_addresses"]

Addresses: TypeAlias = dict[socket.AddressFamily, list[str]]


async def find_addresses(host: str, port: int) -> Addresses:
    """Return the addresses of *host* by their family, in the resolver's order.

    Raises:
        OSError: if there are none.
        UnicodeError: if it cannot be a host's name.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Addresses] = loop.create_future()

    def settle(result: Addresses | Exception) -> None:
        if answer.cancelled():
            return
        if isinstance(result, Exception):
            answer.set_exception(result)
        else:
            answer.set_result(result)

    def run() -> None:
        try:
            result: Addresses | Exception = _ask(host, port)
        except Exception as error:  # noqa: BLE001 - passed on to whoever waits
            result = error
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(settle, result)

    # The threads of an executor would be waited for at the end of the process.
    threading.Thread(target=run, daemon=True, name="simplestore-lookup").start()
    return await answer


def _ask(host: str, port: int) -> Addresses:
    # As aiohttp asks: an address is looked up nowhere, and IPv6 counts where this machine has IPv6.
    flags = socket.AI_NUMERICHOST if _is_address(host) else socket.AI_ADDRCONFIG
    found: Addresses = {}
    for family, *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags):
        found.setdefault(family, []).append(str(address[0]))
    return found


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
