"""Origins: parsing, comparison, look-alikes, loopback, and spellings over real connections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from yarl import URL

from simplestore_async._core.origin import Origin, is_loopback, origin_of, parse_origins, parse_url
from simplestore_async.errors import ConfigurationError
from tests.support.api_requests import OneToken, fetch
from tests.support.api_servers import authorized_session
from tests.support.resolver import LocalResolver

if TYPE_CHECKING:
    from tests.support.servers import ApiServer

API = "https://api.example.com"
ORIGIN: Origin = ("https", "api.example.com", 443)


@pytest.mark.parametrize(
    ("urls", "expected"),
    [
        ((API, f"{API}:443/v1?x=1#y", f"{API}:0443", f"{API}:", f"{API}."), ORIGIN),
        (("HTTPS://API.Example.COM/", "wss://api.example.com/feed"), ORIGIN),
        (("https://api\u3002example\uff0ecom\uff61", "https://\uff41pi.example.com"), ORIGIN),
        ((f"{API}:8443",), ("https", "api.example.com", 8443)),
        (("http://api.example", "http://api.example:80", "ws://api.example/feed"), ("http", "api.example", 80)),
        (("http://api.example.com:443",), ("http", "api.example.com", 443)),
        (("ws://api.example.com:9000",), ("http", "api.example.com", 9000)),
        (
            ("https://b\u00fccher.example", "https://B\u00dcCHER.example.", "https://bu\u0308cher.example"),
            ("https", "xn--bcher-kva.example", 443),
        ),
        (("https://XN--BCHER-KVA.example",), ("https", "xn--bcher-kva.example", 443)),
        (("https://[::1]", "https://[0:0:0:0:0:0:0:1]:443"), ("https", "::1", 443)),
        (("https://[2001:DB8:0::0:1]", "https://[2001:DB8::1]"), ("https", "2001:db8::1", 443)),
        (("https://127.0.0.1", "https://\uff11\uff12\uff17.0.0.1"), ("https", "127.0.0.1", 443)),
        (("https://[::ffff:127.0.0.1]", "https://[::FFFF:7f00:1]"), ("https", "127.0.0.1", 443)),
        (("/relative",), ("", "", None)),
    ],
)
@pytest.mark.parametrize("encoded", [False, True], ids=["plain", "encoded"])
def test_origin_of(urls: tuple[str, ...], expected: Origin, *, encoded: bool) -> None:
    """All spellings of a URL have one origin, even if the URL is already encoded, as in aiohttp's redirects."""
    assert {expected} == {origin_of(URL(url, encoded=encoded)) for url in urls}


@pytest.mark.parametrize(
    "url",
    [
        "https://stra\u00dfe.example",  # strasse.example to the resolver, xn--strae-oqa.example to yarl
        *("https://api\u200b.example.com", "https://%61pi.example.com", "https://api%2eexample.com"),
        *("https://[::1%25lo]", "https://[::1%1]", "https://[fe80::1%25eth0]", "https://127.1", "https://0x7f000001"),
        *("https://0x7f.1", "https://2130706433", "https://0177.0.0.1", "https://127.0.0.1.", "https://127.0.0.01"),
    ],
)
def test_ambiguous_host(url: str) -> None:
    """A host that the origin check and the connection might interpret differently is refused."""
    with pytest.raises(ConfigurationError) as caught:
        origin_of(URL(url, encoded=True))

    assert ("url", "ambiguous-host") == (caught.value.field, caught.value.code)


@pytest.mark.parametrize(
    "url",
    [
        *("https://api.example.com.evil.example", "https://evil.example/api.example.com", "https://xapi.example.com"),
        *("https://evil.example?https://api.example.com", "https://evil.example#https://api.example.com"),
        *(f"https://{user}@evil.example" for user in ("api", "api.example.com", "api.example.com:pw")),
        *("https://www.api.example.com", "https://example.com", "https://api.example.co", "https://api-example.com"),
        *(f"{API}:444", f"{API}:80", "http://api.example.com", "ws://api.example.com", "http://api.example.com:443"),
        *("https://127.0.0.1", "/relative"),
        *("https://\u0430pi.example.com", "https://api.ex\u0430mple.com", "https://\u0430\u0440\u0456.example.com"),
    ],
)
def test_look_alike(url: str) -> None:
    """A URL that only resembles an origin does not match it."""
    assert origin_of(URL(url)) not in parse_origins(API, allow_insecure_http=True)


