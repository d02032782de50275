"""`simplestore_async._core.state`: the numbers, the decisions, and what is remembered, each by the clock's reading."""

from __future__ import annotations

from itertools import pairwise, product
from math import inf, nextafter
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simplestore_async import AccessToken, RenewalPolicy
from simplestore_async._core.state import TABLE, Action, Endpoint, Lease, Memory, State
from simplestore_async.errors import (
    ConfigurationError,
    InvalidClientError,
    SimpleStoreError,
    TokenEndpointError,
    TokenError,
    TokenResponseError,
    TokenTimeoutError,
    TokenTransportError,
)

POLICY = RenewalPolicy()
SENT = 1_000.0  # on the deciding clock
WALL = 1_700_000_000.0  # POSIX seconds; what they are does not matter here
ALMOST_ONE = nextafter(1.0, 0.0)

PASSING = TokenTransportError("passing")
TERMINAL = InvalidClientError("terminal", status=401, error="invalid_client")


def token(value: str = "token", life: float = 3600.0) -> AccessToken:
    return AccessToken(value, issued_at=WALL, expires_at=WALL + life)


def lease(
    value: str = "token",
    *,
    sent: float = SENT,
    life: float = 3600.0,
    is_first: bool = False,
    is_replacement: bool = False,
    draw: float = 0.5,
    policy: RenewalPolicy = POLICY,
) -> Lease:
    return policy.lease(
        token(value, life),
        requested_at=sent,
        is_first=is_first,
        is_replacement=is_replacement,
        random=lambda: draw,
    )


def holding(held: Lease, **changes: Any) -> Memory:
    return attrs.evolve(Memory().after_token(held, held.requested_at, POLICY), **changes)


def refused(retry_after: float | None, status: int = 503) -> TokenEndpointError:
    return TokenEndpointError("refused", status=status, retry_after=retry_after)


class TestPolicy:
    def test_defaults(self) -> None:
        """The defaults are the documented numbers."""
        assert {
            "due_fraction": 0.2,
            "due_seconds": 900,
            "first_due_fractions": (0.45, 0.84),
            "hard_fraction": 0.1,
            "hard_seconds": 30,
            "hard_wait_seconds": 2,
            "attempts": 3,
            "attempt_seconds": 10,
            "budget_seconds": 30,
            "retry_seconds": 1,
            "failure_seconds": 1,
            "failure_cap_seconds": 30,
            "terminal_seconds": 5,
            "terminal_cap_seconds": 60,
            "retry_after_cap_seconds": 300,
            "rejection_seconds": 5,
            "rejection_cap_seconds": 300,
            "cache_seconds": 2,
            "lock_seconds": 15,
        } == attrs.asdict(POLICY)

    @pytest.mark.parametrize(
        "value", [0, 0.0, -1, float("nan"), inf, -inf, "5", None, True, 10**400], ids=lambda value: str(value)[:10]
    )
    @pytest.mark.parametrize(
        "field", [name for name in attrs.fields_dict(RenewalPolicy) if name.endswith("_seconds") or "_fraction" in name]
    )
    def test_no_number_above_0(self, field: str, value: Any) -> None:
        """Seconds and fractions must be finite numbers above 0; the error names the field."""
        change: dict[str, Any] = {field: (value, 0.84) if field == "first_due_fractions" else value}

        with pytest.raises(ConfigurationError, match=f"^RenewalPolicy {field} must be "):
            RenewalPolicy(**change)

    @pytest.mark.parametrize("field", ["due_fraction", "hard_fraction"])
    @pytest.mark.parametrize("value", [1, 1.0, 1.5, 20])
    def test_no_fraction(self, field: str, value: float) -> None:
        """A fraction must be below 1; the error names the field."""
        change: dict[str, Any] = {field: value}

        with pytest.raises(ConfigurationError, match=f"^RenewalPolicy {field} must lie between 0 and 1$"):
            RenewalPolicy(**change)

    @pytest.mark.parametrize("value", [0, -1, 1.0, 1.5, True, "3", None])
    def test_no_count(self, value: Any) -> None:
        """`attempts` must be a whole number, 1 or more."""
        with pytest.raises(ConfigurationError, match=r"^RenewalPolicy attempts must be a whole number, 1 or more$"):
            RenewalPolicy(attempts=value)

    @pytest.mark.parametrize(
        "value",
        [
            (0, 0.5),
            (-0.1, 0.5),
            (0.5, 0.4),
            (0.5, 1),
            (0.5, 1.5),
            (float("nan"), 0.5),
            (0.5, float("nan")),
            (0.5,),
            (0.1, 0.2, 0.3),
            ("0.1", "0.2"),
            (0.1, None),
            "ab",
            0.5,
            None,
            iter((0.1, 0.2)),
        ],
        ids=lambda value: "iterator" if hasattr(value, "__next__") else str(value),
    )
    def test_no_first_due_fractions(self, value: Any) -> None:
        """`first_due_fractions` must be two rising numbers between 0 and 1."""
        with pytest.raises(ConfigurationError, match=r"^RenewalPolicy first_due_fractions must be two rising numbers"):
            RenewalPolicy(first_due_fractions=value)

    @pytest.mark.parametrize(
        "change",
        [
            {"attempts": 1},
            {"due_fraction": ALMOST_ONE},
            {"hard_fraction": 5e-324},
            {"failure_seconds": 5e-324},
            {"due_seconds": 10**9},
            {"first_due_fractions": (0.5, 0.5)},
            {"first_due_fractions": (5e-324, ALMOST_ONE)},
        ],
        ids=str,
    )
    def test_extremes(self, change: dict[str, Any]) -> None:
        """What is within the bounds is accepted, however odd."""
        assert change == {field: getattr(RenewalPolicy(**change), field) for field in change}

    def test_by_name(self) -> None:
        """Numbers are given by name: nobody knows their order."""
        build: Any = RenewalPolicy

        with pytest.raises(TypeError):
            build(0.2)

    @pytest.mark.parametrize(
        ("attempt", "shortest", "longest"),
        [(1, 0.5, 1), (2, 1, 2), (3, 2, 4), (4, 4, 8), (5, 8, 16), (6, 15, 30), (7, 15, 30), (10_000, 15, 30)],
    )
    def test_retry_pause(self, attempt: int, shortest: float, longest: float) -> None:
        """Pauses between attempts are 1 s·2ⁿ up to the budget, half of each at random."""
        assert shortest == POLICY.retry_pause(attempt, lambda: 0.0)
        assert longest == pytest.approx(POLICY.retry_pause(attempt, lambda: ALMOST_ONE))
        assert (shortest + longest) / 2 == POLICY.retry_pause(attempt, lambda: 0.5)

    # case 13
    @pytest.mark.parametrize(
        ("seconds_left", "expected"), [(30, 2), (4.1, 2), (4, 2), (3.9, 1.95), (1, 0.5), (0.1, 0.05)]
    )
    def test_hard_wait(self, seconds_left: float, expected: float) -> None:
        """While a token lives a caller waits at most 2 s, and half of what is left."""
        held = lease()

        assert expected == pytest.approx(POLICY.hard_wait(held, held.expires_at - seconds_left))


