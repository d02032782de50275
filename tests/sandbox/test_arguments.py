"""Validation of the arguments of a sandbox, its faults and its clock."""

from __future__ import annotations

from functools import partial
from math import inf, nan
from typing import TYPE_CHECKING, Any

import pytest

from simplestore_async.errors import ConfigurationError
from simplestore_async.sandbox import Drip, Late, MovableClock, RejectedToken, Reset, Response, Sandbox, Status
from tests.support.sandbox_client import ID

if TYPE_CHECKING:
    from collections.abc import Callable

REFUSED: list[tuple[Callable[..., object], str, list[Any]]] = [
    (lambda value: Sandbox(client_id=value), "client_id", [""]),
    (lambda value: Sandbox(client_secret=value), "client_secret", ["", lambda: "x"]),
    (lambda value: Sandbox(clients={"shop": value}), "client_secret", ["", None]),
    (lambda value: Sandbox(clients={value: "secret"}), "client_id", ["", ID]),
    (lambda value: Sandbox(clients=value), "clients", [["shop"]]),
    (lambda value: Sandbox().rotate_secret(ID, new_secret=value), "client_secret", [""]),
    (lambda value: Sandbox(port=value), "port", [-1, 65_536, "80"]),
    (lambda value: Sandbox(lifetime_seconds=value), "lifetime_seconds", [0, 1.5, True]),
    (lambda value: Sandbox(latency_seconds=value), "latency_seconds", [-1, nan, "1"]),
    (lambda value: setattr(Sandbox(), "lifetime_seconds", value), "lifetime_seconds", [-1]),
    (lambda value: setattr(Sandbox(), "latency_seconds", value), "latency_seconds", [-1]),
    (lambda value: Sandbox().fail_next(value), "requests", [0, 1.0]),
    (lambda value: Sandbox().fail_next(1, value), "fault", [Reset, 503, RejectedToken()]),
    (lambda value: Sandbox().fail_for(value), "seconds", [0, inf]),
    (lambda value: Sandbox().token_endpoint.fail_for(1, value), "fault", [Reset, 503, RejectedToken()]),
    (Sandbox().api.limit_rate, "requests", [0, 1.5]),
    (lambda value: Sandbox().api.limit_rate(1, seconds=value), "seconds", [0]),
    (lambda value: Sandbox().api.limit_rate(None, seconds=value), "seconds", [-1]),
    (lambda value: Sandbox().reject_next(value), "requests", [0]),
    (lambda value: Sandbox().revoke(value), "token_value", [object()]),
    (Sandbox().api.reject_with, "response", [401]),
    (lambda value: Sandbox().api.respond(value, Response()), "path", [1, "a?b=1"]),
    (lambda value: Sandbox().api.respond("a", value), "response", [200, Response, lambda request: request]),
    (lambda value: Sandbox().api.respond("a", Response(), method=value), "method", [1]),
    (Response, "status", [199, "200"]),
    (lambda value: Response(headers=value), "headers", [1, ["ab", "c"], {"X": 1}, {"X": "a\r\nb"}]),
    (lambda value: Response(body=value), "body", [{}]),
    (lambda value: Response(json=value), "json", [object()]),
    (lambda value: Response(json={}, body=value), "json", ["x"]),
    (Status, "status", [399, 600, True, "503"]),
    (lambda value: Status(503, retry_after=value), "retry_after", [-1, nan, "a\nb"]),
    (Drip, "seconds_per_byte", [0, "1"]),
    (Late, "seconds", [-1, inf, True]),
    (lambda value: MovableClock().advance(value), "seconds", [-1, nan, inf, True, "1", None]),
]


@pytest.mark.parametrize(
    ("call", "field", "value"), [(call, field, value) for call, field, values in REFUSED for value in values]
)
def test_wrong_argument(call: Callable[..., object], field: str, value: Any) -> None:
    """A wrong argument is refused by name."""
    with pytest.raises(ConfigurationError, match=f"^{field} "):
        call(value)


def test_unknown_client() -> None:
    """The error of an unknown client has a hint how to add it."""
    sandbox = Sandbox()
    rotate = partial(sandbox.rotate_secret, new_secret="x")
    for call in sandbox.credentials_of, rotate, sandbox.drop_old_secrets, sandbox.revoke_all:
        with pytest.raises(ConfigurationError, match=r"^client_id 'shop-9' is unknown; add it with add_client"):
            call("shop-9")
