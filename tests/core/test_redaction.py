"""Redaction of secrets and tokens wherever Python shows values, and secrets that are objects, such as pydantic's.

The canaries are module constants and every object is built by a function without arguments, so that a traceback with
locals does not show them as locals of the test.
"""

from __future__ import annotations

import copy
import json
import pickle
import reprlib
import traceback
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretBytes, SecretStr
from yarl import URL

from simplestore_async import (
    AccessToken,
    ClientCredentials,
    MemoryTokenCache,
    RenewalPolicy,
    SecretFile,
    TokenEndpoint,
    TokenProvider,
    open_session,
)
from simplestore_async._core.redaction import RedactedBytes, RedactedStr, conceal, kind_of
from simplestore_async._core.state import ProviderState
from simplestore_async.caches.encryption import FernetCodec
from simplestore_async.caches.redis import RedisTokenCache
from simplestore_async.client_authentication import PrivateKeyJwt
from simplestore_async.errors import ConfigurationError, TokenError
from simplestore_async.httpx import open_client
from tests.support.api_requests import OneToken
from tests.support.secrecy import WAYS
from tests.support.tracebacks import everything_shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from simplestore_async._core.policy import HeldToken

SECRET = "canary-secret"
TOKEN = "canary-token"


def leaks(error: BaseException | None) -> list[str]:
    """Return every text with a canary that a log or debugger may show of an error, its causes and contexts."""
    shown: list[str] = []
    while error is not None:
        lines = traceback.TracebackException.from_exception(error, capture_locals=True).format()
        shown += [str(error), repr(error), repr(vars(error)), *lines]
        error = error.__cause__ or error.__context__
    return [text for text in shown if "canary" in text]


# A partial instead of a function, whose frame would show its arguments.
credentials: Callable[..., ClientCredentials] = partial(ClientCredentials, client_id="app", client_secret=SECRET)


def literal_credentials() -> ClientCredentials:
    return credentials()


def token() -> AccessToken:
    return AccessToken(TOKEN, issued_at=1, expires_at=3601)


def held_token() -> HeldToken:
    return RenewalPolicy().hold(token(), requested_at=1, is_first=True, is_unproven=False, random=lambda: 0.5)


def state() -> ProviderState:
    after, _ = ProviderState().received(token(), requested_at=1, now=1, is_replacement=False)
    return after


def state_after_a_rejection() -> ProviderState:
    after, _ = state().rejects(token(), 2)
    return after


def get_secret() -> str:
    return SECRET


HOLDERS: dict[str, Callable[[], Any]] = {
    "credentials": literal_credentials,
    "callable": lambda: credentials(client_secret=get_secret),
    "file": lambda: credentials(client_secret=SecretFile("/run/secrets/simplestore")),
    "extra parameters": lambda: credentials(extra_parameters={"assertion": SECRET}),
    "token": token,
    "held token": held_token,
    "state": state,
    "rejection": state_after_a_rejection,
}


def test_redacted_str() -> None:
    """A redacted string works as its value in comparisons, dictionaries, bytes, JSON and f-strings."""
    redacted = RedactedStr(TOKEN)

    assert redacted == TOKEN
    assert {TOKEN: 1}[redacted] == 1
    assert TOKEN.encode() == redacted.encode()
    assert json.dumps(TOKEN) == json.dumps(redacted)
    assert TOKEN == f"{redacted}"


@pytest.mark.parametrize(
    "build",
    [
        *(literal_credentials, token, lambda: RedactedStr(TOKEN), MemoryTokenCache),
        *(lambda: TokenProvider(literal_credentials()), lambda: TokenEndpoint(literal_credentials())),
    ],
    ids=["credentials", "token", "string", "cache", "provider", "endpoint"],
)
def test_copy(build: Callable[[], object]) -> None:
    """Copying a secret, or an object that holds one, returns the original."""
    original = build()

    assert original is copy.copy(original) is copy.deepcopy(original)


@pytest.mark.parametrize(
    ("value", "shown", "kind"), [(SECRET, "'***'", "RedactedStr"), (SECRET.encode(), "b'***'", "bytes")]
)
def test_conceal(value: str | bytes, shown: str, kind: str) -> None:
    """A string is redacted, and so are bytes, passed by mistake, which are reported as bytes."""
    concealed = conceal(value)
    assert (shown, value, kind) == (repr(concealed), concealed, kind_of(concealed))


@pytest.mark.parametrize("value", [None, 5, get_secret])
def test_conceal_anything_else(value: object) -> None:
    """Anything but a string is returned unchanged, for validation elsewhere."""
    assert value is conceal(value)


def test_slices() -> None:
    """A slice of a redacted string or of redacted bytes, as reprlib and rich take, is redacted."""
    text, body = RedactedStr("canary" * 100), RedactedBytes(b"canary")

    assert ("'***'", "b'***'", b"nary", ord("c")) == (repr(text[:80]), repr(body[2:]), body[2:], body[0])
    assert "canary" not in reprlib.Repr().repr(text)


