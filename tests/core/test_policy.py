"""`RenewalPolicy` and `RetryPolicy`: validation, the instants of a held token, and backoffs."""

from __future__ import annotations

from math import inf, nextafter
from typing import Any

import pytest

from simplestore_async import RenewalPolicy, RetryPolicy
from simplestore_async.errors import (
    ConfigurationError,
    SimpleStoreError,
    TokenResponseError,
)
from tests.support.states import PASSING, POLICY, SENT, TERMINAL, hold, refused, token

ALMOST_ONE = nextafter(1.0, 0.0)


class TestPolicy:
    def test_defaults(self) -> None:
        """The policies have exactly the documented fields and defaults."""
        assert (
            "RenewalPolicy(due_fraction=0.2, due_seconds=900, first_due_fractions=(0.45, 0.84), max_wait_seconds=2, "
            "budget_seconds=30, max_backoff_seconds=30, rejection_seconds=5, cache_seconds=2, lock_seconds=15)"
        ) == repr(RenewalPolicy())
        assert "RetryPolicy(attempts=3, attempt_seconds=10, retry_seconds=1, budget_seconds=30)" == repr(RetryPolicy())

    @pytest.mark.parametrize(
        ("policy", "field", "value", "problem"),
        [
            *(
                (RenewalPolicy, "due_seconds", value, "must be a number above 0")
                for value in (0, 0.0, -1, float("nan"), inf, -inf, "5", None, True, 10**400)
            ),
            *((RenewalPolicy, "due_fraction", value, "must be below 1") for value in (1, 1.0, 1.5, 20)),
            *(
                (RetryPolicy, "attempts", value, "must be a whole number, 1 or more")
                for value in (0, -1, 1.0, 1.5, True, "3", None)
            ),
            *(
                (RenewalPolicy, "first_due_fractions", value, "must be a tuple of two rising numbers between 0 and 1")
                for value in (
                    *((0, 0.5), (-0.1, 0.5), (0.5, 0.4), (0.5, 1), (0.5, 1.5), (float("nan"), 0.5)),
                    *((0.5, float("nan")), (0.5,), (0.1, 0.2, 0.3), ("0.1", "0.2"), (0.1, None), "ab", 0.5, None),
                    iter((0.1, 0.2)),
                )
            ),
        ],
    )
    def test_wrong_number(self, policy: type, field: str, value: Any, problem: str) -> None:
        """The error of a wrong number names the field and its bounds."""
        with pytest.raises(ConfigurationError) as caught:
            policy(**{field: value})

        assert (f"{policy.__name__}.{field}", problem) == (caught.value.field, caught.value.problem)

    @pytest.mark.parametrize(
        "change",
        [
            *({"due_fraction": ALMOST_ONE}, {"max_wait_seconds": 5e-324}, {"due_seconds": 10**9}),
            *({"first_due_fractions": fractions} for fractions in ((0.5, 0.5), (5e-324, ALMOST_ONE))),
        ],
    )
    def test_extremes(self, change: dict[str, Any]) -> None:
        """Values at the edge of the bounds are accepted."""
        assert change == {field: getattr(RenewalPolicy(**change), field) for field in change}
        assert 1 == RetryPolicy(attempts=1).attempts

    @pytest.mark.parametrize(
        ("attempt", "shortest", "longest"),
        [(1, 0.5, 1), (2, 1, 2), (3, 2, 4), (4, 4, 8), (5, 8, 16), (6, 15, 30), (7, 15, 30), (10_000, 15, 30)],
    )
    def test_pause(self, attempt: int, shortest: float, longest: float) -> None:
        """Pauses between attempts double from 1 s up to the budget, and half of each is random."""
        assert shortest == RetryPolicy().pause_seconds(attempt, lambda: 0.0)
        assert longest == pytest.approx(RetryPolicy().pause_seconds(attempt, lambda: ALMOST_ONE))
        assert (shortest + longest) / 2 == RetryPolicy().pause_seconds(attempt, lambda: 0.5)

    @pytest.mark.parametrize(
        ("seconds_left", "expected"), [(30, 2), (4.1, 2), (4, 2), (3.9, 1.95), (1, 0.5), (0.1, 0.05)]
    )
    def test_wait(self, seconds_left: float, expected: float) -> None:
        """A caller waits at most 2 s, and at most half of the token's remaining life."""
        held = hold()

        assert expected == pytest.approx(POLICY.wait_seconds(held, held.expires_at - seconds_left))