class TestLease:
    @pytest.mark.parametrize(
        ("life", "earliest", "latest"),
        [(3600, 1620, 3024), (7200, 3240, 6048), (60, 27, 50.4), (5, 2.25, 4.2), (86_400, 38_880, 72_576)],
    )
    def test_first_due(self, life: float, earliest: float, latest: float) -> None:
        """A first token is due at L·U(0.45, 0.84), so that workers that start together drift apart."""
        assert SENT + earliest == pytest.approx(lease(life=life, is_first=True, draw=0.0).due_at)
        assert SENT + latest == pytest.approx(lease(life=life, is_first=True, draw=ALMOST_ONE).due_at)

    # case 16
    @pytest.mark.parametrize(
        ("life", "earliest", "latest"),
        [
            (3600, 864, 576),  # a fifth of the life, ±20 %
            (4500, 1080, 720),  # a fifth is 900 s
            (7200, 1080, 720),  # 900 s at most
            (86_400, 1080, 720),
            (60, 14.4, 9.6),
            (5, 1.2, 0.8),
        ],
    )
    def test_due(self, life: float, earliest: float, latest: float) -> None:
        """A later token is due min(0.2·L, 900 s)·U(0.8, 1.2) before its expiry."""
        assert SENT + life - earliest == pytest.approx(lease(life=life, draw=ALMOST_ONE).due_at)
        assert SENT + life - latest == pytest.approx(lease(life=life, draw=0.0).due_at)

    # case 16
    @pytest.mark.parametrize("is_first", [False, True])
    @pytest.mark.parametrize(
        ("life", "before_expiry"), [(3600, 30), (301, 30), (300, 30), (299, 29.9), (60, 6), (5, 0.5)]
    )
    def test_hard(self, life: float, before_expiry: float, is_first: bool) -> None:
        """Callers begin to wait min(30 s, L/10) before expiry."""
        assert SENT + life - before_expiry == pytest.approx(lease(life=life, is_first=is_first).hard_at)

    @pytest.mark.parametrize("life", [5, 60, 3600.5])
    def test_expiry(self, life: float) -> None:
        """Expiry is the time the request was sent plus the lifetime; the wall clock has no part in it."""
        held = lease(life=life)

        assert (SENT, SENT + life) == (held.requested_at, held.expires_at)

    @pytest.mark.parametrize("is_first", [False, True])
    def test_due_is_never_after_hard(self, is_first: bool) -> None:
        """A policy whose due comes late makes the token due when callers begin to wait, not after."""
        policy = RenewalPolicy(due_fraction=0.01, first_due_fractions=(0.99, 0.99), hard_fraction=0.5, hard_seconds=900)
        held = lease(is_first=is_first, policy=policy)

        assert (SENT + 2700, SENT + 2700) == (held.due_at, held.hard_at)

    @pytest.mark.parametrize("is_replacement", [False, True])
    def test_carries(self, is_replacement: bool) -> None:
        """A lease carries its token and whether it replaces a rejected one."""
        held = lease("x", is_replacement=is_replacement)

        assert (token("x"), is_replacement) == (held.token, held.is_replacement)

    # case 17
    def test_lifetime_changes(self) -> None:
        """When the lifetime changes from one renewal to the next, the windows are computed anew."""
        memory = holding(lease("long")).after_token(lease("short", sent=2_000, life=60), 2_000, POLICY)

        assert lease("short", sent=2_000, life=60) == memory.lease
        readings = {2_000: State.FRESH, 2_048: State.DUE, 2_054: State.HARD, 2_060: State.NONE}
        assert readings == {now: memory.state(now) for now in readings}


