"""Custom headers of token requests and of the command."""

from __future__ import annotations

from typing import Any

import pytest

from simplestore_async._core.headers import conceal_values, find_header_problem, parse_token_headers
from simplestore_async.errors import ConfigurationError
from tests.support.tracebacks import everything_shown


class TestTokenHeaders:
    @pytest.mark.parametrize(
        "headers",
        [{}, {"X-API-Key": "a b\tc"}, {"User-Agent": "shop/1.0", "Accept": "*/*"}, {"x-": '"!~"', "Y": "1"}],
    )
    def test_accepted(self, headers: dict[str, str]) -> None:
        """A header of one line of visible ASCII is accepted, and its value is redacted."""
        parsed = parse_token_headers(conceal_values(headers))

        assert headers == dict(parsed)
        assert ["'***'"] * len(headers) == [repr(value) for value in parsed.values()]

    @pytest.mark.parametrize(
        "name",
        [
            *("Authorization", "authorization", "Proxy-Authorization", "HOST", "Cookie", "Expect", "TE", "Upgrade"),
            *("Content-Type", "content-length", "Content-Encoding", "Transfer-Encoding"),
            *("Connection", "Accept-Encoding"),
        ],
    )
    def test_set_by_the_request(self, name: str) -> None:
        """Headers for authentication and framing, and others that the request sets itself, are refused by name."""
        with pytest.raises(ConfigurationError, match=f"^headers must not hold {name}; "):
            parse_token_headers({name: "x"})

    @pytest.mark.parametrize(
        "headers",
        [
            *({name: "x"} for name in ("", "X Key", "X-Key:", "X-K\xe9y", 5)),
            *({"X-Key": value} for value in (5, "", " hunter2", "hunter2 ", b"hunter2")),
            *({"X-Key": f"hunter2{end}"} for end in ("\r\nHost: evil", "\0", "\u0661")),
            {"X-Key": "1", "x-key": "hunter2"},
            [("X-Key", "1")],
        ],
    )
    def test_cannot_be_sent(self, headers: Any) -> None:
        """Anything but a mapping of headers that can be sent, each once, is refused without showing its value."""
        concealed = conceal_values(headers)
        with pytest.raises(ConfigurationError) as caught:
            parse_token_headers(concealed)

        assert "headers" == caught.value.field
        assert caught.value.problem.startswith("must ")
        assert "hunter2" not in everything_shown(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("X-Key", "hunter2", ""),
        ("AUTHORIZATION", "hunter2", "AUTHORIZATION is set by the command itself"),
        ("X-Key", "hunter2\n", "the value of X-Key holds a line break or another character that is not text"),
    ],
)
def test_find_header_problem(name: str, value: str, problem: str) -> None:
    """The problem of a header that the command cannot send does not show its value."""
    assert problem == find_header_problem(name, value)
