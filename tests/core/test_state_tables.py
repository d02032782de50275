"""The two tables of `simplestore_async._core.state`: decisions for calls, and for rejections."""

from __future__ import annotations

from itertools import product
from math import nextafter

import attrs
import pytest

from simplestore_async._core.state import (
    DECISIONS,
    REJECTIONS,
    START_AND_WAIT,
    WAIT,
    Action,
    EndpointState,
    Fail,
    ProviderState,
    Rejected,
    Serve,
    TokenState,
    Verdict,
    Wait,
)
from simplestore_async.errors import ProviderClosedError
from tests.support.states import PASSING, POLICY, SENT, hold, holding, token

ALMOST_ONE = nextafter(1.0, 0.0)

READINGS = {
    TokenState.FRESH: 2_000.0,
    TokenState.DUE: 4_000.0,
    TokenState.EXPIRING: 4_580.0,
    TokenState.EXPIRED: 4_600.0,
}


class TestDecision:
    EXPECTED = (
        (TokenState.FRESH, EndpointState.IDLE, Action.SERVE),
        (TokenState.FRESH, EndpointState.RENEWING, Action.SERVE),
        (TokenState.FRESH, EndpointState.BACKING_OFF, Action.SERVE),
        (TokenState.DUE, EndpointState.IDLE, Action.SERVE_AND_RENEW),
        (TokenState.DUE, EndpointState.RENEWING, Action.SERVE),
        (TokenState.DUE, EndpointState.BACKING_OFF, Action.SERVE),
        (TokenState.EXPIRING, EndpointState.IDLE, Action.WAIT_BRIEFLY),
        (TokenState.EXPIRING, EndpointState.RENEWING, Action.WAIT_BRIEFLY),
        (TokenState.EXPIRING, EndpointState.BACKING_OFF, Action.SERVE),
        (TokenState.EXPIRED, EndpointState.IDLE, Action.WAIT),
        (TokenState.EXPIRED, EndpointState.RENEWING, Action.WAIT),
        (TokenState.EXPIRED, EndpointState.BACKING_OFF, Action.FAIL),
    )

    def test_total(self) -> None:
        """There is one decision for each state of the token and of the endpoint."""
        assert set(product(TokenState, EndpointState)) == set(DECISIONS)
        assert set(DECISIONS) == {(token_state, endpoint) for token_state, endpoint, _ in self.EXPECTED}

    @pytest.mark.parametrize(("token_state", "endpoint", "expected"), EXPECTED)
    def test_value(self, token_state: TokenState, endpoint: EndpointState, expected: Action) -> None:
        """A decision carries the token, the fallback and the wait, or the error; a renewal starts only if none runs."""
        now, held = READINGS[token_state], hold()
        is_renewing, is_backing_off = endpoint is EndpointState.RENEWING, endpoint is EndpointState.BACKING_OFF
        state = holding(held, not_before=now + 1 if is_backing_off else now, error=PASSING)
        decision = state.decide(now, is_renewing=is_renewing)

        assert expected is DECISIONS[token_state, endpoint]
        assert token_state is state.token_state(now)
        assert (endpoint is EndpointState.IDLE and expected is not Action.SERVE) is decision.starts_renewal
        match expected:
            case Action.SERVE | Action.SERVE_AND_RENEW:
                assert isinstance(decision, Serve)
                assert held.token is decision.token
            case Action.WAIT_BRIEFLY:
                assert isinstance(decision, Wait)
                assert (held, POLICY.wait_seconds(held, now)) == (decision.fallback, decision.seconds)
            case Action.WAIT:
                assert decision is (WAIT if is_renewing else START_AND_WAIT)
            case Action.FAIL:
                assert isinstance(decision, Fail)
                assert decision.error is PASSING

    @pytest.mark.parametrize("is_renewing", [False, True])
    def test_closed(self, is_renewing: bool) -> None:
        """Callers of a closed provider get ProviderClosedError."""
        decision = holding(hold()).closed().decide(SENT, is_renewing=is_renewing)

        assert isinstance(decision, Fail)
        assert isinstance(decision.error, ProviderClosedError)

    def test_running_renewal_outranks_not_before(self) -> None:
        """Callers wait for a renewal in flight even if another loop's failure began a backoff."""
        assert WAIT is ProviderState(not_before=50.0, error=PASSING).decide(0.0, is_renewing=True)

    @pytest.mark.parametrize(
        ("now", "expected"),
        [
            (SENT, TokenState.FRESH),
            (nextafter(3_880.0, 0), TokenState.FRESH),
            (3_880.0, TokenState.DUE),
            (nextafter(4_570.0, 0), TokenState.DUE),
            (4_570.0, TokenState.EXPIRING),
            (nextafter(4_600.0, 0), TokenState.EXPIRING),
            (4_600.0, TokenState.EXPIRED),
            (1e9, TokenState.EXPIRED),
        ],
    )
    def test_boundaries(self, now: float, expected: TokenState) -> None:
        """Each state begins exactly at its instant."""
        assert (3_880.0, 4_570.0, 4_600.0) == attrs.astuple(hold(), recurse=False)[2:5]
        assert expected is holding(hold()).token_state(now)

    def test_no_token(self) -> None:
        """A provider that never had a token waits for one."""
        assert TokenState.EXPIRED is ProviderState().token_state(0.0)
        assert START_AND_WAIT is ProviderState().decide(0.0, is_renewing=False)

    def test_not_before_is_the_first_moment(self) -> None:
        """The endpoint is left alone until `not_before`, and not at it."""
        state = ProviderState(not_before=50.0, error=PASSING)

        assert isinstance(state.decide(nextafter(50.0, 0), is_renewing=False), Fail)
        assert START_AND_WAIT is state.decide(50.0, is_renewing=False)

    @pytest.mark.parametrize("is_first", [False, True])
    @pytest.mark.parametrize("life", [5.0, 60.0])
    def test_short_lives_are_reused(self, life: float, is_first: bool) -> None:
        """A token of 5 s or 60 s is served without a renewal for the first 45 % of its life, with any draw."""
        for draw in (0.0, 0.5, ALMOST_ONE):
            state = holding(hold(life=life, is_first=is_first, draw=draw))

            decision = state.decide(SENT + 0.449 * life, is_renewing=False)
            assert isinstance(decision, Serve)
            assert not decision.starts_renewal


