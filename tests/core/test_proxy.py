"""Selection of the proxy for a URL."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from yarl import URL

from simplestore_async._core.proxy import ProxySettings
from simplestore_async.errors import ConfigurationError
from tests.support.tracebacks import everything_shown

PROXY = "http://proxy.example:3128"


def found(url: str, *, proxy: str | None = None, trust_env: bool = True) -> str | None:
    found = ProxySettings(proxy, trust_env=trust_env).find(URL(url))
    return None if found is None else str(found.url)


class TestArgument:
    @pytest.mark.parametrize(
        ("userinfo", "pair"),
        [
            ("", None),
            ("us@", b"us:"),
            ("us:@", b"us:"),
            (":pw@", b":pw"),
            ("us:p%C3%A4ss@", "us:päss".encode()),
            ("us:päss@", "us:päss".encode()),
            ("us%40er:hunter%3A2@", b"us@er:hunter:2"),
            ("us:a%20b+c@", b"us:a b+c"),
        ],
    )
    def test_userinfo(self, userinfo: str, pair: bytes | None) -> None:
        """User name and password are moved from the URL into a redacted header, encoded as UTF-8."""
        proxy = ProxySettings(f"http://{userinfo}proxy.example:3128").find(URL("https://api.example"))

        assert proxy is not None
        assert PROXY == str(proxy.url)
        expected = {} if pair is None else {"Proxy-Authorization": f"Basic {base64.b64encode(pair).decode()}"}
        assert expected == proxy.headers
        assert not expected or "'***'" == repr(proxy.headers["Proxy-Authorization"])

    @pytest.mark.parametrize(
        "wrong",
        [
            *("", "proxy.example:3128", "http://", URL(), "socks5://u:hunter2@proxy.example", "http://u:hunter2@[::1"),
            *(f"http://u:hunter2{end}" for end in ("@proxy.example:0", "@proxy.example:99999", "\ud800@proxy.example")),
        ],
    )
    def test_not_a_proxy_url(self, wrong: Any) -> None:
        """Anything but the URL of an HTTP proxy is refused without showing it."""
        with pytest.raises(ConfigurationError) as caught:
            ProxySettings(wrong)

        assert ("proxy", "proxy") == (caught.value.field, caught.value.code)
        assert "hunter2" not in everything_shown(caught.value)

    def test_overrides_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """An explicit proxy is used for every URL, whatever the environment."""
        monkeypatch.setenv("https_proxy", "http://other.example")
        monkeypatch.setenv("no_proxy", "*")

        assert PROXY == found("https://api.example", proxy=PROXY)


class TestEnvironment:
    @pytest.mark.parametrize(
        ("url", "variable"),
        [
            ("https://api.example", "https_proxy"),
            ("https://api.example", "HTTPS_PROXY"),
            ("https://api.example", "all_proxy"),
            ("http://api.example", "http_proxy"),
            ("wss://api.example", "wss_proxy"),
            ("wss://api.example", "https_proxy"),
        ],
    )
    def test_variables(self, url: str, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """The proxy comes from the variable of the URL's scheme or from `all_proxy`, and only with `trust_env`."""
        monkeypatch.setenv(variable, PROXY)

        assert PROXY == found(url)
        assert found(url, trust_env=False) is None

    def test_other_scheme(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The proxy of another scheme is not used."""
        monkeypatch.setenv("http_proxy", PROXY)

        assert found("https://api.example") is None

    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "[::1]"])
    def test_loopback(self, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """The environment's proxy is not used for loopback hosts."""
        monkeypatch.setenv("https_proxy", PROXY)

        assert found(f"https://{host}") is None

    def test_wrong_variable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A variable that is not the URL of an HTTP proxy is named without showing its value."""
        monkeypatch.setenv("all_proxy", "socks5://u:hunter2@proxy.example")
        with pytest.raises(ConfigurationError) as caught:
            found("https://api.example")

        assert "all_proxy" == caught.value.field
        assert "hunter2" not in everything_shown(caught.value)

    @pytest.mark.parametrize(
        ("url", "no_proxy"),
        [
            *(
                ("https://api.example", no_proxy)
                for no_proxy in ("*", "api.example", "api.example.", "api.example:443")
            ),
            *(("https://api.example", no_proxy) for no_proxy in ("example", ".example", "*.example")),
            *(("https://api.example", f"other.test{separator}api.example") for separator in (", ", " ")),
            *(("https://api.example:8443", no_proxy) for no_proxy in ("api.example", "api.example:8443")),
            ("https://API.example.", "api.EXAMPLE"),
            *(("https://bücher.example", no_proxy) for no_proxy in ("bücher.example", "xn--bcher-kva.example")),
            *(("https://192.0.2.7", no_proxy) for no_proxy in ("192.0.2.7", "192.0.2.0/24", "192.0.2.9/24")),
            ("https://192.0.2.7:8443", "192.0.2.7:8443"),
            *(("https://[2001:db8::7]", no_proxy) for no_proxy in ("2001:db8::7", "[2001:db8::7]", "2001:DB8:0::7")),
            *(("https://[2001:db8::7]", no_proxy) for no_proxy in ("2001:db8::/32", "[2001:db8::]/32")),
            ("https://[2001:db8::7]:8443", "[2001:db8::7]:8443"),
        ],
    )
    def test_bypassed(self, url: str, no_proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """`no_proxy` exempts hosts with their subdomains, addresses and networks, with or without a port."""
        monkeypatch.setenv("all_proxy", PROXY)
        monkeypatch.setenv("NO_PROXY", no_proxy)

        assert found(url) is None

    @pytest.mark.parametrize(
        ("url", "no_proxy"),
        [
            *(("https://api.example", no_proxy) for no_proxy in ("", ",", ".", "pi.example", "other.api.example")),
            *(("https://api.example", no_proxy) for no_proxy in ("api.example:8443", "192.0.2.0/24", "[api.example")),
            ("https://api.example:8443", "api.example:443"),
            *(("https://192.0.2.7", no_proxy) for no_proxy in ("192.0.3.0/24", "192.0.2.7:8443", "2001:db8::/32")),
            *(("https://[2001:db8::7]", no_proxy) for no_proxy in ("[2001:db8::7]:8443", "2001:db8::8")),
        ],
    )
    def test_not_bypassed(self, url: str, no_proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """A URL that `no_proxy` does not match uses the proxy."""
        monkeypatch.setenv("all_proxy", PROXY)
        monkeypatch.setenv("no_proxy", no_proxy)

        assert PROXY == found(url)
