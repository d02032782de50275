"""Origins: parsing, comparison, look-alikes and loopback."""

from __future__ import annotations

from typing import Any

import pytest
from yarl import URL

from simplestore_async._core.origin import Origin, is_loopback, origin_of, parse_origins, parse_url
from simplestore_async.errors import ConfigurationError

API = "https://api.example.com"


@pytest.mark.parametrize(
    ("urls", "expected"),
    [
        ((API, f"{API}:443/v1?x=1#y", f"{API}:0443", f"{API}:", f"{API}."), ("https", "api.example.com", 443)),
        (("HTTPS://API.Example.COM/", "wss://api.example.com/feed"), ("https", "api.example.com", 443)),
        (
            ("https://api\u3002example\uff0ecom\uff61", "https://\uff41pi.example.com"),
            ("https", "api.example.com", 443),
        ),
        ((f"{API}:8443",), ("https", "api.example.com", 8443)),
        (
            ("http://api.example.com", "http://api.example.com:80", "ws://api.example.com/feed"),
            ("http", "api.example.com", 80),
        ),
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


AMBIGUOUS_HOSTS = [
    "https://stra\u00dfe.example",  # strasse.example to the resolver, xn--strae-oqa.example to yarl
    "https://api\u200b.example.com",
    "https://%61pi.example.com",
    "https://api%2eexample.com",
    "https://[::1%25lo]",
    "https://[::1%1]",
    "https://[fe80::1%25eth0]",
    "https://127.1",
    "https://0x7f000001",
    "https://0x7f.1",
    "https://2130706433",
    "https://0177.0.0.1",
    "https://127.0.0.1.",
    "https://127.0.0.01",
]


@pytest.mark.parametrize("url", AMBIGUOUS_HOSTS)
def test_ambiguous_host(url: str) -> None:
    """A host that the origin check and the connection might interpret differently is refused."""
    with pytest.raises(ConfigurationError) as caught:
        origin_of(URL(url, encoded=True))

    assert ("url", "ambiguous-host") == (caught.value.field, caught.value.code)


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example.com.evil.example",
        "https://evil.example/api.example.com",
        "https://evil.example?https://api.example.com",
        "https://evil.example#https://api.example.com",
        "https://api.example.com@evil.example",
        "https://api@evil.example",
        "https://api.example.com:pw@evil.example/",
        "https://xapi.example.com",
        "https://www.api.example.com",
        "https://example.com",
        "https://api.example.co",
        "https://api-example.com",
        "https://api.example.com:444",
        "https://api.example.com:80",
        "http://api.example.com",
        "http://api.example.com:443",
        "ws://api.example.com",
        "https://\u0430pi.example.com",
        "https://api.ex\u0430mple.com",
        "https://\u0430\u0440\u0456.example.com",
        "https://127.0.0.1",
        "/relative",
    ],
)
def test_look_alike(url: str) -> None:
    """A URL that only resembles an origin does not match it."""
    assert origin_of(URL(url)) not in parse_origins(API, allow_insecure_http=True)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1",
        "http://127.0.0.1:8080/path",
        "http://127.255.255.254",
        "http://localhost",
        "http://LOCALHOST:8080",
        "http://[::1]",
        "http://[0:0:0:0:0:0:0:1]:8080",
        "https://localhost",
    ],
)
def test_loopback(url: str) -> None:
    """127.0.0.0/8, ::1 and localhost are loopback hosts."""
    assert is_loopback(URL(url))


LOOPBACK_LOOK_ALIKES = [
    "/path",
    "http://localhost.evil.example",
    "http://localhost.",
    "http://localhost.localdomain",
    "http://xlocalhost",
    "http://localhost@evil.example",
    "http://127.0.0.1.evil.example",
    "http://127.0.0.1@evil.example",
    "http://127.evil.example",
    "http://127.1",
    "http://0x7f000001",
    "http://2130706433",
    "http://0177.0.0.1",
    "http://126.255.255.255",
    "http://128.0.0.1",
    "http://0.0.0.0",
    "http://[::]",
    "http://[::2]",
    "http://[::ffff:127.0.0.1]",
    "http://[::1%25eth0]",
    "http://10.0.0.1",
]