READINGS = {State.FRESH: 2_000.0, State.DUE: 4_000.0, State.HARD: 4_580.0, State.NONE: 4_600.0}


class TestDecision:
    # Written anew, not copied from the module: design, "The state of a token".
    EXPECTED = (
        (State.FRESH, Endpoint.IDLE, Action.SERVE),
        (State.FRESH, Endpoint.RENEWING, Action.SERVE),
        (State.FRESH, Endpoint.BARRED, Action.SERVE),
        (State.DUE, Endpoint.IDLE, Action.SERVE_AND_RENEW),
        (State.DUE, Endpoint.RENEWING, Action.SERVE),
        (State.DUE, Endpoint.BARRED, Action.SERVE),
        (State.HARD, Endpoint.IDLE, Action.WAIT_BRIEFLY),
        (State.HARD, Endpoint.RENEWING, Action.WAIT_BRIEFLY),
        (State.HARD, Endpoint.BARRED, Action.SERVE),
        (State.NONE, Endpoint.IDLE, Action.WAIT),
        (State.NONE, Endpoint.RENEWING, Action.WAIT),
        (State.NONE, Endpoint.BARRED, Action.RAISE),
    )

    def test_total(self) -> None:
        """There is one decision for each state of the token and of the endpoint."""
        assert set(product(State, Endpoint)) == set(TABLE)
        assert set(TABLE) == {(state, endpoint) for state, endpoint, _ in self.EXPECTED}

    @pytest.mark.parametrize(("state", "endpoint", "expected"), EXPECTED)
    def test_entry(self, state: State, endpoint: Endpoint, expected: Action) -> None:
        """A caller gets what the design says, by the clock's reading and by what the endpoint is doing."""
        now = READINGS[state]
        memory = holding(lease(), not_before=now + 1 if endpoint is Endpoint.BARRED else now)

        assert expected is TABLE[state, endpoint]
        assert state is memory.state(now)
        assert expected is memory.action(now, is_renewing=endpoint is Endpoint.RENEWING)

    @pytest.mark.parametrize("state", State)
    def test_running_renewal_outranks_not_before(self, state: State) -> None:
        """While a renewal runs its outcome is waited for, even if another loop's failure bars the endpoint."""
        now = READINGS[state]
        memory = holding(lease(), not_before=now + 1)

        assert TABLE[state, Endpoint.RENEWING] is memory.action(now, is_renewing=True)

    @pytest.mark.parametrize(
        ("now", "expected"),
        [
            (SENT, State.FRESH),
            (nextafter(3_880.0, 0), State.FRESH),
            (3_880.0, State.DUE),
            (nextafter(4_570.0, 0), State.DUE),
            (4_570.0, State.HARD),
            (nextafter(4_600.0, 0), State.HARD),
            (4_600.0, State.NONE),
            (1e9, State.NONE),
        ],
    )
    def test_boundaries(self, now: float, expected: State) -> None:
        """Each state begins exactly at its instant."""
        assert (3_880.0, 4_570.0, 4_600.0) == attrs.astuple(lease(), recurse=False)[2:5]
        assert expected is holding(lease()).state(now)

    def test_no_token(self) -> None:
        """Who never had a token has none, and may ask."""
        assert State.NONE is Memory().state(0.0)
        assert Action.WAIT is Memory().action(0.0, is_renewing=False)

    def test_not_before_is_the_first_moment(self) -> None:
        """The endpoint is left alone until `not_before`, and not at it."""
        memory = Memory(not_before=50.0, error=PASSING)

        assert Action.RAISE is memory.action(nextafter(50.0, 0), is_renewing=False)
        assert Action.WAIT is memory.action(50.0, is_renewing=False)

    # case 16
    @pytest.mark.parametrize("is_first", [False, True])
    @pytest.mark.parametrize("life", [5.0, 60.0])
    def test_short_lives_are_reused(self, life: float, is_first: bool) -> None:
        """A token of 5 s or 60 s is served without a renewal for the first 45 % of its life, whatever is drawn."""
        for draw in (0.0, 0.5, ALMOST_ONE):
            memory = holding(lease(life=life, is_first=is_first, draw=draw))

            assert Action.SERVE is memory.action(SENT + 0.449 * life, is_renewing=False)


