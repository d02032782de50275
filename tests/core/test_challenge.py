"""WWW-Authenticate challenges: which responses reject the token, and the cost of parsing."""

from __future__ import annotations

from functools import partial

import pytest

from simplestore_async._core.challenge import bearer_errors, is_token_rejected
from tests.support.cost import is_quick

INVALID_TOKEN = 'Bearer error="invalid_token"'
# Each is repeated to fill a header; parsing must stay linear in its length.
FRAGMENTS = [
    "bearer ", "bearer\terror=", 'a="', '\\"', '"', '"a"', 'a="\\', "\\", ",", ";", " ", "=", "a", "a=", "a = ", "a=b,",
    'a="b" ', "é", "bearer,", 'bearer error="invalid_token", ', "\n",
]  # fmt: skip


class TestRejectedToken:
    @pytest.mark.parametrize(
        ("status", "challenges"),
        [
            (401, []),
            (401, ['Basic realm="x"']),
            (401, ['Bearer realm="x"']),
            (401, ['Bearer error="insufficient_scope", Bearer error="invalid_token"']),
            (401, ['Bearer error="insufficient_scope']),
            (400, [INVALID_TOKEN]),
            (403, [INVALID_TOKEN]),
            (403, ["Bearer error=invalid_token"]),
            (403, ["Bearer realm=x,error=invalid_token,scope=y"]),
            (403, ['Bearer realm="x", error="invalid_token", error_description="The access token, alas, expired"']),
            (403, ['Bearer realm="a, b" , error = "invalid_token"']),
            (403, ['Bearer realm="a \\" b", error="invalid_token"']),
            (403, ['Bearer realm="a \\\\", error="invalid_token"']),
            (403, ['Bearer error="in\\valid_token"']),
            (403, ['bEARER eRROR="invalid_token"']),
            (403, ['Basic realm="x"', INVALID_TOKEN]),
            (403, [f'Basic realm="x", {INVALID_TOKEN}']),
            (403, [f'{INVALID_TOKEN}, Basic realm="x"']),
            (403, ['Negotiate, Bearer realm="x", error="invalid_token", Digest realm="y", nonce="z"']),
            (403, [f"Negotiate YWJj==, {INVALID_TOKEN}"]),
            (403, ['Bearer  \terror="invalid_token"']),
            (403, [f" , ,{INVALID_TOKEN}"]),
            (403, ['Bearer realm="x"; error="invalid_token"']),
            (403, ['Bearer realm="x" error="invalid_token"']),
            (403, ["Bearer error_description=the token expired error=invalid_token"]),
            (403, ['Basic realm="x', INVALID_TOKEN]),
            (499, [INVALID_TOKEN]),
        ],
    )
    def test_rejected(self, status: int, challenges: list[str]) -> None:
        """A 401 rejects the token, and so does any 4xx with `invalid_token` in its Bearer challenge."""
        assert is_token_rejected(status, challenges)

    @pytest.mark.parametrize(
        ("status", "challenges"),
        [
            (401, ['Bearer error="insufficient_scope"']),
            (401, ['Bearer realm="x", error=insufficient_scope, scope="orders:write"']),
            (401, ['Bearer error="insufficient_scope", error_description="error=invalid_token"']),
            (401, ['Bearer error="insufficient_scope", DPoP error="invalid_token"']),
            (403, []),
            (403, [""]),
            (403, ['Bearer error="insufficient_scope"']),
            (403, ['Bearer error_description="invalid_token"']),
            (403, ['Bearer error_description="say error=invalid_token, please"']),
            (403, ['Bearer error_description="say, Bearer error=\\"invalid_token\\""']),
            (403, ['Bearer error_uri="invalid_token", error="insufficient_scope"']),
            (403, ['Bearer error="invalid_token_format"']),
            (403, ["Bearer error=invalid_token/x"]),
            (403, ['Bearer error="not_invalid_token"']),
            (403, ['Bearer x-error="invalid_token"']),
            (403, ['NoBearer error="invalid_token"']),
            (403, ['Basic realm="Bearer", error="invalid_token"']),
            (403, ['Bearer, Digest realm="x", error="invalid_token"']),
            (403, ['DPoP error="invalid_token", algs="ES256"', "Bearer"]),
            (403, ['error="invalid_token"']),
            (403, ['Bearer realm="x, error="invalid_token"']),
            (403, ['Bearer error="invalid_token']),
            (500, [INVALID_TOKEN]),
            (200, [INVALID_TOKEN]),
            (399, [INVALID_TOKEN]),
        ],
    )
    def test_not_rejected(self, status: int, challenges: list[str]) -> None:
        """Insufficient scope, another scheme's error and text inside quoted strings do not reject the token."""
        assert not is_token_rejected(status, challenges)


class TestCost:
    @pytest.mark.parametrize("fragment", FRAGMENTS)
    def test_long_headers(self, fragment: str) -> None:
        """A hundred headers of 7 kB, or one of 1 MB, do not block the event loop for long, whatever they contain."""
        for headers in ([(fragment * 7_000)[:7_000]] * 100, [(fragment * 1_000_000)[:1_000_000]]):
            assert is_quick(partial(bearer_errors, headers))
