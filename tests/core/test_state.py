"""`simplestore_async._core.state`: each step from one snapshot of the provider's state to the next."""

from __future__ import annotations

from math import inf, nextafter
from typing import TYPE_CHECKING

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simplestore_async._core.state import START_AND_WAIT, Fail, ProviderState, Serve, TokenState, Wait
from tests.support.states import PASSING, POLICY, SENT, TERMINAL, hold, holding, refused, reject, token

if TYPE_CHECKING:
    from simplestore_async._core.policy import HeldToken

ALMOST_ONE = nextafter(1.0, 0.0)


class TestFailure:
    def test_remembered(self) -> None:
        """The first failure is remembered with its error and the time; the held token stays."""
        held = holding(hold())

        expected = attrs.evolve(held, failures=1, error=PASSING, not_before=4_001.0, outage_began_at=4_000.0)
        assert expected == held.failed(PASSING, 4_000.0)

    def test_remembered_again(self) -> None:
        """The next failure counts on, replaces the error, and leaves the outage's beginning."""
        state = holding(hold()).failed(PASSING, 4_000.0).failed(TERMINAL, 4_010.0)

        assert (2, TERMINAL, 4_020.0, 4_000.0) == (
            state.failures,
            state.error,
            state.not_before,
            state.outage_began_at,
        )

    @pytest.mark.parametrize(
        ("now", "pause"), [(4_000.0, 8.0), (nextafter(4_600.0, 0), 8.0), (4_600.0, 1.0), (5_000.0, 1.0)]
    )
    def test_doubles_only_while_a_token_lives(self, now: float, pause: float) -> None:
        """While callers fail, the endpoint is asked again after 1 s; while a token lives there is time."""
        state = holding(hold(), failures=3).failed(PASSING, now)

        assert now + pause == state.not_before

    def test_without_a_token(self) -> None:
        """Without a token callers wait 1 s after each failure, and get the error meanwhile."""
        state = ProviderState()
        for now in (10.0, 11.0, 12.0):
            state = state.failed(PASSING, now)
            assert now + 1 == state.not_before
            assert isinstance(state.decide(now, is_renewing=False), Fail)

        assert (PASSING, 10.0, False) == (state.error, state.outage_began_at, state.has_renewed)

    def test_later_pause_is_kept(self) -> None:
        """A later failure (of another loop) does not shorten a Retry-After."""
        state = holding(hold()).failed(refused(200), 2_000.0).failed(PASSING, 2_010.0)

        assert 2_200.0 == state.not_before

    def test_success_ends_the_outage(self) -> None:
        """A token clears all that was remembered of failures."""
        failed = holding(hold()).failed(PASSING, 4_000.0)
        new = hold("new", sent=4_010.0)

        assert ProviderState(held=new, has_renewed=True) == failed.with_token(new, 4_011.0)

    def test_hundred_failures(self) -> None:
        """After 100 failures in a row the pause is still the cap, and the next call asks again."""
        state, now = holding(hold(life=86_400)), 86_600.0
        for _ in range(100):
            state = state.failed(PASSING, now)
            assert 1 <= state.not_before - now <= 30
            now = state.not_before
            assert state.decide(now, is_renewing=False).starts_renewal

        assert 100 == state.failures


class TestUnchanged:
    def test_backs_off(self) -> None:
        """The value that is held already counts as no renewal: 1 s·2ⁿ, 30 s at most, then ask again."""
        state, now = holding(hold()), 4_000.0
        pauses = []
        for _ in range(7):
            state = state.with_token(hold(sent=now), now)
            pauses.append(state.not_before - now)
            now = state.not_before

        assert [1, 2, 4, 8, 16, 30, 30] == pauses
        assert 7 == state.failures

    def test_never_past_expiry(self) -> None:
        """The pause ends with the token: an endpoint that answers is no outage, and callers are not refused."""
        held = holding(hold(life=60), failures=6)
        state = held.with_token(hold(sent=1_010, life=5), 1_010.0)

        assert 1_015.0 == state.not_before
        assert START_AND_WAIT is state.decide(1_015.0, is_renewing=False)

    def test_life_follows_the_newer_reply(self) -> None:
        """The token has the life of the newer response, and remains a replacement."""
        held = holding(hold(is_unproven=True))
        newer = hold(sent=4_000.0, is_unproven=False)

        assert attrs.evolve(
            held, held=attrs.evolve(newer, is_unproven=True), not_before=4_001.0, failures=1
        ) == held.with_token(newer, 4_000.0)

    @pytest.mark.parametrize("is_unproven", [False, True])
    def test_is_no_replacement_by_itself(self, is_unproven: bool) -> None:
        """The same token is a replacement only if it was one before."""
        state = holding(hold()).with_token(hold(sent=4_000.0, is_unproven=is_unproven), 4_000.0)

        assert state.held is not None
        assert state.held.is_unproven is False

    def test_ends_an_outage(self) -> None:
        """An endpoint that answers is no outage, even if it has nothing new."""
        failed = holding(hold()).failed(PASSING, 4_000.0)
        state = failed.with_token(hold(sent=4_010.0), 4_010.0)

        assert (None, None, 2, 4_012.0) == (state.error, state.outage_began_at, state.failures, state.not_before)

    def test_another_value_starts_over(self) -> None:
        """A new value ends the backing off."""
        state = holding(hold()).with_token(hold(sent=4_000.0), 4_000.0)
        new = hold("new", sent=4_001.0)

        assert ProviderState(held=new, has_renewed=True) == state.with_token(new, 4_001.0)

    @pytest.mark.parametrize(
        ("state", "now", "expected"),
        [
            (holding(hold()), 4_000.0, True),
            (holding(hold()), nextafter(4_600.0, 0), True),
            (holding(hold()), 4_600.0, False),
            (holding(hold("other")), 4_000.0, False),
            (ProviderState(), 4_000.0, False),
        ],
        ids=["same", "last moment", "expired", "other", "none"],
    )
    def test_is_unchanged(self, state: ProviderState, now: float, expected: bool) -> None:
        """Unchanged is the value that is held and lives; a value that comes back later is a renewal."""
        assert expected == state.is_unchanged(hold(sent=3_999.0), now)

    def test_expired_value_comes_back(self) -> None:
        """The value of an expired token, granted anew, is a renewal like any other."""
        again = hold(sent=4_600.0)

        assert ProviderState(held=again, has_renewed=True) == holding(hold()).with_token(again, 4_600.0)


