"""`ProviderState`: every step from one snapshot to the next."""

from __future__ import annotations

import random
from math import inf, nextafter
from typing import TYPE_CHECKING

import attrs
import pytest

from simplestore_async._core.state import START_AND_WAIT, ProviderState, RenewalResult
from simplestore_async.errors import ProviderClosedError
from tests.support.providers import TICK
from tests.support.states import PASSING, SENT, TERMINAL, WALL, hold, holding, refused, reject, token

if TYPE_CHECKING:
    from simplestore_async._core.policy import HeldToken


class TestFailure:
    def test_remembered(self) -> None:
        """A failure is counted and its error and backoff are remembered; the token and the outage's start are kept."""
        held = holding(hold())
        once = held.failed(PASSING, 4_000.0)

        assert attrs.evolve(held, failures=1, error=PASSING, not_before=4_001.0, outage_began_at=4_000.0) == once
        assert attrs.evolve(once, failures=2, error=TERMINAL, not_before=4_020.0) == once.failed(TERMINAL, 4_010.0)

    @pytest.mark.parametrize(
        ("now", "pause"), [(4_000.0, 8.0), (nextafter(4_600.0, 0), 8.0), (4_600.0, 1.0), (5_000.0, 1.0)]
    )
    def test_doubles_only_while_a_token_lives(self, now: float, pause: float) -> None:
        """The backoff doubles while the token is alive, and is 1 s once it has expired."""
        state = holding(hold(), failures=3).failed(PASSING, now)

        assert now + pause == state.not_before

    def test_later_pause_is_kept(self) -> None:
        """A failure of another loop does not shorten the backoff of an earlier Retry-After."""
        state = holding(hold()).failed(refused(200), 2_000.0).failed(PASSING, 2_010.0)

        assert 2_200.0 == state.not_before

    def test_success_ends_the_outage(self) -> None:
        """A new token resets failures, error, backoff and outage."""
        failed = holding(hold()).failed(PASSING, 4_000.0)
        new = hold("new", sent=4_010.0)

        assert ProviderState(held=new, has_renewed=True) == failed.with_token(new, 4_011.0)


class TestUnchanged:
    def test_backs_off(self) -> None:
        """Receiving the held value again causes a backoff that doubles from 1 s to 30 s."""
        state, now = holding(hold()), 4_000.0
        pauses = []
        for _ in range(7):
            state = state.with_token(hold(sent=now), now)
            pauses.append(state.not_before - now)
            now = state.not_before

        assert [1, 2, 4, 8, 16, 30, 30] == pauses
        assert 7 == state.failures

    def test_never_past_expiry(self) -> None:
        """The backoff after an unchanged token ends when the token expires."""
        held = holding(hold(life=60), failures=6)
        state = held.with_token(hold(sent=1_010, life=5), 1_010.0)

        assert 1_015.0 == state.not_before
        assert START_AND_WAIT is state.decide(1_015.0, is_renewing=False)

    @pytest.mark.parametrize("is_unproven", [False, True])
    @pytest.mark.parametrize("was_unproven", [False, True])
    def test_newer_lifetime(self, was_unproven: bool, is_unproven: bool) -> None:
        """An unchanged token gets the lifetime of the newer response, and stays a replacement if it was one."""
        held = holding(hold(is_unproven=was_unproven))
        newer = hold(sent=4_000.0, is_unproven=is_unproven)

        assert attrs.evolve(
            held, held=attrs.evolve(newer, is_unproven=was_unproven), not_before=4_001.0, failures=1
        ) == held.with_token(newer, 4_000.0)

    def test_ends_an_outage(self) -> None:
        """An unchanged token ends an outage but keeps the count of failures."""
        failed = holding(hold()).failed(PASSING, 4_000.0)
        state = failed.with_token(hold(sent=4_010.0), 4_010.0)

        assert (None, None, 2, 4_012.0) == (state.error, state.outage_began_at, state.failures, state.not_before)

    @pytest.mark.parametrize(("value", "now"), [("new", 4_001.0), ("token", 7_600.0)], ids=["other", "expired"])
    def test_renewal_resets_the_backoff(self, value: str, now: float) -> None:
        """A different value, or the same value after it expired, resets the backoff."""
        state = holding(hold()).with_token(hold(sent=4_000.0), 4_000.0)
        new = hold(value, sent=now)

        assert ProviderState(held=new, has_renewed=True) == state.with_token(new, now)


