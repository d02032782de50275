"""Public names, and the modules that an import loads; import-linter checks the layers (pyproject.toml)."""

from __future__ import annotations

import importlib
import pickle
import subprocess
import sys
from importlib.metadata import version

import pytest

import simplestore_async

PACKAGE = "simplestore_async"


@pytest.mark.parametrize("name", simplestore_async.__all__)
def test_public_names(name: str) -> None:
    """Each name of `__all__` can be imported and is listed by `dir()`."""
    home = simplestore_async._HOMES.get(name)
    expected = (
        getattr(importlib.import_module(f"{PACKAGE}.{home}"), name)
        if home
        else importlib.import_module(f"{PACKAGE}.{name}")
    )
    assert expected is getattr(simplestore_async, name)
    assert name in dir(simplestore_async)


@pytest.mark.parametrize("name", sorted(simplestore_async._HOMES))
def test_qualified_names(name: str) -> None:
    """A public class or function is shown and pickled as `simplestore_async.Name`."""
    value = getattr(simplestore_async, name)
    assert f"{PACKAGE}.{name}" == f"{value.__module__}.{value.__qualname__}"
    assert value is pickle.loads(pickle.dumps(value))


def test_version() -> None:
    """`__version__` is the version of the distribution."""
    assert version("simplestore-async") == simplestore_async.__version__


def test_misspelt_name() -> None:
    """A misspelt name raises an AttributeError, as in any module."""
    with pytest.raises(AttributeError, match="module 'simplestore_async' has no attribute 'event'"):
        simplestore_async.event  # type: ignore[attr-defined]  # noqa: B018 - the access is the test


@pytest.mark.parametrize(
    ("module", "missing", "package", "extra"),
    [
        ("opentelemetry", "opentelemetry", "opentelemetry-api", "opentelemetry"),
        ("caches.encryption", "cryptography.fernet", "cryptography", "encryption"),
        ("caches.redis", "redis", "redis", "redis"),
    ],
)
def test_missing_package(monkeypatch: pytest.MonkeyPatch, module: str, missing: str, package: str, extra: str) -> None:
    """If a third-party package is missing, the import error names the extra that installs it."""
    parent, _, name = f"{PACKAGE}.{module}".rpartition(".")
    for loaded in list(sys.modules):
        if loaded.startswith((f"{parent}.{name}", f"{parent}._{name}")):
            monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, missing, None)

    with pytest.raises(ImportError) as caught:
        importlib.import_module(f"{PACKAGE}.{module}")

    assert f'{PACKAGE}.{module} needs {package}: pip install "simplestore-async[{extra}]"' == str(caught.value)


def modules_loaded_by(statement: str) -> set[str]:
    script = f"import sys; before = set(sys.modules); {statement}; print(*sorted(set(sys.modules) - before))"
    command = [sys.executable, "-P", "-c", script]
    listing = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(listing.stdout.split())


def test_light_import() -> None:
    """Importing the package or its errors loads no other module of it, and neither aiohttp nor asyncio."""
    for statement, expected in (
        (f"import {PACKAGE}", {PACKAGE}),
        (f"from {PACKAGE}.errors import TokenError", {PACKAGE, f"{PACKAGE}.errors"}),
    ):
        loaded = modules_loaded_by(statement)
        assert expected == {name for name in loaded if name.partition(".")[0] == PACKAGE}
        assert set() == {"aiohttp", "asyncio", "attr", "attrs", "logging"} & loaded


def test_late_imports() -> None:
    """`open_session` loads no provider, and a provider loads no module that is rarely needed."""
    opener = modules_loaded_by(f"from {PACKAGE} import open_session")
    loaded = modules_loaded_by(f"from {PACKAGE} import open_session, TokenProvider, FileTokenCache")
    assert {f"{PACKAGE}._core.endpoint", f"{PACKAGE}._core.provider"} <= loaded - opener
    late = {"cattrs", "platformdirs", "filelock", "click", "rich", "cryptography", "importlib.metadata"}
    late |= {"opentelemetry", "redis", "msgspec", "concurrent.futures.thread", "html.entities", "secrets"}
    late |= {
        f"{PACKAGE}.{name}" for name in ("cli", "batch", "sandbox", "opentelemetry", "events", "caches.encryption")
    }
    late |= {f"{PACKAGE}._core.{name}" for name in ("renewal", "wire", "challenge", "guarded_cache")}
    assert set() == late & loaded