@pytest.mark.parametrize(
    "url",
    [
        *("http://127.0.0.1", "http://127.0.0.1:8080/path", "http://127.255.255.254", "http://localhost"),
        *("http://LOCALHOST:8080", "http://[::1]", "http://[0:0:0:0:0:0:0:1]:8080", "https://localhost"),
    ],
)
def test_loopback(url: str) -> None:
    """127.0.0.0/8, ::1 and localhost are loopback hosts."""
    assert is_loopback(URL(url))


@pytest.mark.parametrize(
    "url",
    [
        *("/path", "http://localhost.evil.example", "http://localhost.", "http://localhost.localdomain"),
        *("http://xlocalhost", "http://localhost@evil.example", "http://127.0.0.1.evil.example"),
        *("http://127.0.0.1@evil.example", "http://127.evil.example", "http://127.1", "http://0x7f000001"),
        *("http://2130706433", "http://0177.0.0.1", "http://126.255.255.255", "http://128.0.0.1", "http://0.0.0.0"),
        *("http://[::]", "http://[::2]", "http://[::ffff:127.0.0.1]", "http://[::1%25eth0]", "http://10.0.0.1"),
    ],
)
def test_not_loopback(url: str) -> None:
    """A host that only resembles loopback is not loopback, and plain http to it is refused."""
    assert not is_loopback(URL(url))
    with pytest.raises(ConfigurationError, match=r"^origins "):
        parse_origins([API, url], allow_insecure_http=False)


@pytest.mark.parametrize(
    ("url", "allow_insecure_http"),
    [("http://127.0.0.1:8080", False), ("http://[::1]:80/", False), ("http://api.example.com", True)],
)
def test_plain_http(url: str, *, allow_insecure_http: bool) -> None:
    """Plain http is accepted for loopback or with `allow_insecure_http`, and other schemes never are."""
    assert URL(url) == parse_url("token_url", url, allow_insecure_http=allow_insecure_http)
    assert {origin_of(URL(url))} == parse_origins(url, allow_insecure_http=allow_insecure_http)
    with pytest.raises(ConfigurationError, match="must be an absolute URL"):
        parse_url("token_url", url.replace("http", "ftp"), allow_insecure_http=True)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        *((url, ["str or yarl.URL", kind]) for url, kind in ((5, "int"), (None, "None"), (URL, "the class URL"))),
        (b"https://api.example.com", ["str or yarl.URL", "bytes"]),
        *((url, ["https://", "host"]) for url in ("", "api.example.com", "/v1", "//api.example.com", "https://")),
        *((url, ["https://"]) for url in ("https:api.example.com", "https://:443", "https://api.example.com:0")),
        *((url, ["https://"]) for url in ("ftp://api.example.com", "ws://api.example.com", "wss://api.example.com")),
        ("file:///etc/passwd", ["https://"]),
        *((f"{API}:{port}", ["https://host/path"]) for port in ("65536", "http", "-1")),
        *((url, ["https://host/path"]) for url in ("https://[::1", "https://[]@")),
        ("https://app:canary@api.example.com:99999", ["https://host/path"]),
        ("https://\ud800.example", ["invisible character, U+D800"]),
        ("https://api.exam\tple.com", ["invisible character, U+0009"]),
        ("https://api.example.com/to\u200bken", ["invisible character, zero width space (U+200B)"]),
        *((url, ["has an invalid host name"]) for url in ("https://api..example.com", "https://.example.com")),
        *((url, ["has an invalid host name"]) for url in ("https://api.example.com..", "https://api example.com")),
        ("https://%61pi.example.com", ["ambiguous host", "without %"]),
        ("https://[fe80::1%25eth0]", ["ambiguous host", "IPv6 zone"]),
        ("https://127.1", ["ambiguous host", "four decimal numbers"]),
        *(
            (f"https://{userinfo}@api.example.com", ["user name or password", "take them out"])
            for userinfo in ("canary", ":canary", "app:canary")
        ),
        *((url, ["wildcard", "name each host"]) for url in ("https://*.example.com", "https://*")),
        ("https://api.example.com/#fragment", ["fragment", "RFC 6749"]),
        ("http://api.example.com", ["plain http", "api.example.com", "use https", "allow_insecure_http=True"]),
        ("http://localhost.evil.example", ["plain http", "localhost.evil.example", "use https"]),
    ],
)
def test_wrong_url(url: Any, words: list[str]) -> None:
    """The error has the field, the problem and a hint, and shows no password."""
    with pytest.raises(ConfigurationError) as caught:
        parse_url("token_url", url, allow_insecure_http=False)

    message = str(caught.value)
    assert message.startswith("token_url ")
    assert words == [word for word in words if word in message]
    assert "canary" not in message


