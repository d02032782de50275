"""`SystemClock` and the identity of the boot."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from simplestore_async._core.clock import SYSTEM_CLOCK, SystemClock, default_clock, find_boot
from tests.support.platforms import needs_proc


@pytest.mark.parametrize(("platform", "reading"), [("linux", 70.5), ("darwin", 80.5)])
def test_monotonic_counts_suspended_time(monkeypatch: pytest.MonkeyPatch, platform: str, reading: float) -> None:
    """`monotonic()` reads the platform's clock that includes suspended time."""
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(time, "CLOCK_BOOTTIME", 7, raising=False)
    monkeypatch.setattr(time, "CLOCK_MONOTONIC_RAW", 8, raising=False)
    monkeypatch.setattr(time, "clock_gettime", {7: 70.5, 8: 80.5}.get, raising=False)

    assert reading == SystemClock().monotonic()


def test_monotonic_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows `monotonic()` is `time.monotonic()`, which includes suspended time there."""
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)
    monkeypatch.delattr(time, "CLOCK_MONOTONIC_RAW", raising=False)

    assert time.monotonic is SystemClock().monotonic


def test_system_clock() -> None:
    """The default clock is the system clock: it advances, and `time()` is `time.time()`."""
    first = SYSTEM_CLOCK.monotonic()

    assert SYSTEM_CLOCK is default_clock()
    assert time.time is SYSTEM_CLOCK.time
    assert 0 <= SYSTEM_CLOCK.monotonic() - first < 60


@needs_proc
def test_boot() -> None:
    """The boot's identity starts with the kernel's boot id."""
    assert (find_boot() or "").startswith(Path("/proc/sys/kernel/random/boot_id").read_text().strip())


@pytest.mark.parametrize(
    ("platform", "text"),
    [*(("linux", text) for text in (None, "", "not a boot", "\u00e9")), ("darwin", None), ("win32", None)],
)
def test_boot_is_unknown(monkeypatch: pytest.MonkeyPatch, platform: str, text: str | None) -> None:
    """If the kernel's boot id is missing or malformed, or the platform has none, the boot is unknown."""

    def read_text(*_: object) -> str:
        if text is None:
            raise FileNotFoundError
        return text

    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(Path, "read_text", read_text)
    assert find_boot.__wrapped__() is None


def test_boot_without_namespaces(monkeypatch: pytest.MonkeyPatch) -> None:
    """On kernels without time namespaces the identity is the boot id alone."""

    def readlink(_: Path) -> Path:
        raise FileNotFoundError

    uuid = "00000000-0000-4000-8000-000000000000"
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(Path, "read_text", lambda *_: f"{uuid}\n")
    monkeypatch.setattr(Path, "readlink", readlink)
    assert uuid == find_boot.__wrapped__()
