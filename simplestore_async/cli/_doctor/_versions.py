"""Installed versions. Rule: the package's own metadata has the floors."""

from __future__ import annotations

import asyncio
import platform
import re
import ssl
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Final

import attrs

from ._check import Result, failed, ok

__all__ = ["check_extras", "check_packages", "check_python"]

_PACKAGE: Final = "simplestore-async"
_EXTRAS: Final = "cli", "encryption", "opentelemetry", "redis"
_REQUIREMENT: Final = re.compile(r"(?P<name>[\w.-]+)(?:\[.*?\])? *\(?(?P<bounds>[^;)]*)\)?(?:;(?P<marker>.*))?")
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
    """Compare installed versions with those that the package needs."""
    needed = _requirements("")
    installed = {_PACKAGE: _find_version(_PACKAGE)}
    installed |= {each.name: each.installed for each in needed}
    return _judge([each for each in needed if not each.is_met], installed)


def check_extras() -> Result:
    """Compare installed versions of the extras, which may be missing."""
    known = [each for extra in _EXTRAS for each in _requirements(extra)]
    unmet = [each for each in known if each.installed and not each.is_met]
    return _judge(unmet, {each.name: each.installed for each in known})


@attrs.frozen
class _Requirement:
    name: str
    bounds: str
    installed: str | None

    @property
    def is_met(self) -> bool:
        if self.installed is None:
            return False
        has = _numbers(self.installed)
        return all(
            has >= _numbers(bound) if sign == ">=" else has < _numbers(bound)
            for sign, bound in _BOUND.findall(self.bounds)
        )


def _requirements(extra: str) -> list[_Requirement]:
    """Return the requirements of an extra, or of the package itself if that is empty."""
    found: list[_Requirement] = []
    for text in _read_requirements():
        match = _REQUIREMENT.fullmatch(text)
        marker = match and re.search(r"extra *== *['\"]([\w-]+)['\"]", match["marker"] or "")
        if match and (marker[1] if marker else "") == extra:
            found.append(_Requirement(match["name"], match["bounds"].strip(), _find_version(match["name"])))
    return found


def _read_requirements() -> list[str]:
    try:
        return requires(_PACKAGE) or []
    except PackageNotFoundError:  # copied without its metadata
        return []


def _find_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _numbers(text: str) -> tuple[int, ...]:
    match = re.match(r"\d+(\.\d+)*", text)
    numbers = [int(part) for part in match[0].split(".")] if match else []
    return (*numbers, *[0] * (4 - len(numbers)))


def _judge(unmet: list[_Requirement], installed: dict[str, str | None]) -> Result:
    shown = ", ".join(f"{name} {number or 'is not installed'}" for name, number in installed.items())
    if not unmet:
        return ok(shown, packages=installed)
    wanted = " ".join(f'"{each.name}{each.bounds}"' for each in unmet)
    return failed(shown, advice=f"pip install {wanted}", packages=installed)
