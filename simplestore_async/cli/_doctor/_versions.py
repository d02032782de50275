"""Installed versions. Rule: the bounds come from the package's own metadata."""

from __future__ import annotations

import asyncio
import functools
import platform
import re
import ssl
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Final

from ._check import Result, failed, ok

__all__ = ["check_extras", "check_packages", "check_python"]

_PACKAGE: Final = "simplestore-async"
_EXTRAS: Final = "cli", "encryption", "opentelemetry", "redis"
_REQUIREMENT: Final = re.compile(r"(?P<name>[\w.-]+)(?:\[.*?\])? *\(?(?P<bounds>[^;)]*)\)?(?:;(?P<marker>.*))?")
_EXTRA: Final = re.compile(r"extra *== *['\"]([\w-]+)['\"]")
_BOUND: Final = re.compile(r"(>=|<) *([\d.]+)")


async def check_python() -> Result:
    loop = type(asyncio.get_running_loop())
    facts = {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "openssl": ssl.OPENSSL_VERSION,
        "platform": platform.platform(),
        "event_loop": f"{loop.__module__}.{loop.__qualname__}",
    }
    return ok(
        f"{facts['implementation']} {facts['python']} on {platform.system()} {platform.machine()}, "
        f"{' '.join(ssl.OPENSSL_VERSION.split()[:2])}, {loop.__name__}",
        **facts,
    )


def check_packages() -> Result:
    """Compare installed versions with the package's requirements."""
    needed = _find_bounds("")
    installed = {name: _find_version(name) for name in (_PACKAGE, *needed)}
    return _judge(needed, installed)


def check_extras() -> Result:
    """Compare installed versions with the requirements of the extras, which may be missing."""
    known = {name: bounds for extra in _EXTRAS for name, bounds in _find_bounds(extra).items()}
    installed = {name: _find_version(name) for name in known}
    return _judge({name: bounds for name, bounds in known.items() if installed[name]}, installed)


def _judge(needed: dict[str, str], installed: dict[str, str | None]) -> Result:
    shown = ", ".join(f"{name} {number or 'is not installed'}" for name, number in installed.items())
    unmet = [f'"{name}{bounds}"' for name, bounds in needed.items() if not _is_within(installed[name], bounds)]
    if unmet:
        return failed(shown, advice=f"pip install {' '.join(unmet)}", packages=installed)
    return ok(shown, packages=installed)


def _find_bounds(extra: str) -> dict[str, str]:
    """Return the requirements of an extra, or of the package itself if that is empty, each with its bounds."""
    found: dict[str, str] = {}
    for match in filter(None, map(_REQUIREMENT.fullmatch, _requirements())):
        marker = _EXTRA.search(match["marker"] or "")
        if (marker[1] if marker else "") == extra:
            found[match["name"]] = match["bounds"].strip()
    return found


@functools.cache
def _requirements() -> list[str]:
    try:
        return requires(_PACKAGE) or []
    except PackageNotFoundError:  # copied without its metadata
        return []


def _find_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _is_within(number: str | None, bounds: str) -> bool:
    has = _numbers(number or "")
    return number is not None and all(
        has >= _numbers(bound) if sign == ">=" else has < _numbers(bound) for sign, bound in _BOUND.findall(bounds)
    )


def _numbers(text: str) -> tuple[int, ...]:
    match = re.match(r"\d+(\.\d+)*", text)
    numbers = [int(part) for part in match[0].split(".")] if match else []
    return (*numbers, *[0] * (4 - len(numbers)))
