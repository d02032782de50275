"""Fuzzed URLs and environments raise only a `SimpleStoreError`, which shows no secret."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Any, Final

from hypothesis import example, given
from hypothesis import strategies as st

from simplestore_async import BearerAuthMiddleware, ClientCredentials, TokenEndpoint, open_session
from simplestore_async._core.origin import is_loopback
from simplestore_async.caches.encryption import FernetCodec
from simplestore_async.errors import ConfigurationError
from tests.support.api_requests import OneToken
from tests.support.fuzzing import CREDENTIALS, FUZZ, SECRET, SLOWER, environment, outcome_of, texts

if TYPE_CHECKING:
    from yarl import URL

hosts: Final = st.one_of(
    texts(max_size=12),
    st.sampled_from(["canary-host", "localhost", "127.0.0.1", "[::1]", "[::", "[fe80::1%25x]"]),
    st.sampled_from(["\uff2cOCALHOST", "ß.example", "xn--a"]),
)
urls: Final = st.one_of(
    texts(),
    st.builds(
        "{}{}{}{}{}{}".format,
        st.sampled_from(["https://", "http://", "HTTPS://", "//", "https:", "https:/\\", "ftp://", "", " https://"]),
        st.sampled_from(["", "", "canary-user:canary-pass@", "@", "a@b@", ":@"]) | texts(max_size=5).map("{}@".format),
        hosts,
        st.sampled_from(["", "", ":0", ":443", ":65536", ":x", ":", ":-1", ":٣"]),
        st.sampled_from(["", "/", "/connect/token", "\\", "/%zz", "/\ud800", "/a b", "/../"]) | texts(max_size=5),
        st.sampled_from(["", "", "?a=b", "#", "#x", "?"]),
    ),
)


def is_safe(url: URL) -> bool:
    return url.scheme == "https" or (url.scheme == "http" and is_loopback(url))


@FUZZ
@given(urls)
@example("HTTPS://XN--")
def test_token_url(url: str) -> None:
    """A token URL is refused unless the secret can be sent to it safely."""
    outcome = outcome_of(lambda: ClientCredentials(client_id="app", client_secret=SECRET, token_url=url))
    if isinstance(outcome, ClientCredentials):
        assert is_safe(outcome.token_url)
        assert outcome.token_url.host
        assert outcome.token_url.user is None
        assert 64 == len(outcome.cache_key)


@FUZZ
@given(urls | st.lists(urls, max_size=3))
def test_origins(origins: str | list[str]) -> None:
    """Origins are accepted or refused."""
    outcome_of(lambda: BearerAuthMiddleware(OneToken(), origins=origins))


@FUZZ
@given(urls, st.none() | texts())
def test_proxy(url: str, no_proxy: str | None) -> None:
    """A proxy, from an argument or the environment, is accepted or refused without showing its password."""
    outcome_of(lambda: TokenEndpoint(CREDENTIALS, proxy=url))
    endpoint = TokenEndpoint(CREDENTIALS, trust_env=True)
    with environment({"https_proxy": url} | ({} if no_proxy is None else {"no_proxy": no_proxy})):
        outcome_of(endpoint._find_proxy)


@SLOWER
@given(urls)
@example("canary-pass")
def test_base_url(url: str) -> None:
    """A base URL, from an argument or the environment, is accepted or refused."""

    async def open_and_close(**options: Any) -> None:
        async with open_session(CREDENTIALS, **options):
            pass

    outcome_of(lambda: asyncio.run(open_and_close(base_url=url)))
    with environment({"SIMPLESTORE_BASE_URL": url}):
        outcome_of(lambda: asyncio.run(open_and_close()))


# Python's form of environment bytes that are not UTF-8.
undecodable: Final = st.binary().map(lambda data: data.decode(errors="surrogateescape"))
variables: Final = st.fixed_dictionaries(
    {},
    optional={
        "SIMPLESTORE_CLIENT_ID": texts() | st.just("app"),
        "SIMPLESTORE_CLIENT_SECRET": texts() | st.just(SECRET) | undecodable,
        "SIMPLESTORE_CLIENT_SECRET_FILE": texts()
        | st.sampled_from([".", "/", "/dev/null", "/proc/self/mem", "~", "a" * 5000]),
        "SIMPLESTORE_TOKEN_URL": urls,
        "SIMPLESTORE_SCOPE": texts() | undecodable,
    },
)


@FUZZ
@given(variables)
def test_environment(values: dict[str, str]) -> None:
    """An environment gives credentials or an error that names the variable."""
    with environment(values):
        outcome = outcome_of(ClientCredentials.from_env)
    if isinstance(outcome, ClientCredentials):
        assert values["SIMPLESTORE_CLIENT_SECRET"] not in {"", repr(outcome)}
        assert is_safe(outcome.token_url)
    else:
        assert isinstance(outcome, ConfigurationError)
        assert "SIMPLESTORE_" in str(outcome)


keys_of_caches: Final = st.one_of(
    texts(),
    undecodable,
    st.binary(min_size=32, max_size=32).map(lambda key: base64.urlsafe_b64encode(key).decode()),
    st.lists(st.sampled_from([SECRET, "A" * 43 + "=", ",", " ", "#", "\n"]), max_size=4).map("".join),
)


@FUZZ
@given(keys_of_caches, texts() | st.sampled_from(["", ".", "/dev/null", "/proc/self/mem", "a" * 5000]))
@example("", "a" * 5000)
def test_environment_of_the_codec(text: str, path: str) -> None:
    """An environment gives keys that encrypt or an error that names the variable."""
    with environment({"SIMPLESTORE_CACHE_KEY": text, "SIMPLESTORE_CACHE_KEY_FILE": path}):
        outcome = outcome_of(FernetCodec.from_env)
    if isinstance(outcome, FernetCodec):
        assert b"data" == outcome.decode(outcome.encode(b"data"))
    else:
        assert isinstance(outcome, ConfigurationError)
        assert str(outcome).startswith("SIMPLESTORE_CACHE_KEY")
