"""The picture of a token's life. Rule: every instant comes from the policy, every text from the decision table.

Not to scale: half a minute would be invisible next to an hour. Time runs downward, so that the text fits on a phone.
The colours are in `site.css`.
"""

from __future__ import annotations

import textwrap
from html import escape
from typing import TYPE_CHECKING, Final

import attrs

from simplestore_async import AccessToken
from simplestore_async._core.state import DECISIONS, EndpointState, TokenState

if TYPE_CHECKING:
    from simplestore_async import RenewalPolicy

__all__ = ["Instants", "draw_life", "read_instants"]

_WIDTH: Final = 380
_LINE: Final = 18
_BAR: Final = 62
_WORDS: Final = 92
_LONGEST_LINE: Final = 38


@attrs.frozen(kw_only=True)
class Instants:
    """Instants of a token's states, in seconds after its request; a pair is the range of a random instant."""

    first_due: tuple[float, float]
    due: tuple[float, float]
    expiring: float
    expiry: float


def read_instants(policy: RenewalPolicy, *, life_seconds: float) -> Instants:
    """Return the instants of a token that lives *life_seconds*."""
    token = AccessToken("example", issued_at=0, expires_at=life_seconds)

    def due_at(*, is_first: bool, lot: float) -> float:
        return policy.hold(token, requested_at=0, is_first=is_first, is_unproven=False, random=lambda: lot).due_at

    held = policy.hold(token, requested_at=0, is_first=False, is_unproven=False, random=lambda: 0)
    return Instants(
        first_due=(due_at(is_first=True, lot=0), due_at(is_first=True, lot=1)),
        due=(due_at(is_first=False, lot=1), due_at(is_first=False, lot=0)),
        expiring=held.expiring_at,
        expiry=held.expires_at,
    )


def draw_life(policy: RenewalPolicy, *, life_seconds: float) -> str:
    """Return an inline SVG: the states from top to bottom, and the result for a caller in each."""
    instants = read_instants(policy, life_seconds=life_seconds)
    starts = {
        TokenState.FRESH: ["0:00 requested"],
        TokenState.DUE: [f"{_span(instants.due)} due", f"{_span(instants.first_due)} for a provider's first"],
        TokenState.EXPIRING: [f"{_clock(instants.expiring)} expiring"],
        TokenState.EXPIRED: [f"{_clock(instants.expiry)} expired"],
    }
    parts: list[str] = []
    middles: list[float] = []
    y = 16.0
    for state, labels in starts.items():
        words = textwrap.wrap(DECISIONS[state, EndpointState.IDLE].value, _LONGEST_LINE)
        parts += [f'<line class="tick" x1="{_BAR}" y1="{y:g}" x2="{_WIDTH}" y2="{y:g}"/>']
        top = y
        for label in labels:
            y += _LINE
            parts.append(f'<text class="instant" x="{_WORDS}" y="{y:g}">{escape(label)}</text>')
        y += 6
        for number, line in enumerate(words):
            y += _LINE
            name = f'<tspan class="name">{state.name.lower()}: </tspan>' if number == 0 else ""
            parts.append(f'<text x="{_WORDS}" y="{y:g}">{name}{escape(line)}</text>')
        y += 14
        parts.append(f'<rect class="{state.name.lower()}" x="{_BAR}" y="{top:g}" width="16" height="{y - top:g}"/>')
        middles.append((top + y) / 2)
    fresh, *later, expired = middles
    parts += _draw_arrow("renewal", x=36, starts=[*later, expired], end=fresh, label="renewed")
    parts += _draw_arrow("rejection", x=12, starts=[fresh, *later], end=expired, label="rejected by the API")
    return (
        f'<svg class="life" viewBox="0 0 {_WIDTH} {y + 4:g}" role="img" aria-labelledby="life-title">'
        f'<title id="life-title">The states of a token that lives {life_seconds / 60:g} minutes</title>'
        f"{''.join(parts)}</svg>"
    )


def _draw_arrow(name: str, *, x: float, starts: list[float], end: float, label: str) -> list[str]:
    """Return a line next to the bar, from several states to one; the two lines leave room for each other's ends."""
    shift = 6 if name == "renewal" else -6
    top, bottom = min(*starts, end) + shift, max(*starts, end) + shift
    edge = _BAR - 2
    turn = f"translate({x - 4:g} {(top + bottom) / 2:g}) rotate(-90)"
    return [
        f'<path class="{name}" d="M{x} {top:g}V{bottom:g}"/>',
        *(f'<path class="{name}" d="M{edge} {start + shift:g}H{x}"/>' for start in starts),
        f'<path class="{name}" d="M{x} {end + shift:g}H{edge}m-6 -4l6 4l-6 4"/>',
        f'<text class="{name} label" text-anchor="middle" transform="{turn}">{label}</text>',
    ]


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"


def _span(instants: tuple[float, float]) -> str:
    return " … ".join(map(_clock, instants))
