"""The package's public names. Rule: names are found, not listed, so that no module can be forgotten."""

from __future__ import annotations

import importlib
from pkgutil import walk_packages
from typing import TYPE_CHECKING, Final

import simplestore_async

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["PACKAGE", "find_public_names", "list_modules"]

PACKAGE: Final = simplestore_async.__name__


def list_modules() -> list[ModuleType]:
    """Return the package and its public modules, without the command's."""
    found = {module.name for module in walk_packages(simplestore_async.__path__, f"{PACKAGE}.")}
    names = {name for name in found if "._" not in name} - {f"{PACKAGE}.cli"}
    return [simplestore_async, *(importlib.import_module(name) for name in sorted(names))]


def find_public_names() -> dict[str, str]:
    """Return the full name of each public name except modules; the root's names come from the root."""
    modules = list_modules()
    found: dict[str, str] = {}
    for module in modules:
        for name in module.__all__:
            if getattr(module, name) not in modules:
                found.setdefault(name, f"{module.__name__}.{name}")
    return found
