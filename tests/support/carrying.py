"""Bytes on their way from one connection to another."""

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
    """Forward everything from one side until it ends or the other is gone, and close the other.

    *on_data* sees each part first; if it returns something to wait for, that holds the part up.
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
