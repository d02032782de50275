"""No public object shows or pickles the secret or a token."""

from __future__ import annotations

import pickle
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import simplestore_async
from simplestore_async import (
    AccessToken,
    BearerAuthMiddleware,
    FileTokenCache,
    MemoryTokenCache,
    RenewalPolicy,
    TokenEndpoint,
    TokenProvider,
    open_session,
)
from simplestore_async.caches.encryption import FernetCodec
from tests.support.secrecy import (
    CACHE_KEY,
    LONG_TOKEN,
    WAYS,
    Scene,
    attributes,
    read_secret,
    shows_canary,
    write_secret,
)
from tests.support.servers import SECRET
from tests.support.tracebacks import everything_shown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def parts(name: str, value: object, seen: dict[int, tuple[str, object]]) -> None:
    """Collect an object of the package and all others that it references, by their attribute paths."""
    if id(value) in seen or isinstance(value, str) or not type(value).__module__.startswith("simplestore_async"):
        return
    seen[id(value)] = name, value
    for attribute, behind in attributes(value).items():
        items = (
            behind.values() if isinstance(behind, dict) else behind if isinstance(behind, list | tuple) else [behind]
        )
        for item in items:
            parts(f"{name}.{attribute}", item, seen)


@asynccontextmanager
async def a_world(scene: Scene) -> AsyncIterator[dict[str, Any]]:
    """Yield all public objects after use: with secrets, tokens, rejected tokens and failures."""
    credentials = scene.token_server.credentials(scope="read", extra_parameters={"audience": "api"})
    key_file = scene.tmp_path / "keys"
    key_file.write_text(CACHE_KEY)
    memory_cache = MemoryTokenCache()
    await memory_cache.set("key", AccessToken(LONG_TOKEN, issued_at=0, expires_at=1e10))
    endpoint = TokenEndpoint(credentials, policy=scene.retry)
    async with (
        TokenProvider(endpoint=endpoint, cache=memory_cache) as provider,
        open_session(provider, base_url=scene.api_server.url) as session,
    ):
        scene.api_server.rejected.add("canary-token-1")
        response = await session.post("/", json={})
        token = await provider.get_token()
        scene.reply(400, {"error": "invalid_client", "title": SECRET})
        scene.api_server.rejected.add("canary-token-2")
        provider.invalidate(token)
        yield {
            **{name: getattr(simplestore_async, name) for name in simplestore_async.__all__},
            "AccessToken": AccessToken(LONG_TOKEN, issued_at=0, expires_at=1, scope="read"),
            "AccessToken of the provider": token,
            "BearerAuthMiddleware": BearerAuthMiddleware(provider, origins=scene.api_server.url),
            "ClientCredentials": credentials,
            "ClientCredentials with a callable": scene.token_server.credentials(client_secret=read_secret),
            "FernetCodec": FernetCodec(CACHE_KEY),
            "FernetCodec with a file": FernetCodec(key_file),
            "FileTokenCache": FileTokenCache(scene.tmp_path),
            "FileTokenCache with a codec": FileTokenCache(scene.tmp_path, codec=FernetCodec(CACHE_KEY)),
            "MemoryTokenCache": memory_cache,
            "RenewalPolicy": RenewalPolicy(),
            "RetryPolicy": scene.retry,
            "SecretFile": write_secret(scene.tmp_path / "secret"),
            "TokenEndpoint": endpoint,
            "TokenProvider": provider,
            "open_session": session,
            "its response": response,
            "its request": response.request_info,
        }
        response.release()


async def test_shown(scene: Scene) -> None:
    """Neither a public object nor an object of the package that it references shows a canary."""
    async with a_world(scene) as world:
        seen: dict[int, tuple[str, object]] = {}
        for name, value in world.items():
            parts(name, value, seen)
        everything = {**world, **dict(seen.values())}
        shown = {(name, way): show(value) for name, value in everything.items() for way, show in WAYS.items()}

    assert [] == [place for place, text in shown.items() if shows_canary(text)]
    assert len(world) + 5 < len(everything)


async def test_pickled(scene: Scene) -> None:
    """Neither the pickle of a public object nor the error of pickling it contains a canary."""
    leaks: list[str] = []
    async with a_world(scene) as world:
        for name, value in world.items():
            try:
                text = str(pickle.dumps(value))
            except (TypeError, AttributeError, pickle.PicklingError) as error:
                text = everything_shown(error)
            leaks += [name] if shows_canary(text) else []

    assert [] == leaks
