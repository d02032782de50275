"""`simplestore_async._core.validation`: what counts as a number."""

from __future__ import annotations

import sys
from decimal import Decimal
from math import inf, nan

import pytest

from simplestore_async._core.validation import is_number

LARGEST = sys.float_info.max


@pytest.mark.parametrize("value", [0, -1, 2.5, LARGEST, -LARGEST, int(LARGEST), -int(LARGEST)], ids=lambda v: f"{v:g}")
def test_number(value: object) -> None:
    """An int or float is a number up to the largest float itself, on both sides of zero."""
    assert is_number(value)


@pytest.mark.parametrize(
    "value",
    [True, False, None, "1", b"1", Decimal(1), 1j, nan, inf, -inf, 2**1024, -(2**1024)],
    ids=lambda value: str(value)[:10],
)
def test_no_number(value: object) -> None:
    """A bool is none, nor is another type, nor what no float can hold."""
    assert not is_number(value)
