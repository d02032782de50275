"""Shared tokens in Redis, for `simplestore cache` and `doctor`. Rule: no token is read, no error text shown."""

from __future__ import annotations

import os
import re
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from simplestore_async.caches import TokenFile

from ._folder import open_redis
from ._output import CommandError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

__all__ = ["clear_tokens", "list_tokens", "ping"]

_PATTERN: Final = "simplestore-async:{*}:token-v*"
_DIGEST: Final = re.compile(rb"\{([0-9a-f]{64})\}")
_ANSWER_SECONDS: Final = 5.0


async def ping() -> None:
    """Connect to the environment's server and authenticate.

    Raises:
        ConfigurationError: if the URL is invalid, or the extra `redis` is not installed.
        CommandError: if it does not work.
    """
    async with _open() as client:
        await client.ping()


async def list_tokens() -> list[TokenFile]:
    """Return digest, expiry and size of each stored token. Raises as `ping()`."""
    async with _open() as client:
        found: list[TokenFile] = []
        async for key in client.scan_iter(match=_PATTERN):
            match = _DIGEST.search(key)
            left = await client.pttl(key)
            if match and left > 0:
                found.append(
                    TokenFile(
                        digest=match[1].decode(),
                        size_bytes=await client.strlen(key),
                        expires_at=time.time() + left / 1000,
                    )
                )
        return sorted(found, key=lambda file: file.digest)


async def clear_tokens() -> int:
    """Remove every stored token; return their number. Raises as `ping()`."""
    async with _open() as client:
        return sum([await client.delete(key) async for key in client.scan_iter(match=_PATTERN)])


@asynccontextmanager
async def _open() -> AsyncGenerator[Any]:
    open_redis()  # checks the URL and the extra
    from redis.asyncio import Redis
    from redis.exceptions import RedisError

    client: Any = Redis.from_url(  # pyright: ignore[reportUnknownMemberType] - redis-py types its options loosely
        os.environ["SIMPLESTORE_REDIS_URL"],
        socket_timeout=_ANSWER_SECONDS,
        socket_connect_timeout=_ANSWER_SECONDS,
        decode_responses=False,
    )
    try:
        yield client
    # Without the error's text, which may quote the URL.
    except (RedisError, OSError) as error:
        raise CommandError(f"cannot use the server of SIMPLESTORE_REDIS_URL: {type(error).__name__}") from None
    finally:
        await client.aclose()