class TestAccepts:
    @pytest.mark.parametrize(
        ("sent", "expected"), [(SENT - 1, False), (SENT, False), (nextafter(SENT, inf), True), (SENT + 1, True)]
    )
    def test_newer_only(self, sent: float, expected: bool) -> None:
        """A late reply never overwrites a token that was requested after it."""
        assert expected == holding(hold()).is_newest(hold("other", sent=sent))

    def test_first(self) -> None:
        """Without a held token any token is taken."""
        assert ProviderState().is_newest(hold(sent=0.0))

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
        """A rejected value is held again only if it was requested after the rejection: the endpoint decides."""
        state, _ = reject(holding(hold("rejected")), 1_100.0, "rejected")

        assert expected == state.is_newest(hold(value, sent=sent))

    @pytest.mark.parametrize("value", ["first", "second"])
    def test_each_rejected_value(self, value: str) -> None:
        """Every remembered rejection counts, not only the last."""
        state = ProviderState(rejected=(("first", 10.0), ("second", 20.0)))

        assert not state.is_newest(hold(value, sent=5.0))
        assert state.is_newest(hold(value, sent=30.0))


class TestCached:
    @pytest.mark.parametrize(
        ("now", "expected"),
        [(SENT, True), (4_000.0, True), (nextafter(4_570.0, 0), True), (4_570.0, False), (4_599.0, False)],
    )
    def test_nothing_held(self, now: float, expected: bool) -> None:
        """Without a token any cached one is welcome, if callers need not wait for its renewal at once."""
        assert expected == ProviderState().is_better(hold(), now)

    @pytest.mark.parametrize(("now", "expected"), [(4_599.0, False), (4_600.0, True)])
    def test_held_one_expired(self, now: float, expected: bool) -> None:
        """An expired token is none; a living one is not given away for one that is due itself."""
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
        ids=["newer", "as old", "just newer", "older", "same value", "fresh", "due itself"],
    )
    def test_living_one_held(self, value: str, sent: float, now: float, expected: bool) -> None:
        """A living token is given away only for another one that is newer and fresh."""
        assert expected == holding(hold()).is_better(hold(value, sent=sent), now)

    @pytest.mark.parametrize(("value", "expected"), [("rejected", False), ("newer", True)])
    @pytest.mark.parametrize("sent", [SENT, 1_050.0, 1_150.0])
    def test_rejected(self, value: str, sent: float, expected: bool) -> None:
        """A rejected token in a shared cache is not taken again, at any age; another one is."""
        state, _ = reject(holding(hold("rejected")), 1_100.0, "rejected")

        assert expected == state.is_better(hold(value, sent=sent), 1_200.0)

    def test_replacement_from_the_cache(self) -> None:
        """A token taken from the cache for a rejected one ends the replacing, as a fetched one does."""
        state, _ = reject(holding(hold("rejected")), 1_100.0, "rejected")
        cached = hold("newer", sent=1_050.0, is_unproven=True)
        state = state.with_token(cached, 1_101.0)

        assert (cached, False) == (state.held, state.is_replacing)


