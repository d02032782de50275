"""Scale and contenders of a run. Rule: this package comes first, and a peer that is left out has a note."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import attrs

from benchmarks._measure import Contender, describe
from benchmarks._peers import OURS, Peer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from benchmarks._measure import Sample
    from benchmarks._peers import Client
    from benchmarks._server import Server

__all__ = ["Scale", "enter", "open_clients"]


@attrs.frozen
class Scale:
    """The peers, and whether figures matter or the run only shows that the measures work."""

    peers: tuple[Peer, ...] = ()
    is_quick: bool = False

    def __call__(self, full: int, quick: int) -> int:
        """Return *full*, or *quick* for a run without meaningful figures."""
        return quick if self.is_quick else full


def enter(
    scale: Scale, make: Callable[[Peer, Contender], Sample], *, refuse: Callable[[Peer], str] = lambda _: ""
) -> list[Contender]:
    """Return a contender for this package and each peer, with a sample by *make*, or a reason by *refuse*."""
    contenders = []
    for peer in (OURS, *scale.peers):
        reason = peer.cannot or refuse(peer)
        contender = Contender(peer.name, note=reason or peer.note)
        if not reason:
            contender.sample = make(peer, contender)
        contenders.append(contender)
    return contenders


@asynccontextmanager
async def open_clients(
    peers: tuple[Peer, ...], server: Server, *, timing: Callable[[Client], Sample | None], reason: str = ""
) -> AsyncGenerator[list[Contender]]:
    """Open a client of each peer, get its first token, and count its token requests; *timing* makes its sample."""
    contenders = []
    async with AsyncExitStack() as stack:
        for peer in peers:
            contender = Contender(peer.name, note=peer.cannot or peer.note)
            contenders.append(contender)
            if peer.cannot:
                continue
            before = await server.count("token_requests")
            try:
                client = await stack.enter_async_context(peer.open(server))
                await client.get_token()
            except Exception as error:
                if peer is peers[0]:
                    raise
                contender.note = describe(error)
                continue
            contender.counts["token requests"] = await server.count("token_requests") - before
            contender.sample = timing(client)
            if contender.sample is None:
                contender.note = reason
        yield contenders
