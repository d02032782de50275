"""How much is done, and with whom. Rule: this package comes first, and nobody is left out without a note."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import attrs

from benchmarks._measure import Contender, describe
from benchmarks._peers import Peer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from benchmarks._measure import Sample
    from benchmarks._peers import Client
    from benchmarks._server import Server

__all__ = ["Scale", "enter", "open_clients"]


@attrs.frozen
class Scale:
    """Everything for figures that are told, little to see that it works; *peers* are the contenders."""

    peers: tuple[Peer, ...]
    is_quick: bool = False

    def __call__(self, full: int, quick: int) -> int:
        """Return *full*, or *quick* if that is enough."""
        return quick if self.is_quick else full


def enter(
    scale: Scale, make: Callable[[Peer, Contender], Sample], *, refuse: Callable[[Peer], str] = lambda _: ""
) -> list[Contender]:
    """Return a contender for each peer, with the sample that *make* gives, or the reason that *refuse* gives."""
    contenders = []
    for peer in scale.peers:
        reason = peer.cannot or refuse(peer)
        contender = Contender(name=peer.name, note=reason or peer.note)
        if not reason:
            contender.sample = make(peer, contender)
        contenders.append(contender)
    return contenders


@asynccontextmanager
async def open_clients(scale: Scale, server: Server) -> AsyncGenerator[list[tuple[Contender, Client | None]]]:
    """Open a client of each peer, which has a token then; count the token requests that it took."""
    clients: list[tuple[Contender, Client | None]] = []
    async with AsyncExitStack() as stack:
        for number, peer in enumerate(scale.peers):
            contender, client = Contender(name=peer.name, note=peer.cannot or peer.note), None
            before = await server.count("token_requests")
            try:
                if not peer.cannot:
                    client = await stack.enter_async_context(peer.open(server))
                    await client.get_token()
            except Exception as error:
                if not number:
                    raise
                client, contender.note = None, describe(error)
            if client:
                contender.counts["token requests"] = await server.count("token_requests") - before
            clients.append((contender, client))
        yield clients
