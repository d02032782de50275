"""The Retry-After header of token responses."""

from __future__ import annotations

from email.utils import formatdate

import pytest

from tests.support.exchanges import NOW, refusal


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("0", 0.0),
            ("1", 1.0),
            ("120", 120.0),
            (" 120 ", 120.0),
            ("1.5", 1.5),
            ("3600", 3600.0),
            ("31536000", 31_536_000.0),
            ("31536001", 31_536_000.0),
            ("9" * 400, 31_536_000.0),
            (formatdate(NOW + 30, usegmt=True), 30.0),
            ("Sunday, 06-Nov-94 08:50:07 GMT", 30.0),
            ("Sun Nov  6 08:50:07 1994", 30.0),
            ("Sun, 06 Nov 1994 08:50:07 -0000", 30.0),
            ("Sun, 06 Nov 1994 09:50:07 +0100", 30.0),
            (formatdate(NOW, usegmt=True), 0.0),
            (formatdate(NOW - 30, usegmt=True), 0.0),
            (formatdate(NOW + 10**9, usegmt=True), 31_536_000.0),
        ],
    )
    def test_read(self, value: str, expected: float) -> None:
        """Retry-After is seconds or a date in any form of HTTP, and a past date means 0 s (RFC 9110 §10.2.3)."""
        assert expected == refusal(503, b"", {"Retry-After": value}).retry_after

    @pytest.mark.parametrize(
        "value",
        [
            "",
            " ",
            "soon",
            "-1",
            "+5",
            "1e3",
            "1.",
            "0\x1f",
            "\u0663",
            "NaN",
            "inf",
            "Sun, 99 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 25:49:37 GMT",
            "Sun, 06 Nov 99999 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 +9999",
            f"Sun, 06 Nov 1994 08:49:37 +{'9' * 30}",
            f"Sun, 06 Nov {'9' * 5_000} 08:49:37 GMT",
        ],
    )
    def test_unreadable(self, value: str) -> None:
        """Any other value is ignored."""
        assert refusal(503, b"", {"Retry-After": value}).retry_after is None

    @pytest.mark.parametrize(
        ("date", "expected"),
        [
            (formatdate(NOW - 3600, usegmt=True), 3630.0),
            (formatdate(NOW + 3600, usegmt=True), 0.0),
            (formatdate(NOW + 10, usegmt=True), 20.0),
            ("yesterday", 30.0),
            ("", 30.0),
        ],
    )
    def test_clock_of_the_server(self, date: str, expected: float) -> None:
        """A date is compared with the response's Date header, so a wrong clock on either side has no effect."""
        headers = {"Retry-After": formatdate(NOW + 30, usegmt=True), "Date": date}

        assert expected == refusal(503, b"", headers).retry_after

    @pytest.mark.parametrize("status", [200, 302, 400, 429, 503])
    def test_any_refusal(self, status: int) -> None:
        """Retry-After in seconds is read for every status and is independent of the Date header."""
        headers = {"Retry-After": "7", "Date": formatdate(NOW - 3600, usegmt=True)}

        assert 7.0 == refusal(status, {"error": "invalid_client"}, headers).retry_after
        assert refusal(status, {"error": "invalid_client"}).retry_after is None
