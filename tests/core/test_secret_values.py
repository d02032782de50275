"""Secrets passed as objects with `get_secret_value()`, such as pydantic's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretBytes, SecretStr

from simplestore_async import ClientCredentials, TokenEndpoint, open_session
from simplestore_async.caches.encryption import FernetCodec
from simplestore_async.caches.redis import RedisTokenCache
from simplestore_async.client_authentication import PrivateKeyJwt
from simplestore_async.errors import ConfigurationError
from simplestore_async.httpx import open_client
from tests.support.api_requests import OneToken
from tests.support.tracebacks import shown_by

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = Fernet.generate_key()


class Broken:
    def get_secret_value(self) -> str:
        raise RuntimeError("canary")


def test_fernet_keys() -> None:
    """FernetCodec accepts one or several of them, with text or bytes."""
    data = FernetCodec(KEY).encode(b"data")
    older = Fernet.generate_key().decode()
    several: list[Any] = [SecretStr(KEY.decode()), SecretBytes(KEY), [SecretStr(older), SecretBytes(KEY)]]
    for keys in several:
        assert b"data" == FernetCodec(keys).decode(data)


def test_redis_url() -> None:
    """RedisTokenCache.from_url() accepts one and does not show it."""
    cache = RedisTokenCache.from_url(SecretStr("redis://:canary@127.0.0.1:1/0"))
    assert "canary" not in repr(vars(cache))


def test_proxy() -> None:
    """A proxy URL may be one, for the token endpoint and both clients."""
    proxy = SecretStr("http://user:canary@proxy.example:3128")
    credentials = ClientCredentials(
        client_id="app", client_secret="secret", token_url="https://token.example/connect/token"
    )
    endpoint = TokenEndpoint(credentials, proxy=proxy)
    found = endpoint._proxies.find(credentials.token_url)
    assert found is not None
    assert "http://proxy.example:3128" == str(found.url)
    for opened in (
        open_session(credentials, base_url="https://api.example", proxy=proxy),
        open_client(credentials, base_url="https://api.example", proxy=proxy),
    ):
        assert "canary" not in repr(vars(opened))


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (FernetCodec, "keys"),
        (lambda value: FernetCodec([KEY, value]), "keys"),
        (RedisTokenCache.from_url, "url"),
        (lambda value: open_session(OneToken(), base_url="https://api.example", proxy=value), "proxy"),
        (lambda value: open_client(OneToken(), base_url="https://api.example", proxy=value), "proxy"),
        (lambda value: PrivateKeyJwt(value, audience="https://issuer.example"), "key"),
    ],
    ids=["Fernet key", "Fernet keys", "Redis URL", "aiohttp proxy", "httpx proxy", "private key"],
)
def test_broken(make: Callable[[Any], object], field: str) -> None:
    """If reading one raises, the error names the exception's type without its text."""
    with pytest.raises(ConfigurationError, match="RuntimeError") as caught:
        make(Broken())
    assert field == caught.value.field
    assert "canary" not in shown_by(caught.value)