class TestFailure:
    @pytest.mark.parametrize(
        ("error", "is_alive", "pauses"),
        [
            (PASSING, True, [1, 2, 4, 8, 16, 30, 30]),
            (PASSING, False, [1, 1, 1, 1, 1, 1, 1]),
            (TokenTimeoutError("passing"), True, [1, 2, 4]),
            (TokenResponseError("passing", retryable=True), True, [1, 2, 4]),
            (refused(None), True, [1, 2, 4]),
            (TERMINAL, True, [5, 10, 20, 40, 60, 60]),
            (TERMINAL, False, [5, 10, 20, 40, 60, 60]),
            (refused(None, status=400), False, [5, 10, 20]),
            (ConfigurationError("terminal"), False, [5, 10, 20]),
            (TokenError("terminal"), True, [5, 10, 20]),
            # Retry-After, if it is later; 300 s at most.
            (refused(10), True, [10, 10, 10, 10, 16, 30]),
            (refused(10), False, [10, 10]),
            (refused(0), True, [1, 2, 4]),
            (refused(299), False, [299, 299]),
            (refused(300), True, [300, 300]),
            (refused(301), True, [300, 300]),
            (refused(31_536_000), False, [300, 300]),
            (refused(7, status=400), True, [7, 10, 20]),
        ],
        ids=repr,
    )
    def test_pause(self, error: SimpleStoreError, is_alive: bool, pauses: list[float]) -> None:
        """A failure bars the endpoint for 1 s·2ⁿ (terminal 5 s·2ⁿ), or as long as it asked for."""
        shown = [POLICY.failure_pause(error, failures, is_alive=is_alive) for failures in range(len(pauses))]

        assert pauses == shown

    @pytest.mark.parametrize(("error", "cap"), [(PASSING, 30), (TERMINAL, 60), (refused(7), 30), (refused(1e9), 300)])
    def test_endless_outage(self, error: SimpleStoreError, cap: float) -> None:
        """However many failures there were, the pause is the cap; nothing overflows."""
        assert [cap] * 3 == [POLICY.failure_pause(error, n, is_alive=True) for n in (100, 10_000, 10**9)]

    def test_numbers_of_the_policy(self) -> None:
        """Another policy has other pauses."""
        policy = RenewalPolicy(
            failure_seconds=3,
            failure_cap_seconds=5,
            terminal_seconds=7,
            terminal_cap_seconds=9,
            retry_after_cap_seconds=6,
        )

        assert [3, 5, 3, 7, 9, 6] == [
            policy.failure_pause(PASSING, 0, is_alive=True),
            policy.failure_pause(PASSING, 1, is_alive=True),
            policy.failure_pause(PASSING, 1, is_alive=False),
            policy.failure_pause(TERMINAL, 0, is_alive=True),
            policy.failure_pause(TERMINAL, 1, is_alive=True),
            policy.failure_pause(refused(100), 0, is_alive=True),
        ]

    def test_remembered(self) -> None:
        """The first failure is remembered with its error and the time; the held token stays."""
        held = holding(lease())

        expected = attrs.evolve(held, failures=1, error=PASSING, not_before=4_001.0, outage_began_at=4_000.0)
        assert expected == held.after_failure(PASSING, 4_000.0, POLICY)

    def test_remembered_again(self) -> None:
        """The next failure counts on, replaces the error, and leaves the outage's beginning."""
        memory = holding(lease()).after_failure(PASSING, 4_000.0, POLICY).after_failure(TERMINAL, 4_010.0, POLICY)

        assert (2, TERMINAL, 4_020.0, 4_000.0) == (
            memory.failures,
            memory.error,
            memory.not_before,
            memory.outage_began_at,
        )

    @pytest.mark.parametrize(
        ("now", "pause"), [(4_000.0, 8.0), (nextafter(4_600.0, 0), 8.0), (4_600.0, 1.0), (5_000.0, 1.0)]
    )
    def test_doubles_only_while_a_token_lives(self, now: float, pause: float) -> None:
        """While callers fail, the endpoint is asked again after 1 s; while a token lives there is time."""
        memory = holding(lease(), failures=3).after_failure(PASSING, now, POLICY)

        assert now + pause == memory.not_before

    def test_without_a_token(self) -> None:
        """Who never had a token waits 1 s after each failure, and is told the error meanwhile."""
        memory = Memory()
        for now in (10.0, 11.0, 12.0):
            memory = memory.after_failure(PASSING, now, POLICY)
            assert now + 1 == memory.not_before
            assert Action.RAISE is memory.action(now, is_renewing=False)

        assert (PASSING, 10.0, False) == (memory.error, memory.outage_began_at, memory.has_renewed)

    def test_later_pause_is_kept(self) -> None:
        """A later failure (of another loop) does not shorten what Retry-After asked for."""
        memory = holding(lease()).after_failure(refused(200), 2_000.0, POLICY).after_failure(PASSING, 2_010.0, POLICY)

        assert 2_200.0 == memory.not_before

    def test_success_ends_the_outage(self) -> None:
        """A token clears all that was remembered of failures."""
        failed = holding(lease()).after_failure(PASSING, 4_000.0, POLICY)
        new = lease("new", sent=4_010.0)

        assert Memory(lease=new, has_renewed=True) == failed.after_token(new, 4_011.0, POLICY)

    # case 15
    def test_hundred_failures(self) -> None:
        """After 100 failures in a row the pause is still the cap, and the next call asks again."""
        asks = {Action.SERVE_AND_RENEW, Action.WAIT_BRIEFLY, Action.WAIT}
        memory, now = holding(lease(life=86_400)), 86_600.0
        for _ in range(100):
            memory = memory.after_failure(PASSING, now, POLICY)
            assert 1 <= memory.not_before - now <= 30
            now = memory.not_before
            assert memory.action(now, is_renewing=False) in asks

        assert 100 == memory.failures