@pytest.mark.parametrize("url", [f"{API}/connect/token?tenant=1", URL(API)])
def test_parse_url(url: str | URL) -> None:
    """A URL may be a string or a `yarl.URL`, and may have a path and a query."""
    assert URL(url) == parse_url("token_url", url, allow_insecure_http=False)


@pytest.mark.parametrize(
    ("origins", "expected"),
    [
        *((origins, {ORIGIN}) for origins in (API, URL(API), f"{API}/", f"{API}/?", [API, f"{API}:443", URL(API)])),
        pytest.param(iter((API, "https://a.example:8443")), {ORIGIN, ("https", "a.example", 8443)}, id="iterator"),
        ("https://b\u00fccher.example", {("https", "xn--bcher-kva.example", 443)}),
        (("https://[::1]:9000",), {("https", "::1", 9000)}),
    ],
)
def test_parse_origins(origins: Any, expected: set[Origin]) -> None:
    """Origins may be one string or URL, or an iterable; a bare string is one origin, never its characters."""
    assert expected == parse_origins(origins, allow_insecure_http=False)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (f"{API}/v1", ["scheme, host and port only", f"write {API} ", "base_url may have a path"]),
        (f"{API}:8443/v1/", [f"write {API}:8443 "]),
        (f"{API}/*", [f"write {API} "]),
        (f"{API}?tenant=1", ["scheme, host and port only", f"write {API} "]),
        (f"{API}//", ["scheme, host and port only"]),
    ],
)
def test_more_than_an_origin(url: str, words: list[str]) -> None:
    """An origin with a path or a query is refused, and the error suggests the correct one."""
    with pytest.raises(ConfigurationError, match=r"^origins ") as caught:
        parse_origins(url, allow_insecure_http=False)
    assert words == [word for word in words if word in str(caught.value)]


@pytest.mark.parametrize(
    ("origins", "problem"),
    [
        *((empty, "is empty; name the origin of the API") for empty in ((), list[str](), frozenset[str]())),
        pytest.param(iter(()), "is empty; name the origin of the API", id="iterator"),
        *((value, "") for value in (None, 5)),
    ],
)
def test_wrong_origins(origins: Any, problem: str) -> None:
    """An empty collection, and anything but a URL or an iterable of URLs, is refused."""
    with pytest.raises(ConfigurationError, match=f"^origins {problem}"):
        parse_origins(origins, allow_insecure_http=False)


SPELLINGS = [
    *("xn--bcher-kva.example", "XN--BCHER-KVA.Example", "xn--bcher-kva.example.", "xn--bcher-kva.example.."),
    *("b\u00fccher.example", "B\u00dcCHER.EXAMPLE", "bu\u0308cher.example", "b\u00fccher\u3002example\uff61"),
    *("b\u00fccher\uff0eexample", "\uff42\u00fccher.example", "b\u00fc\u200bcher.example", "b\u00fccher.%65xample"),
    *("xn--bcher-kva%2eexample", "b\u00fc\u00adcher.example"),
]
ADDRESSES = [
    *("127.0.0.1", "127.0.0.1.", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7F.1", "0177.0.0.1", "127.0.0.01"),
    *("[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::FFFF:127.0.0.1%25lo]", "\uff11\uff12\uff17.0.0.1", "127\u30020.0.1"),
]


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize(
    ("origin", "host"),
    [
        *(("http://b\u00fccher.example", host) for host in SPELLINGS),
        *(("http://127.0.0.1", host) for host in ADDRESSES),
    ],
)
async def test_spelling(api_server: ApiServer, origin: str, host: str, *, encoded: bool) -> None:
    """A request to an origin in another spelling carries the token or is refused, and is never sent without it."""
    failure: Exception | None = None
    async with authorized_session(
        OneToken(),
        f"{origin}:{api_server.port}",
        allow_insecure_http=True,
        connector=aiohttp.TCPConnector(resolver=LocalResolver()),
    ) as session:
        try:
            status, _ = await fetch(session, URL(f"http://{host}:{api_server.port}/", encoded=encoded))
            assert 200 == status
        except (ConfigurationError, aiohttp.ClientError, ValueError) as error:
            failure = error

    assert ([] if failure else ["own-token"]) == api_server.tokens