@pytest.mark.parametrize("url", LOOPBACK_LOOK_ALIKES)
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


WRONG_URLS: list[tuple[object, list[str]]] = [
    (5, ["str or yarl.URL", "int"]),
    (None, ["str or yarl.URL", "None"]),
    (URL, ["str or yarl.URL", "the class URL"]),
    (b"https://api.example.com", ["str or yarl.URL", "bytes"]),
    ("", ["https://", "host"]),
    ("api.example.com", ["https://", "host"]),
    ("/v1", ["https://", "host"]),
    ("//api.example.com", ["https://", "host"]),
    ("https:api.example.com", ["https://"]),
    ("https://", ["https://", "host"]),
    ("https://:443", ["https://"]),
    ("ftp://api.example.com", ["https://"]),
    ("ws://api.example.com", ["https://"]),
    ("wss://api.example.com", ["https://"]),
    ("file:///etc/passwd", ["https://"]),
    ("https://api.example.com:0", ["https://"]),
    ("https://api.example.com:65536", ["https://host/path"]),
    ("https://api.example.com:http", ["https://host/path"]),
    ("https://api.example.com:-1", ["https://host/path"]),
    ("https://[::1", ["https://host/path"]),
    ("https://[]@", ["https://host/path"]),
    ("https://\ud800.example", ["invisible character, U+D800"]),
    ("https://api.exam\tple.com", ["invisible character, U+0009"]),
    ("https://api.example.com/to\u200bken", ["invisible character, zero width space (U+200B)"]),
    ("https://api..example.com", ["has an invalid host name"]),
    ("https://.example.com", ["has an invalid host name"]),
    ("https://api.example.com..", ["has an invalid host name"]),
    ("https://api example.com", ["has an invalid host name"]),
    ("https://%61pi.example.com", ["ambiguous host", "without %"]),
    ("https://[fe80::1%25eth0]", ["ambiguous host", "IPv6 zone"]),
    ("https://127.1", ["ambiguous host", "four decimal numbers"]),
    ("https://canary@api.example.com", ["user name or password", "take them out"]),
    ("https://:canary@api.example.com", ["user name or password", "take them out"]),
    ("https://app:canary@api.example.com", ["user name or password", "take them out"]),
    ("https://app:canary@api.example.com:99999", ["https://host/path"]),
    ("https://*.example.com", ["wildcard", "name each host"]),
    ("https://*", ["wildcard", "name each host"]),
    ("https://api.example.com/#fragment", ["fragment", "RFC 6749"]),
    ("http://api.example.com", ["plain http", "api.example.com", "use https", "allow_insecure_http=True"]),
    ("http://localhost.evil.example", ["plain http", "localhost.evil.example", "use https"]),
]


@pytest.mark.parametrize(("url", "words"), WRONG_URLS)
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
        (API, {("https", "api.example.com", 443)}),
        (URL(API), {("https", "api.example.com", 443)}),
        (f"{API}/", {("https", "api.example.com", 443)}),
        (f"{API}/?", {("https", "api.example.com", 443)}),
        ([API, f"{API}:443", URL(API)], {("https", "api.example.com", 443)}),
        (
            iter((API, "https://files.example.com:8443")),
            {("https", "api.example.com", 443), ("https", "files.example.com", 8443)},
        ),
        ("https://b\u00fccher.example", {("https", "xn--bcher-kva.example", 443)}),
        (("https://[::1]:9000",), {("https", "::1", 9000)}),
    ],
    ids=["string", "URL", "slash", "empty query", "duplicates", "iterator", "IDN", "IPv6"],
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


@pytest.mark.parametrize("origins", [(), [], frozenset(), iter(())], ids=["tuple", "list", "set", "iterator"])
def test_no_origin(origins: Any) -> None:
    """An empty collection of origins is refused."""
    with pytest.raises(ConfigurationError, match=r"^origins is empty; name the origin of the API"):
        parse_origins(origins, allow_insecure_http=False)


@pytest.mark.parametrize("origins", [None, 5])
def test_origins_of_another_type(origins: Any) -> None:
    """Anything but a URL or an iterable of URLs is refused."""
    with pytest.raises(ConfigurationError, match=r"^origins "):
        parse_origins(origins, allow_insecure_http=False)