class TestUnchanged:
    # case 18
    def test_backs_off(self) -> None:
        """The value that is held already counts as no renewal: 1 s·2ⁿ, 30 s at most, then ask again."""
        memory, now = holding(lease()), 4_000.0
        pauses = []
        for _ in range(7):
            memory = memory.after_token(lease(sent=now), now, POLICY)
            pauses.append(memory.not_before - now)
            now = memory.not_before

        assert [1, 2, 4, 8, 16, 30, 30] == pauses
        assert 7 == memory.failures

    # case 18
    def test_never_past_expiry(self) -> None:
        """The pause ends with the token: an endpoint that answers is no outage, and callers are not refused."""
        held = holding(lease(life=60), failures=6)
        memory = held.after_token(lease(sent=1_010, life=5), 1_010.0, POLICY)

        assert 1_015.0 == memory.not_before
        assert Action.WAIT is memory.action(1_015.0, is_renewing=False)

    # case 18
    def test_life_follows_the_newer_reply(self) -> None:
        """The token's life is what the newer reply says; that it replaces a rejected one is not forgotten."""
        held = holding(lease(is_replacement=True))
        newer = lease(sent=4_000.0, is_replacement=False)

        assert attrs.evolve(
            held, lease=attrs.evolve(newer, is_replacement=True), not_before=4_001.0, failures=1
        ) == held.after_token(newer, 4_000.0, POLICY)

    @pytest.mark.parametrize("is_replacement", [False, True])
    def test_is_no_replacement_by_itself(self, is_replacement: bool) -> None:
        """The same token is a replacement only if it was one before."""
        memory = holding(lease()).after_token(lease(sent=4_000.0, is_replacement=is_replacement), 4_000.0, POLICY)

        assert memory.lease is not None
        assert memory.lease.is_replacement is False

    def test_ends_an_outage(self) -> None:
        """An endpoint that answers is no outage, even if it has nothing new."""
        failed = holding(lease()).after_failure(PASSING, 4_000.0, POLICY)
        memory = failed.after_token(lease(sent=4_010.0), 4_010.0, POLICY)

        assert (None, None, 2, 4_012.0) == (memory.error, memory.outage_began_at, memory.failures, memory.not_before)

    def test_another_value_starts_over(self) -> None:
        """A new value ends the backing off."""
        memory = holding(lease()).after_token(lease(sent=4_000.0), 4_000.0, POLICY)
        new = lease("new", sent=4_001.0)

        assert Memory(lease=new, has_renewed=True) == memory.after_token(new, 4_001.0, POLICY)

    @pytest.mark.parametrize(
        ("memory", "now", "expected"),
        [
            (holding(lease()), 4_000.0, True),
            (holding(lease()), nextafter(4_600.0, 0), True),
            (holding(lease()), 4_600.0, False),
            (holding(lease("other")), 4_000.0, False),
            (Memory(), 4_000.0, False),
        ],
        ids=["same", "last moment", "expired", "other", "none"],
    )
    def test_is_unchanged(self, memory: Memory, now: float, expected: bool) -> None:
        """Unchanged is the value that is held and lives; a value that comes back later is a renewal."""
        assert expected == memory.is_unchanged(lease(sent=3_999.0), now)

    def test_expired_value_comes_back(self) -> None:
        """The value of an expired token, granted anew, is a renewal like any other."""
        again = lease(sent=4_600.0)

        assert Memory(lease=again, has_renewed=True) == holding(lease()).after_token(again, 4_600.0, POLICY)


