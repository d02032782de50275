"""The decision table and the rejection table of `ProviderState`."""

from __future__ import annotations

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

READINGS = {
    TokenState.FRESH: nextafter(3_880.0, 0),
    TokenState.DUE: 3_880.0,
    TokenState.EXPIRING: 4_570.0,
    TokenState.EXPIRED: 4_600.0,
}
"""The last moment of a fresh token, and the first one of each other state."""


class TestDecision:
    def test_table(self) -> None:
        """The table has the documented decision for each state of the token and the endpoint."""
        expected = {  # endpoint idle, renewing, backing off
            TokenState.FRESH: (Action.SERVE, Action.SERVE, Action.SERVE),
            TokenState.DUE: (Action.SERVE_AND_RENEW, Action.SERVE, Action.SERVE),
            TokenState.EXPIRING: (Action.WAIT_BRIEFLY, Action.WAIT_BRIEFLY, Action.SERVE),
            TokenState.EXPIRED: (Action.WAIT, Action.WAIT, Action.FAIL),
        }
        assert DECISIONS == {
            (token_state, endpoint): action
            for token_state, actions in expected.items()
            for endpoint, action in zip(EndpointState, actions, strict=True)
        }

    @pytest.mark.parametrize(("token_state", "endpoint"), DECISIONS)
    def test_entry(self, token_state: TokenState, endpoint: EndpointState) -> None:
        """The decision is the table's entry, with its token, fallback and wait, or error.

        A renewal in flight takes precedence over a backoff, which may come from another loop.
        """
        now, held, expected = READINGS[token_state], hold(), DECISIONS[token_state, endpoint]
        is_renewing = endpoint is EndpointState.RENEWING
        state = holding(held, not_before=now if endpoint is EndpointState.IDLE else now + 1, error=PASSING)
        decision = state.decide(now, is_renewing=is_renewing)

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
        """A closed provider fails every call with ProviderClosedError."""
        decision = holding(hold()).closed().decide(SENT, is_renewing=is_renewing)

        assert isinstance(decision, Fail)
        assert isinstance(decision.error, ProviderClosedError)


class TestRejectionTable:
    NOW = SENT + 1

    def test_table(self) -> None:
        """The table has the documented verdict for each kind of rejected token, with and without a backoff."""
        expected = {
            Rejected.OTHER: (Verdict.RESEND, Verdict.RESEND),
            Rejected.HELD: (Verdict.REPLACE, Verdict.KEEP),
            Rejected.UNPROVEN: (Verdict.KEEP, Verdict.KEEP),
            Rejected.NONE: (Verdict.RENEW, Verdict.GIVE_UP),
        }
        assert REJECTIONS == {
            (which, is_backing_off): verdicts[is_backing_off]
            for which, verdicts in expected.items()
            for is_backing_off in (False, True)
        }

    @pytest.mark.parametrize(
        ("state", "which"),
        [
            pytest.param(ProviderState(), Rejected.NONE, id="none held"),
            pytest.param(holding(hold("newer")), Rejected.OTHER, id="another held"),
            pytest.param(holding(hold("newer", life=1.0)), Rejected.NONE, id="another expired"),
            pytest.param(holding(hold()), Rejected.HELD, id="held"),
            pytest.param(holding(hold(life=1.0)), Rejected.HELD, id="expired while held"),
            pytest.param(holding(hold(is_unproven=True)), Rejected.UNPROVEN, id="young replacement"),
            pytest.param(holding(hold(sent=SENT - 4, is_unproven=True)), Rejected.HELD, id="old replacement"),
        ],
    )
    @pytest.mark.parametrize("is_backing_off", [False, True])
    def test_entry(self, state: ProviderState, which: Rejected, is_backing_off: bool) -> None:
        """The verdict is the table's entry, and only REPLACE changes the state."""
        state = attrs.evolve(state, not_before=self.NOW + 1 if is_backing_off else self.NOW)
        after, (verdict, held) = state.rejects(token(), self.NOW)

        assert REJECTIONS[which, is_backing_off] is verdict
        assert (state.held if which in {Rejected.HELD, Rejected.UNPROVEN} else None) is held
        assert (verdict is Verdict.REPLACE) is (after is not state)
        assert (verdict in {Verdict.RESEND, Verdict.REPLACE, Verdict.RENEW}) is verdict.allows_resend

    def test_closed(self) -> None:
        """A closed provider gives up on every rejection."""
        state = holding(hold()).closed()

        assert (state, (Verdict.GIVE_UP, None)) == state.rejects(token(), self.NOW)