@pytest.mark.parametrize("build", HOLDERS.values(), ids=HOLDERS)
def test_shown(build: Callable[[], Any]) -> None:
    """Nothing that shows an object shows its secret or token, not even a traceback with locals."""

    def fail(held: object) -> None:
        raise TokenError("No token: reason")

    assert [] == [name for name, show in WAYS.items() if "canary" in show(build())]
    with pytest.raises(TokenError) as caught:
        fail(build())
    assert [] == leaks(caught.value)


@pytest.mark.parametrize(
    ("build", "advice"),
    [
        (lambda: RedactedStr(SECRET), "let each process read or request its own"),
        (literal_credentials, r"use ClientCredentials\.from_env\(\) in each process"),
        (lambda: credentials(client_secret=get_secret), r"use ClientCredentials\.from_env\(\) in each process"),
        (token, "give each process its own TokenProvider, and let them share a FileTokenCache"),
        (held_token, "give each process its own TokenProvider"),
        (state, "give each process its own TokenProvider"),
        (state_after_a_rejection, "let each process read or request its own"),
        (lambda: {"headers": token().authorization}, "let each process read or request its own"),
    ],
    ids=["string", "credentials", "callable", "token", "held token", "state", "rejection", "authorization"],
)
@pytest.mark.parametrize("protocol", [0, pickle.HIGHEST_PROTOCOL])
def test_pickle(build: Callable[[], Any], advice: str, protocol: int) -> None:
    """Secrets and tokens cannot be pickled, and the error has a hint and shows neither."""
    with pytest.raises(TypeError, match=advice) as caught:
        pickle.dumps(build(), protocol)

    assert [] == leaks(caught.value)


CONSTRUCTORS: dict[str, Callable[[], object]] = {
    "client_id": lambda: credentials(client_id=""),
    "client_secret line break": lambda: credentials(client_secret=SECRET + "\nx"),
    "client_secret bytes": lambda: credentials(client_secret=SECRET.encode()),
    "token_url": lambda: credentials(token_url="http://auth.example.com"),
    "token_url password": lambda: credentials(token_url="https://app:" + SECRET + "@auth.example.com"),
    "token_url object": lambda: credentials(token_url=URL("https://app:" + SECRET + "@auth.example.com")),
    "extra_parameters type": lambda: credentials(extra_parameters={"assertion": SECRET, "audience": 5}),
    "extra_parameters client_secret": lambda: credentials(extra_parameters={"client_secret": SECRET}),
    "extra_parameters pairs": lambda: credentials(extra_parameters=[("assertion", SECRET)]),
    "value with Bearer": lambda: AccessToken("Bearer " + TOKEN, issued_at=1, expires_at=2),
    "value with line break": lambda: AccessToken(TOKEN + "\r\n", issued_at=1, expires_at=2),
    "value bytes": lambda: AccessToken(TOKEN.encode(), issued_at=1, expires_at=2),  # type: ignore[arg-type]
    "endpoint": lambda: TokenEndpoint(SECRET),  # type: ignore[arg-type]
    "expires_at": lambda: AccessToken(TOKEN, issued_at=1, expires_at=0),
}


@pytest.mark.parametrize("build", CONSTRUCTORS.values(), ids=CONSTRUCTORS)
def test_constructor_error(build: Callable[[], object]) -> None:
    """A constructor's error shows neither secret nor token, not even in a traceback with locals."""
    with pytest.raises(ConfigurationError) as caught:
        build()

    assert [] == leaks(caught.value)


KEY = Fernet.generate_key()


class Broken:
    def get_secret_value(self) -> str:
        raise RuntimeError("canary")


def test_secret_fernet_keys() -> None:
    """FernetCodec accepts one or several objects with `get_secret_value()`, with text or bytes."""
    data = FernetCodec(KEY).encode(b"data")
    older = Fernet.generate_key().decode()
    several: list[Any] = [SecretStr(KEY.decode()), SecretBytes(KEY), [SecretStr(older), SecretBytes(KEY)]]
    for keys in several:
        assert b"data" == FernetCodec(keys).decode(data)


def test_secret_redis_url() -> None:
    """RedisTokenCache.from_url() accepts an object with `get_secret_value()` and does not show its value."""
    cache = RedisTokenCache.from_url(SecretStr("redis://:canary@127.0.0.1:1/0"))
    assert "canary" not in repr(vars(cache))


def test_secret_proxy() -> None:
    """A proxy URL may be an object with `get_secret_value()`, for the token endpoint and both clients."""
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
def test_broken_secret(make: Callable[[Any], object], field: str) -> None:
    """If `get_secret_value()` raises, the error names the exception's type without its text."""
    with pytest.raises(ConfigurationError, match="RuntimeError") as caught:
        make(Broken())
    assert field == caught.value.field
    assert "canary" not in everything_shown(caught.value)