class TestAccepts:
    @pytest.mark.parametrize(
        ("sent", "expected"), [(SENT - 1, False), (SENT, False), (nextafter(SENT, inf), True), (SENT + 1, True)]
    )
    def test_newer_only(self, sent: float, expected: bool) -> None:
        """A late reply never overwrites a token that was requested after it."""
        assert expected == holding(lease()).accepts(lease("other", sent=sent))

    def test_first(self) -> None:
        """Whoever holds nothing takes what comes."""
        assert Memory().accepts(lease(sent=0.0))

    @pytest.mark.parametrize(
        ("value", "sent", "expected"),
        [
            ("rejected", 1_099.0, False),
            ("rejected", nextafter(1_100.0, 0), False),
            ("rejected", 1_100.0, True),
            ("other", 1_050.0, True),
        ],
    )
    def test_rejected(self, value: str, sent: float, expected: bool) -> None:
        """A rejected value is taken back only if it was asked for after the rejection: the endpoint knows better."""
        memory, _ = holding(lease("rejected")).after_rejection(token("rejected"), 1_100.0, POLICY)

        assert expected == memory.accepts(lease(value, sent=sent))

    @pytest.mark.parametrize("value", ["first", "second"])
    def test_each_rejected_value(self, value: str) -> None:
        """Every remembered rejection counts, not only the last."""
        memory = Memory(rejected=(("first", 10.0), ("second", 20.0)))

        assert not memory.accepts(lease(value, sent=5.0))
        assert memory.accepts(lease(value, sent=30.0))


class TestCached:
    @pytest.mark.parametrize(
        ("now", "expected"),
        [(SENT, True), (4_000.0, True), (nextafter(4_570.0, 0), True), (4_570.0, False), (4_599.0, False)],
    )
    def test_nothing_held(self, now: float, expected: bool) -> None:
        """Without a token any cached one is welcome, if callers need not wait for its renewal at once."""
        assert expected == Memory().wants_cached(lease(), now)

    @pytest.mark.parametrize(("now", "expected"), [(4_599.0, False), (4_600.0, True)])
    def test_held_one_expired(self, now: float, expected: bool) -> None:
        """An expired token is none; a living one is not given away for one that is due itself."""
        cached = lease("cached", sent=1_100.0)

        assert cached.due_at <= now < cached.hard_at
        assert expected == holding(lease()).wants_cached(cached, now)

    @pytest.mark.parametrize(
        ("value", "sent", "now", "expected"),
        [
            ("cached", 1_100.0, 1_200.0, True),
            ("cached", SENT, 1_200.0, False),
            ("cached", nextafter(SENT, inf), 1_200.0, True),
            ("cached", 999.0, 1_200.0, False),
            ("token", 1_100.0, 1_200.0, False),
            ("cached", 1_100.0, nextafter(3_980.0, 0), True),
            ("cached", 1_100.0, 3_980.0, False),
        ],
        ids=["newer", "as old", "just newer", "older", "same value", "fresh", "due itself"],
    )
    def test_living_one_held(self, value: str, sent: float, now: float, expected: bool) -> None:
        """A living token is given away only for another one that is newer and fresh."""
        assert expected == holding(lease()).wants_cached(lease(value, sent=sent), now)

    # case 47
    @pytest.mark.parametrize(("value", "expected"), [("rejected", False), ("newer", True)])
    @pytest.mark.parametrize("sent", [SENT, 1_050.0, 1_150.0])
    def test_rejected(self, value: str, sent: float, expected: bool) -> None:
        """A rejected token still in a shared cache is not taken again, whatever its date; another one is."""
        memory, _ = holding(lease("rejected")).after_rejection(token("rejected"), 1_100.0, POLICY)

        assert expected == memory.wants_cached(lease(value, sent=sent), 1_200.0)

    # case 47
    def test_replacement_from_the_cache(self) -> None:
        """A token taken from the cache for a rejected one ends the replacing, as a fetched one does."""
        memory, _ = holding(lease("rejected")).after_rejection(token("rejected"), 1_100.0, POLICY)
        cached = lease("newer", sent=1_050.0, is_replacement=True)
        memory = memory.after_token(cached, 1_101.0, POLICY)

        assert (cached, False) == (memory.lease, memory.is_replacing)


