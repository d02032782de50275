"""The public names, error codes and events that [Compatibility](../docs/versioning.md) covers."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING

from pages_from_code.names import find_public_names

from simplestore_async import errors, events

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
RECORD = Path(__file__).with_suffix(".txt")


def list_surface() -> Iterator[str]:
    """Yield a line for each public name, each error's code, and each event's fields."""
    yield from find_public_names().values()
    for name in errors.__all__:
        yield f"{name}.code = {getattr(errors, name).code}"
    for name, event in inspect.getmembers(events, inspect.isclass):
        if name in events.__all__:
            yield from (f"{name}.{field.name}" for field in getattr(event, "__attrs_attrs__", ()))


def test_surface_is_recorded() -> None:
    """The public surface is the recorded one; a change needs a line in CHANGELOG.md and the new list in the file."""
    assert RECORD.read_text("utf-8").splitlines() == sorted(list_surface())


def test_names_are_in_the_changelog() -> None:
    """Each public name is in the changelog, except events, which it covers as a module."""
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    names = {full.rpartition(".")[2] for full in find_public_names().values() if ".events." not in full}
    assert set() == {name for name in names if name not in changelog}