class TestRejectionTable:
    EXPECTED = (
        (Rejected.OTHER, Verdict.RESEND, Verdict.RESEND),
        (Rejected.HELD, Verdict.REPLACE, Verdict.KEEP),
        (Rejected.UNPROVEN, Verdict.KEEP, Verdict.KEEP),
        (Rejected.NONE, Verdict.RENEW, Verdict.GIVE_UP),
    )
    NOW = SENT + 1
    STATES = (
        (ProviderState(), Rejected.NONE),
        (holding(hold("newer")), Rejected.OTHER),
        (holding(hold("newer", life=1.0)), Rejected.NONE),
        (holding(hold()), Rejected.HELD),
        (holding(hold(life=1.0)), Rejected.HELD),
        (holding(hold(is_unproven=True)), Rejected.UNPROVEN),
        (holding(hold(sent=SENT - 4, is_unproven=True)), Rejected.HELD),
    )
    IDS = ("none held", "another held", "another expired", "held", "held, expired", "young replacement", "old one")

    def test_total(self) -> None:
        """There is one verdict for each kind of rejected token, with and without a backoff."""
        expected = {(which, False): idle for which, idle, _ in self.EXPECTED}
        assert expected | {(which, True): backing_off for which, _, backing_off in self.EXPECTED} == REJECTIONS

    @pytest.mark.parametrize(("state", "which"), STATES, ids=IDS)
    @pytest.mark.parametrize("is_backing_off", [False, True])
    def test_entry(self, state: ProviderState, which: Rejected, is_backing_off: bool) -> None:
        """The verdict is the table's entry; only a dropped token changes the state."""
        state = attrs.evolve(state, not_before=self.NOW + 1 if is_backing_off else self.NOW)
        after, (verdict, held) = state.rejects(token(), self.NOW)

        assert REJECTIONS[which, is_backing_off] is verdict
        assert (state.held if which in {Rejected.HELD, Rejected.UNPROVEN} else None) is held
        assert (verdict is Verdict.REPLACE) is (after is not state)
        assert (verdict in {Verdict.RESEND, Verdict.REPLACE, Verdict.RENEW}) is verdict.allows_resend

    def test_closed(self) -> None:
        """A closed provider replaces nothing."""
        state = holding(hold()).closed()

        assert (state, (Verdict.GIVE_UP, None)) == state.rejects(token(), self.NOW)