def receive(
    state: ProviderState, value: str = "new", *, sent: float, now: float | None = None
) -> tuple[ProviderState, RenewalResult | None]:
    return state.received(token(value), requested_at=sent, now=sent if now is None else now, is_replacement=False)


class TestReceived:
    def test_instants(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Only the first token of a provider is due early, not one that replaces a rejected token."""
        monkeypatch.setattr(random, "random", lambda: 0.0)
        first, _ = receive(ProviderState(), "first", sent=SENT)
        second, _ = receive(reject(first, SENT, "first")[0], "second", sent=SENT)

        assert first.held is not None
        assert second.held is not None
        assert hold(is_first=True, draw=0.0).due_at == first.held.due_at
        assert hold(draw=0.0).due_at == second.held.due_at

    @pytest.mark.parametrize("is_replacing", [False, True], ids=["before the renewal", "during the renewal"])
    def test_replacement(self, is_replacing: bool) -> None:
        """A token is a replacement if another was rejected before or during its renewal."""
        state = ProviderState(is_replacing=is_replacing)
        state, result = state.received(token(), requested_at=SENT, now=SENT, is_replacement=not is_replacing)

        assert state.held is not None
        assert result is not None
        assert (True, True) == (state.held.is_unproven, result.token.is_replacement)

    @pytest.mark.parametrize(
        ("sent", "is_kept"), [(SENT - 1, False), (SENT, False), (nextafter(SENT, inf), True), (SENT + 1, True)]
    )
    def test_newest_only(self, sent: float, is_kept: bool) -> None:
        """A response never replaces a token that was requested later, which its waiters get instead."""
        state = holding(hold())
        after, result = receive(state, sent=sent, now=SENT + 2)

        assert result is not None
        assert after.held is not None
        assert (is_kept, "endpoint" if is_kept else "memory") == (result.is_kept, result.source)
        assert ("new" if is_kept else "token") == result.token.value == after.held.token.value
        assert after.held.expires_at == result.expires_at
        assert is_kept is (after is not state)

    def test_older_than_an_expired_token(self) -> None:
        """A token that was requested before the held one, which has expired, is discarded without a result."""
        state = holding(hold(life=60))

        assert (state, None) == receive(state, sent=SENT - 1, now=SENT + 60)

    @pytest.mark.parametrize(
        ("value", "sent", "is_kept"),
        [("rejected", nextafter(1_100.0, 0), False), ("rejected", 1_100.0, True), ("other", 1_050.0, True)],
    )
    def test_rejected(self, value: str, sent: float, is_kept: bool) -> None:
        """A rejected value is accepted again only if it was requested after the rejection."""
        state, _ = reject(holding(hold("rejected")), 1_100.0, "rejected")
        after, result = receive(state, value, sent=sent, now=1_101.0)

        assert is_kept is (result is not None) is (after is not state)

    @pytest.mark.parametrize("value", ["first", "second"])
    def test_each_rejected_value(self, value: str) -> None:
        """All remembered rejections apply, not only the last."""
        state = ProviderState(rejected=(("first", 10.0), ("second", 20.0)))

        assert not state.is_newest(hold(value, sent=5.0))
        assert state.is_newest(hold(value, sent=30.0))

    @pytest.mark.parametrize(("now", "is_kept"), [(nextafter(4_570.0, 0), True), (4_570.0, False), (4_599.0, False)])
    def test_late(self, now: float, is_kept: bool) -> None:
        """A token that is expiring on arrival is returned to its waiters but not held."""
        state = ProviderState()
        after, result = receive(state, sent=SENT, now=now)

        assert result is not None
        assert (is_kept, "endpoint", 4_600.0) == (result.is_kept, result.source, result.expires_at)
        assert is_kept is (after is not state)

    @pytest.mark.parametrize(("value", "is_unchanged"), [("token", True), ("new", False)])
    def test_result(self, value: str, is_unchanged: bool) -> None:
        """The result has the start of the outage that it ends, and whether the token is unchanged."""
        _, result = receive(holding(hold()).failed(PASSING, 4_000.0), value, sent=4_001.0)

        assert result is not None
        assert (is_unchanged, 4_000.0) == (result.is_unchanged, result.outage_began_at)


def find(
    age: float, *, life: float = 3600.0, is_replacement: bool = False, outage_began_at: float | None = None
) -> tuple[HeldToken | None, RenewalResult | None]:
    """Let a provider without a token find a cached one of that age; return its held token and the result."""
    cached = attrs.evolve(token(life=life), is_replacement=is_replacement)
    state = ProviderState(outage_began_at=outage_began_at)
    after, result = state.found(cached, now=SENT, wall_now=WALL + age)
    return after.held, result


class TestFound:
    @pytest.mark.parametrize(
        ("age", "life", "is_taken"),
        [
            pytest.param(-60, 3600, True, id="60 s in the future"),
            pytest.param(-60 - TICK, 3600, False, id="more than 60 s in the future"),
            pytest.param(0, 86_400, True, id="24 h"),
            pytest.param(0, 86_400 + TICK, False, id="more than 24 h"),
            pytest.param(3_570 - TICK, 3600, True, id="due"),
            pytest.param(3_570, 3600, False, id="expiring"),
        ],
    )
    def test_plausible(self, age: float, life: float, is_taken: bool) -> None:
        """A cached token is accepted if its timestamps are plausible and it is not yet expiring."""
        held, result = find(age, life=life)

        assert is_taken is (held is not None) is (result is not None)

    @pytest.mark.parametrize(("age", "left"), [(600, 3_000), (0, 3_600), (-60, 3_600)])
    def test_age(self, age: float, left: float) -> None:
        """A cached token expires at its stored expiry, and a writer with a fast clock does not extend its lifetime."""
        held, result = find(age, outage_began_at=900.0)

        assert held is not None
        assert result is not None
        assert SENT + left == held.expires_at == result.expires_at
        assert (True, False, "cache", 900.0) == (
            result.is_kept,
            result.is_unchanged,
            result.source,
            result.outage_began_at,
        )

    @pytest.mark.parametrize("is_replacement", [False, True])
    def test_replacement(self, is_replacement: bool) -> None:
        """A cached token is a replacement if it was one when it was stored."""
        held, _ = find(0, is_replacement=is_replacement)

        assert held is not None
        assert is_replacement is held.is_unproven


class TestCached:
    @pytest.mark.parametrize(("now", "expected"), [(4_599.0, False), (4_600.0, True)])
    def test_expiring_held_token(self, now: float, expected: bool) -> None:
        """A due cached token is better than an expired held token, and not better than a live one."""
        cached = hold("cached", sent=1_100.0)

        assert cached.due_at <= now < cached.expiring_at
        assert expected == holding(hold()).is_better(cached, now)

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
        ids=["newer", "same age", "just newer", "older", "same value", "fresh", "due"],
    )
    def test_live_held_token(self, value: str, sent: float, now: float, expected: bool) -> None:
        """A cached token is better than a live held token only if it is another, newer and fresh."""
        assert expected == holding(hold()).is_better(hold(value, sent=sent), now)

    @pytest.mark.parametrize(("value", "expected"), [("rejected", False), ("newer", True)])
    @pytest.mark.parametrize("sent", [SENT, 1_050.0, 1_150.0])
    def test_rejected(self, value: str, sent: float, expected: bool) -> None:
        """A rejected token in the cache is never taken again, and another one is."""
        state, _ = reject(holding(hold("rejected")), 1_100.0, "rejected")

        assert expected == state.is_better(hold(value, sent=sent), 1_200.0)


class TestRejection:
    def test_first(self) -> None:
        """A first rejection drops the token, however young, and the next call starts a renewal."""
        state, is_replaced = reject(holding(hold()), SENT + 0.001)

        assert is_replaced
        assert ProviderState(has_renewed=True, rejected=(("token", SENT + 0.001),), is_replacing=True) == state
        assert START_AND_WAIT is state.decide(SENT + 0.001, is_renewing=False)

    @pytest.mark.parametrize(("rejections", "seconds"), [(0, 5), (1, 10), (6, 300)])
    def test_replacement_is_held(self, rejections: int, seconds: float) -> None:
        """A rejected replacement is kept until 5 s after its request, doubled for each rejection up to 300 s."""
        held = holding(hold(is_unproven=True), rejections=rejections)

        assert (held, False) == reject(held, nextafter(SENT + seconds, 0))
        state, is_replaced = reject(held, SENT + seconds)
        assert is_replaced
        assert (("token", SENT + seconds),) == state.rejected
        assert (rejections + 1 if seconds < 300 else 0) == state.rejections

    @pytest.mark.parametrize("is_unproven", [False, True])
    @pytest.mark.parametrize(("age", "starts_over"), [(299.9, False), (300.0, True), (3_000.0, True)])
    def test_starts_over(self, age: float, starts_over: bool, is_unproven: bool) -> None:
        """The rejection of a replacement adds to the count, unless the token was held for 300 s, which resets it."""
        held = holding(hold(is_unproven=is_unproven), rejections=2)
        state, is_replaced = reject(held, SENT + age)

        assert is_replaced
        assert (0 if starts_over else 2 + is_unproven) == state.rejections

    def test_acceptance(self) -> None:
        """An accepted replacement becomes an ordinary token, and the count of rejections is reset."""
        state = holding(hold(is_unproven=True), rejections=3)
        accepted = state.accepts(token())

        assert attrs.evolve(state, held=hold(), rejections=0) == accepted
        after, is_replaced = reject(accepted, SENT)
        assert (True, 0) == (is_replaced, after.rejections)

    @pytest.mark.parametrize(
        ("state", "value"),
        [(holding(hold()), "token"), (holding(hold(is_unproven=True)), "other"), (ProviderState(), "token")],
        ids=["ordinary", "another", "none held"],
    )
    def test_acceptance_of_another_token(self, state: ProviderState, value: str) -> None:
        """Accepting anything but the held replacement changes nothing."""
        assert state is state.accepts(token(value))

    def test_remembered_rejections_are_limited(self) -> None:
        """Only the last 16 rejected values are remembered."""
        state = ProviderState()
        for n in range(20):
            held = attrs.evolve(state, held=hold(f"t{n}", sent=SENT + n))
            state, _ = reject(held, SENT + n, f"t{n}")

        assert tuple((f"t{n}", SENT + n) for n in range(4, 20)) == state.rejected

    @pytest.mark.parametrize(
        ("held", "value", "expected"),
        [
            (None, "rejected", True),
            (hold("newer"), "rejected", True),
            (hold("rejected"), "rejected", False),
            (None, "newer", False),
            (hold("newer"), "newer", False),
        ],
        ids=["none held", "another held", "issued again", "not rejected", "held"],
    )
    def test_is_rejected(self, held: HeldToken | None, value: str, expected: bool) -> None:
        """A rejected token stays rejected until the endpoint issues it again."""
        state = ProviderState(held=held, rejected=(("rejected", 10.0),))

        assert expected == state.is_rejected(token(value))

    def test_replacement_is_followed_by_ordinary_tokens(self) -> None:
        """After a replacement the next token is an ordinary one, and the rejection is still remembered."""
        state, _ = reject(holding(hold("first")), 1_100.0, "first")
        replacement = hold("second", sent=1_101.0, is_unproven=state.is_replacing)
        state = state.with_token(replacement, 1_101.0)

        assert (replacement, False, (("first", 1_100.0),)) == (state.held, state.is_replacing, state.rejected)
        assert replacement.is_unproven


class TestWaiters:
    @pytest.mark.parametrize(
        ("now", "value", "expected"),
        [(nextafter(2_000.0, 0), "new", True), (2_000.0, "new", False), (1_500.0, "rejected", False)],
        ids=["alive", "expired", "rejected"],
    )
    def test_can_serve(self, now: float, value: str, expected: bool) -> None:
        """A result whose token has expired or was rejected cannot serve its waiters."""
        state = ProviderState(rejected=(("rejected", 10.0),))
        result = RenewalResult(token(value), source="endpoint", expires_at=2_000.0)

        assert expected is state.can_serve(result, now)

    @pytest.mark.parametrize(
        ("now", "may_be_due", "expected"),
        [(3_879.0, False, True), (3_880.0, False, False), (3_880.0, True, True), (4_600.0, True, False)],
        ids=["fresh", "due", "due after a failure", "expired after a failure"],
    )
    def test_renewed_since(self, now: float, may_be_due: bool, expected: bool) -> None:
        """A renewal takes another loop's token if it is fresh or, after a failure, due."""
        state = holding(hold())
        result = state.renewed_since(None, now, may_be_due=may_be_due)

        assert expected is (result is not None)
        assert result is None or ("memory", 4_600.0) == (result.source, result.expires_at)
        assert state.renewed_since(state.held, now, may_be_due=may_be_due) is None

    def test_closed(self) -> None:
        """A closed state raises ProviderClosedError for every outcome."""
        state = holding(hold()).closed()
        for step in (
            lambda: receive(state, sent=SENT + 1),
            lambda: state.found(token(), now=SENT, wall_now=WALL),
            lambda: state.failed(PASSING, SENT),
        ):
            with pytest.raises(ProviderClosedError):
                step()
