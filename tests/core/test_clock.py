"""`simplestore_async._core.clock`: which of the machine's clocks decides."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from simplestore_async._core.clock import SYSTEM_CLOCK, SystemClock, default_clock, find_boot


@pytest.mark.parametrize(("platform", "reading"), [("linux", 70.5), ("darwin", 80.5)])
def test_monotonic_counts_suspended_time(monkeypatch: pytest.MonkeyPatch, platform: str, reading: float) -> None:
    """`monotonic()` reads the clock that counts suspended time on this platform."""
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(time, "CLOCK_BOOTTIME", 7, raising=False)
    monkeypatch.setattr(time, "CLOCK_MONOTONIC_RAW", 8, raising=False)
    monkeypatch.setattr(time, "clock_gettime", {7: 70.5, 8: 80.5}.get, raising=False)

    assert reading == SystemClock().monotonic()


def test_monotonic_without_such_a_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no clock of that name (Windows), `monotonic()` is `time.monotonic()`, which counts sleep there."""
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)
    monkeypatch.delattr(time, "CLOCK_MONOTONIC_RAW", raising=False)

    assert time.monotonic is SystemClock().monotonic


def test_system_clock() -> None:
    """By default parts use the machine's clock, which advances; `time()` is POSIX seconds."""
    first = SYSTEM_CLOCK.monotonic()

    assert SYSTEM_CLOCK is default_clock()
    assert time.time is SYSTEM_CLOCK.time
    assert 0 <= SYSTEM_CLOCK.monotonic() - first < 60


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_boot() -> None:
    """The boot's identity is the kernel's, with that of the clock's namespace, in every process."""
    boot = find_boot()
    assert boot is not None
    assert boot.startswith(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    program = "from simplestore_async._core.clock import find_boot; print(find_boot())"
    assert (
        boot
        == subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.strip()
    )


@pytest.mark.parametrize("text", [None, "", "not a boot", "\u00e9"])
def test_boot_is_unknown(monkeypatch: pytest.MonkeyPatch, text: str | None) -> None:
    """Without a readable identity of the kernel's there is none."""

    def read_text(*_: object) -> str:
        if text is None:
            raise FileNotFoundError
        return text

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(Path, "read_text", read_text)
    assert find_boot.__wrapped__() is None


def test_boot_without_namespaces(monkeypatch: pytest.MonkeyPatch) -> None:
    """An older kernel, which has no namespaces of clocks, has the boot's identity alone."""

    def readlink(_: Path) -> Path:
        raise FileNotFoundError

    uuid = "00000000-0000-4000-8000-000000000000"
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(Path, "read_text", lambda *_: f"{uuid}\n")
    monkeypatch.setattr(Path, "readlink", readlink)
    assert uuid == find_boot.__wrapped__()


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_boot_elsewhere(monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    """Where the platform's way to identify a boot fails, there is no identity, and no error."""

    def read_text(*_: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", read_text)
    monkeypatch.setattr(sys, "platform", platform)
    assert find_boot.__wrapped__() is None
