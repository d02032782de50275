"""The decision and rejection tables, and the policy's numbers, read from the code."""

from __future__ import annotations

from simplestore_async._core import policy
from simplestore_async._core.state import DECISIONS, REJECTIONS, EndpointState, Rejected, TokenState

__all__ = ["list_decisions", "list_rejections", "number_of"]


def list_decisions() -> str:
    """Return the decision table in Markdown: a row for each state of the token, a column for each of the endpoint."""
    head = ["the token is …", *(f"the endpoint {endpoint.value}" for endpoint in EndpointState)]
    rows = [
        [f"**{token.name.lower()}** ({token.value})", *(DECISIONS[token, endpoint].value for endpoint in EndpointState)]
        for token in TokenState
    ]
    return _table(head, rows)


def list_rejections() -> str:
    """Return the rejection table in Markdown: a row for each kind of rejected token."""
    head = ["the API rejected …", "the endpoint is not in backoff", "the endpoint is in backoff"]
    rows = [
        [which.value, *(REJECTIONS[which, is_backing_off].value for is_backing_off in (False, True))]
        for which in Rejected
    ]
    return _table(head, rows)


def number_of(field: str) -> str:
    """Return a number as text: a field of a default policy, or a constant in lower case.

    Raises:
        AttributeError: if there is no such number.
    """
    for numbers in (policy.DEFAULT_RENEWAL_POLICY, policy.DEFAULT_RETRY_POLICY):
        if hasattr(numbers, field):
            return f"{getattr(numbers, field):g}"
    return f"{getattr(policy, field.upper()):g}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *rows])
