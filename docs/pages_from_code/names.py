"""The package's public names. Rule: what is public is found, not listed: a new module cannot be forgotten."""

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
    """Return the package and its public modules; the command is used by its own name, not by Python's."""
    found = {module.name for module in walk_packages(simplestore_async.__path__, f"{PACKAGE}.")}
    names = {name for name in found if "._" not in name} - {f"{PACKAGE}.cli"}
    return [simplestore_async, *(importlib.import_module(name) for name in sorted(names))]


def find_public_names() -> dict[str, str]:
    """Return the full name of everything public that is no module; what the root has goes by the root's name."""
    modules = list_modules()
    found: dict[str, str] = {}
    for module in modules:
        for name in module.__all__:
            if getattr(module, name) not in modules:
                found.setdefault(name, f"{module.__name__}.{name}")
    return found