class TestRejection:
    def test_first(self) -> None:
        """A first rejection renews at once, however young the token: it is dropped and remembered."""
        state, is_replaced = reject(holding(hold()), SENT + 0.001)

        assert is_replaced
        assert ProviderState(has_renewed=True, rejected=(("token", SENT + 0.001),), is_replacing=True) == state
        assert START_AND_WAIT is state.decide(SENT + 0.001, is_renewing=False)

    @pytest.mark.parametrize(
        ("rejections", "seconds"), [(0, 5), (1, 10), (2, 20), (3, 40), (4, 80), (5, 160), (6, 300), (100, 300)]
    )
    def test_replacement_is_held(self, rejections: int, seconds: float) -> None:
        """A replacement that is rejected in turn is kept until 5·2ⁿ s, 300 s at most, after it was requested."""
        held = holding(hold(is_unproven=True), rejections=rejections)
        just_before = nextafter(SENT + seconds, 0)

        assert seconds == POLICY.hold_seconds(rejections)
        assert (held, False) == reject(held, just_before)
        state, is_replaced = reject(held, SENT + seconds)
        assert is_replaced
        assert (("token", SENT + seconds),) == state.rejected
        assert (rejections + 1 if seconds < 300 else 0) == state.rejections

    @pytest.mark.parametrize("is_unproven", [False, True])
    @pytest.mark.parametrize(("age", "starts_over"), [(299.9, False), (300.0, True), (3_000.0, True)])
    def test_starts_over(self, age: float, starts_over: bool, is_unproven: bool) -> None:
        """Once a token lived 300 s the count begins anew; until then the rejection of a replacement adds to it."""
        held = holding(hold(is_unproven=is_unproven), rejections=2)
        state, is_replaced = reject(held, SENT + age)

        assert is_replaced
        assert (0 if starts_over else 2 + is_unproven) == state.rejections

    def test_endless_rejections(self) -> None:
        """An API that always responds 401 gets two tokens in the first 5 s, then ever fewer."""
        state, now, requested_at = holding(hold("t0")), SENT, [SENT]
        for step in range(4_000):
            now = SENT + step / 10
            held = state.held
            assert held is not None
            state, is_replaced = reject(state, now, held.token.value)
            if is_replaced:
                state = state.with_token(hold(f"t{step + 1}", sent=now, is_unproven=True), now)
                requested_at.append(now)

        assert [0, 0, 5, 15, 35, 75, 155, 315] == pytest.approx([at - SENT for at in requested_at])

    def test_acceptance(self) -> None:
        """A replacement that the API accepted is an ordinary token, and the holds start over."""
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
    def test_acceptance_of_no_replacement(self, state: ProviderState, value: str) -> None:
        """The acceptance of any other token changes nothing."""
        assert state is state.accepts(token(value))

    def test_memory_of_rejections_is_bounded(self) -> None:
        """The last 16 rejected values are remembered, and no more."""
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
        ids=["none held", "another held", "given again", "not rejected", "held"],
    )
    def test_is_rejected(self, held: HeldToken | None, value: str, expected: bool) -> None:
        """A rejected token stays rejected until the endpoint issues it again."""
        state = ProviderState(held=held, rejected=(("rejected", 10.0),))

        assert expected == state.is_rejected(token(value))

    def test_successor_ends_the_replacing(self) -> None:
        """After the replacement, the next token is no replacement, and the rejections are remembered."""
        state, _ = reject(holding(hold("first")), 1_100.0, "first")
        replacement = hold("second", sent=1_101.0, is_unproven=state.is_replacing)
        state = state.with_token(replacement, 1_101.0)

        assert (replacement, False, (("first", 1_100.0),)) == (state.held, state.is_replacing, state.rejected)
        assert replacement.is_unproven


class TestLifetimes:
    def test_lifetime_changes(self) -> None:
        """When the lifetime changes from one renewal to the next, the windows are computed anew."""
        state = holding(hold("long")).with_token(hold("short", sent=2_000, life=60), 2_000)

        assert hold("short", sent=2_000, life=60) == state.held
        readings = {
            2_000: TokenState.FRESH,
            2_048: TokenState.DUE,
            2_054: TokenState.EXPIRING,
            2_060: TokenState.EXPIRED,
        }
        assert readings == {now: state.token_state(now) for now in readings}


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
    """In any order: no token past its life, no backoff past its cap, no refusal without error, no rejected token."""
    state, now = ProviderState(), SENT
    for n, (step, seconds, life) in enumerate(steps):
        now += seconds if step == "wait" else seconds / 100
        held = state.held
        value = held.token.value if step == "same token" and held is not None else f"t{n}"
        new = hold(
            value,
            sent=now,
            life=life,
            is_first=not state.has_renewed,
            is_unproven=state.is_replacing,
            draw=draw,
        )
        if step in {"token", "same token", "cached"}:
            is_taken = state.is_better(new, now) if step == "cached" else state.is_newest(new)
            state = state.with_token(new, now) if is_taken else state
        elif step in {"fail", "refuse", "terminal"}:
            error = {"fail": PASSING, "refuse": refused(seconds), "terminal": TERMINAL}[step]
            state = state.failed(error, now)
        elif step == "reject" and held is not None:
            state, is_replaced = reject(state, now, held.token.value)
            assert is_replaced == (state.held is None)
            assert not is_replaced or not state.is_better(held, now)

        decision = state.decide(now, is_renewing=False)
        is_alive = state.held is not None and now < state.held.expires_at
        assert is_alive == (
            isinstance(decision, Serve) or (isinstance(decision, Wait) and decision.fallback is not None)
        )
        assert state.not_before <= now + 300
        assert not isinstance(decision, Fail) or decision.error is state.error
        assert state.outage_began_at is None or state.outage_began_at <= now
        assert len(state.rejected) <= 16
