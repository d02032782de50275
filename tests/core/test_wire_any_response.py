"""Any response at all (Hypothesis)."""

from __future__ import annotations

import json
import zlib

from hypothesis import given, settings
from hypothesis import strategies as st

from simplestore_async import AccessToken
from simplestore_async._core.token import is_visible_ascii
from simplestore_async.errors import TokenResponseError
from tests.support.exchanges import SECRET, TOKEN, everything_of, exchange, parse, refusal

QUICK = settings(derandomize=True, max_examples=150, deadline=None)

JSON_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([SECRET, f"{SECRET} again", "invalid_client", "Bearer", TOKEN, 3600, "3600", "\ud800"])
)
JSON_VALUES = JSON_SCALARS | st.lists(JSON_SCALARS, max_size=2) | st.dictionaries(st.just("a"), JSON_SCALARS)
FIELD_NAMES = st.sampled_from(
    ["access_token", "token_type", "expires_in", "expiries_in", "scope", "error", "error_description", "title", "x"]
)
PAYLOADS = st.dictionaries(FIELD_NAMES, JSON_VALUES, max_size=6).map(lambda payload: json.dumps(payload).encode())
TOKENS = st.fixed_dictionaries(
    {"access_token": st.just(TOKEN)},
    optional={
        "token_type": st.sampled_from(["bearer", None, "mac"]),
        "expires_in": JSON_SCALARS,
        "scope": JSON_SCALARS,
    },
).map(lambda payload: json.dumps(payload).encode())
HEADERS = st.dictionaries(
    st.sampled_from(["Content-Encoding", "Content-Type", "Retry-After", "Date", "Location"]),
    st.sampled_from(["gzip", "deflate", "br", "a/b;charset=cp1252", "5", SECRET, "Sun, 06 Nov 1994 08:49:37 GMT"])
    | st.text(max_size=12),
)


class TestAnyResponse:
    @QUICK
    @given(
        status=st.sampled_from([200, 200, 200, 400, 401, 500]) | st.integers(0, 999),
        headers=HEADERS,
        body=PAYLOADS | TOKENS | st.binary(max_size=40) | PAYLOADS.map(zlib.compress),
        auth_method=st.sampled_from(["client_secret_post", "client_secret_basic"]),
    )
    def test_token_or_error(self, status: int, headers: dict[str, str], body: bytes, auth_method: str) -> None:
        """Any response is a usable token or a TokenError without the secret in it; never an exception."""
        outcome = parse(status, body, headers, of=exchange(auth_method=auth_method))

        if isinstance(outcome, AccessToken):
            assert 200 <= status < 300
            assert is_visible_ascii(outcome.value)
            assert 0 < outcome.expires_at - outcome.issued_at <= 86_400
        assert "canary-Secret" not in everything_of(outcome)

    @QUICK
    @given(value=JSON_SCALARS | st.text("0123456789. -+eE", max_size=6))
    def test_lifetime(self, value: object) -> None:
        """Any `expires_in` gives a life above 0 s and up to a day, or no token."""
        body = json.dumps({"access_token": TOKEN, "expires_in": value}).encode()
        outcome = parse(200, body, issued_at=0)

        if isinstance(outcome, AccessToken):
            assert 0 < outcome.expires_at <= 86_400
        else:
            assert TokenResponseError is type(outcome)

    @QUICK
    @given(
        value=st.text("0123456789 ,:+-.SunNovGMT", max_size=32) | st.text(max_size=8),
        date=st.none() | st.text("0123456789 ,:+-.SunNovGMT", max_size=32),
        now=st.floats(0, 1e11),
    )
    def test_retry_after(self, value: str, date: str | None, now: float) -> None:
        """Any Retry-After next to any Date is ignored, or is a pause between none and a year."""
        headers = {"Retry-After": value} | ({} if date is None else {"Date": date})
        retry_after = refusal(503, b"", headers, now=now).retry_after

        assert retry_after is None or 0 <= retry_after <= 31_536_000
