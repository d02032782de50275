"""Forwarding of bytes between connections."""

from __future__ import annotations

import inspect
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


async def carry(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, on_data: Callable[[bytes], object] | None = None
) -> None:
    """Forward all data until either side ends, and close *writer*.

    *on_data* is called with each part first; if it returns an awaitable, the part is delayed until that is done.
    """
    with suppress(OSError):
        try:
            while data := await reader.read(1 << 16):
                held = on_data(data) if on_data else None
                if inspect.isawaitable(held):
                    await held
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()
        await writer.wait_closed()