class TestHeldToken:
    @pytest.mark.parametrize(
        ("life", "earliest", "latest"),
        [(3600, 1620, 3024), (7200, 3240, 6048), (60, 27, 50.4), (5, 2.25, 4.2), (86_400, 38_880, 72_576)],
    )
    def test_first_due(self, life: float, earliest: float, latest: float) -> None:
        """A process's first token is due after 45 to 84 % of its lifetime, at random."""
        assert SENT + earliest == pytest.approx(hold(life=life, is_first=True, draw=0.0).due_at)
        assert SENT + latest == pytest.approx(hold(life=life, is_first=True, draw=ALMOST_ONE).due_at)

    @pytest.mark.parametrize(
        ("life", "earliest", "latest"),
        [
            (3600, 864, 576),  # a fifth of the lifetime, ±20 %
            (4500, 1080, 720),  # a fifth is 900 s
            (7200, 1080, 720),  # 900 s at most
            (86_400, 1080, 720),
            (60, 14.4, 9.6),
            (5, 1.2, 0.8),
        ],
    )
    def test_due(self, life: float, earliest: float, latest: float) -> None:
        """A later token is due a fifth of its lifetime, 900 s at most and varied by 20 %, before it expires."""
        assert SENT + life - earliest == pytest.approx(hold(life=life, draw=ALMOST_ONE).due_at)
        assert SENT + life - latest == pytest.approx(hold(life=life, draw=0.0).due_at)

    @pytest.mark.parametrize("is_first", [False, True])
    @pytest.mark.parametrize(
        ("life", "before_expiry"), [(3600, 30), (301, 30), (300, 30), (299, 29.9), (60, 6), (5, 0.5)]
    )
    def test_expiring(self, life: float, before_expiry: float, is_first: bool) -> None:
        """A token expires its lifetime after the request, and is expiring 30 s or a tenth of its lifetime before."""
        held = hold(life=life, is_first=is_first)

        assert (SENT, SENT + life) == (held.requested_at, held.expires_at)
        assert SENT + life - before_expiry == pytest.approx(held.expiring_at)

    @pytest.mark.parametrize("is_first", [False, True])
    def test_due_is_never_after_expiring(self, is_first: bool) -> None:
        """A token is due at the latest when it is expiring, whatever the policy."""
        policy = RenewalPolicy(due_fraction=0.001, first_due_fractions=(0.999, 0.999))
        held = policy.hold(token(), requested_at=SENT, is_first=is_first, is_unproven=False, random=lambda: 0.5)

        assert (SENT + 3570, SENT + 3570) == (held.due_at, held.expiring_at)


class TestBackoff:
    @pytest.mark.parametrize(
        ("error", "is_alive", "pauses"),
        [
            (PASSING, True, [1, 2, 4, 8, 16, 30, 30]),
            (PASSING, False, [1, 1, 1, 1, 1, 1, 1]),
            (TokenResponseError("passing", retryable=True), True, [1, 2, 4]),
            (refused(None), True, [1, 2, 4]),
            (TERMINAL, True, [5, 10, 20, 40, 60, 60]),
            (TERMINAL, False, [5, 10, 20, 40, 60, 60]),
            (refused(None, status=400), False, [5, 10, 20]),
            (ConfigurationError("field", "is wrong"), False, [5, 10, 20]),
            # Retry-After if it is longer, at most 300 s.
            (refused(10), True, [10, 10, 10, 10, 16, 30]),
            (refused(10), False, [10, 10]),
            (refused(0), True, [1, 2, 4]),
            (refused(299), False, [299, 299]),
            (refused(301), True, [300, 300]),
            (refused(31_536_000), False, [300, 300]),
            (refused(7, status=400), True, [7, 10, 20]),
        ],
    )
    def test_length(self, error: SimpleStoreError, is_alive: bool, pauses: list[float]) -> None:
        """The backoff doubles from 1 s, or 5 s after a terminal failure, unless Retry-After is longer."""
        shown = [POLICY.backoff_seconds(error, failures=failures, is_alive=is_alive) for failures in range(len(pauses))]

        assert pauses == shown

    def test_longest(self) -> None:
        """`max_backoff_seconds` limits the backoff while a token is alive, even after an unchanged token."""
        policy = RenewalPolicy(max_backoff_seconds=5)

        assert [1, 5, 1] == [
            policy.backoff_seconds(PASSING, failures=0, is_alive=True),
            policy.backoff_seconds(PASSING, failures=9, is_alive=True),
            policy.backoff_seconds(PASSING, failures=9, is_alive=False),
        ]
        assert [1, 2, 4, 5] == [policy.unchanged_backoff_seconds(failures) for failures in range(4)]

    def test_hold(self) -> None:
        """A rejected replacement is held for `rejection_seconds`, doubled for each rejection, at most 300 s."""
        policy = RenewalPolicy(rejection_seconds=70)

        assert [70, 140, 280, 300, 300] == [policy.hold_seconds(n) for n in (0, 1, 2, 3, 10**9)]