class TestRejection:
    def test_first(self) -> None:
        """A first rejection renews at once, however young the token: it is dropped and remembered."""
        memory, is_replaced = holding(lease()).after_rejection(token(), SENT + 0.001, POLICY)

        assert is_replaced
        assert Memory(has_renewed=True, rejected=(("token", SENT + 0.001),), is_replacing=True) == memory
        assert Action.WAIT is memory.action(SENT + 0.001, is_renewing=False)

    @pytest.mark.parametrize("now", [1_200.0, 4_000.0, 5_000.0])
    def test_straggler(self, now: float) -> None:
        """A rejection of another token than the held one changes nothing: there is a newer one to send."""
        held = holding(lease("newer"), not_before=1e9)

        assert (held, True) == held.after_rejection(token("older"), now, POLICY)

    def test_nothing_held(self) -> None:
        """Whoever holds nothing will ask anyway."""
        assert (Memory(), True) == Memory().after_rejection(token(), SENT, POLICY)

    @pytest.mark.parametrize("held", [holding(lease()), Memory()], ids=["token", "none"])
    def test_not_before_outranks(self, held: Memory) -> None:
        """While the endpoint is left alone a rejection is the answer; the token is kept."""
        barred = attrs.evolve(held, not_before=SENT + 10)

        assert (barred, False) == barred.after_rejection(token(), nextafter(SENT + 10, 0), POLICY)
        assert barred.after_rejection(token(), SENT + 10, POLICY)[1]

    @pytest.mark.parametrize(
        ("rejections", "hold"), [(0, 5), (1, 10), (2, 20), (3, 40), (4, 80), (5, 160), (6, 300), (100, 300)]
    )
    def test_replacement_is_held(self, rejections: int, hold: float) -> None:
        """A replacement that is rejected in turn is kept until 5·2ⁿ s, 300 s at most, after it was requested."""
        held = holding(lease(is_replacement=True), rejections=rejections)
        just_before = nextafter(SENT + hold, 0)

        assert hold == POLICY.rejection_hold(rejections)
        assert (held, False) == held.after_rejection(token(), just_before, POLICY)
        memory, is_replaced = held.after_rejection(token(), SENT + hold, POLICY)
        assert is_replaced
        assert (("token", SENT + hold),) == memory.rejected
        assert (rejections + 1 if hold < 300 else 0) == memory.rejections

    def test_numbers_of_the_policy(self) -> None:
        """Another policy holds a replacement for another time."""
        policy = RenewalPolicy(rejection_seconds=7, rejection_cap_seconds=20)

        assert [7, 14, 20, 20] == [policy.rejection_hold(rejections) for rejections in (0, 1, 2, 10**9)]

    @pytest.mark.parametrize("is_replacement", [False, True])
    @pytest.mark.parametrize(("age", "starts_over"), [(299.9, False), (300.0, True), (3_000.0, True)])
    def test_starts_over(self, age: float, starts_over: bool, is_replacement: bool) -> None:
        """Once a token lived 300 s the count begins anew; until then the rejection of a replacement adds to it."""
        held = holding(lease(is_replacement=is_replacement), rejections=2)
        memory, is_replaced = held.after_rejection(token(), SENT + age, POLICY)

        assert is_replaced
        assert (0 if starts_over else 2 + is_replacement) == memory.rejections

    # case 39
    def test_endless_rejections(self) -> None:
        """An API that always says 401 gets two tokens in the first 5 s, then ever fewer."""
        memory, now, requested_at = holding(lease("t0")), SENT, [SENT]
        for step in range(4_000):
            now = SENT + step / 10
            held = memory.lease
            assert held is not None
            memory, is_replaced = memory.after_rejection(held.token, now, POLICY)
            if is_replaced:
                memory = memory.after_token(lease(f"t{step + 1}", sent=now, is_replacement=True), now, POLICY)
                requested_at.append(now)

        assert [0, 0, 5, 15, 35, 75, 155, 315] == pytest.approx([at - SENT for at in requested_at])

    def test_memory_of_rejections_is_bounded(self) -> None:
        """The last 16 rejected values are remembered, and no more."""
        memory = Memory()
        for n in range(20):
            held = attrs.evolve(memory, lease=lease(f"t{n}", sent=SENT + n))
            memory, _ = held.after_rejection(token(f"t{n}"), SENT + n, POLICY)

        assert tuple((f"t{n}", SENT + n) for n in range(4, 20)) == memory.rejected

    @pytest.mark.parametrize(
        ("held", "value", "expected"),
        [
            (None, "rejected", True),
            (lease("newer"), "rejected", True),
            (lease("rejected"), "rejected", False),
            (None, "newer", False),
            (lease("newer"), "newer", False),
        ],
        ids=["none held", "another held", "given again", "not rejected", "held"],
    )
    def test_is_rejected(self, held: Lease | None, value: str, expected: bool) -> None:
        """A rejected token stays so, whatever came after it, until the endpoint gives it again."""
        memory = Memory(lease=held, rejected=(("rejected", 10.0),))

        assert expected == memory.is_rejected(token(value))

    def test_successor_ends_the_replacing(self) -> None:
        """Once the replacement came, the next token replaces nobody, and the rejections are still known."""
        memory, _ = holding(lease("first")).after_rejection(token("first"), 1_100.0, POLICY)
        replacement = lease("second", sent=1_101.0, is_replacement=memory.is_replacing)
        memory = memory.after_token(replacement, 1_101.0, POLICY)

        assert (replacement, False, (("first", 1_100.0),)) == (memory.lease, memory.is_replacing, memory.rejected)
        assert replacement.is_replacement


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["wait", "wait", "token", "same token", "fail", "refuse", "terminal", "reject", "cached"]),
        st.floats(0, 2_000),
        st.sampled_from([1.0, 5.0, 60.0, 3600.0, 86_400.0]),
    ),
    max_size=40,
)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(steps=STEPS, draw=st.floats(0, ALMOST_ONE))
def test_any_history(steps: list[tuple[str, float, float]], draw: float) -> None:
    """Whatever happens: no token past its life, no pause past its cap, no bare refusal, no rejected token again."""
    memory, now = Memory(), SENT
    for n, (step, seconds, life) in enumerate(steps):
        now += seconds if step == "wait" else seconds / 100
        held = memory.lease
        value = held.token.value if step == "same token" and held is not None else f"t{n}"
        new = lease(
            value,
            sent=now,
            life=life,
            is_first=not memory.has_renewed,
            is_replacement=memory.is_replacing,
            draw=draw,
        )
        if step in {"token", "same token", "cached"}:
            is_taken = memory.wants_cached(new, now) if step == "cached" else memory.accepts(new)
            memory = memory.after_token(new, now, POLICY) if is_taken else memory
        elif step in {"fail", "refuse", "terminal"}:
            error = {"fail": PASSING, "refuse": refused(seconds), "terminal": TERMINAL}[step]
            memory = memory.after_failure(error, now, POLICY)
        elif step == "reject" and held is not None:
            memory, is_replaced = memory.after_rejection(held.token, now, POLICY)
            assert is_replaced == (memory.lease is None)
            assert not is_replaced or not memory.wants_cached(held, now)

        action = memory.action(now, is_renewing=False)
        is_alive = memory.lease is not None and now < memory.lease.expires_at
        assert is_alive == (action in {Action.SERVE, Action.SERVE_AND_RENEW, Action.WAIT_BRIEFLY})
        assert memory.not_before <= now + 300
        assert action is not Action.RAISE or memory.error is not None
        assert memory.outage_began_at is None or memory.outage_began_at <= now
        assert len(memory.rejected) <= 16


@settings(derandomize=True, max_examples=150, deadline=None)
@given(life=st.floats(0.001, 86_400), draw=st.floats(0, ALMOST_ONE), is_first=st.booleans())
def test_any_life(life: float, draw: float, is_first: bool) -> None:
    """Whatever the life and the draw, a token is first fresh, then due, then hard, then expired."""
    held = lease(life=life, draw=draw, is_first=is_first)
    instants = [held.requested_at, held.due_at, held.hard_at, held.expires_at]

    assert all(earlier <= later for earlier, later in pairwise(instants))
    assert held.due_at - SENT >= 0.4 * life
