"""The house of `simplestore_async`: which module may import what, read from the sources."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest

import simplestore_async

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = "simplestore_async"
ROOT = Path(simplestore_async.__file__).parent

# By the first part of a module's name below the package; "" is the package itself, which re-exports floors 0 to 4.
FLOORS = {
    "cli": 6,
    "_pytest_plugin": 6,
    "testing": 6,
    "sandbox": 5,
    "batch": 5,
    "": 4,
    "opentelemetry": 4,
    "_session": 4,
    "_middleware": 4,
    "_provider": 3,
    "_renewer": 3,
    "_holdings": 3,
    "_endpoint": 2,
    "caches": 2,
    "_wire": 1,
    "_single_flight": 1,
    "_renewal": 1,
    "_credentials": 0,
    "_token": 0,
    "_redaction": 0,
    "_secret_text": 0,
    "_origin": 0,
    "_target": 0,
    "_headers": 0,
    "_arguments": 0,
    "_clock": 0,
    "_numbers": 0,
    "errors": 0,
    "events": 0,
}


@attrs.frozen
class Import:
    """What one import statement names, and whether only a type checker follows it."""

    module: str
    is_for_types: bool

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]


def name_of(path: Path) -> str:
    """Return a module's name below the package, with dots; packages go by their own name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


PATHS = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in PATHS.items()}
PACKAGES = [name for name, path in PATHS.items() if path.name == "__init__.py"]


def full_name(name: str) -> str:
    return f"{PACKAGE}.{name}" if name else PACKAGE


def targets(module: str, node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """Yield the full names of the modules that one statement in *module* imports."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    base = node.module or ""
    if node.level:
        here = full_name(module).split(".")
        up = node.level - (module in PACKAGES)
        base = ".".join([*here[: len(here) - up], *([base] if base else [])])
    for alias in node.names:
        submodule = f"{base}.{alias.name}"
        yield submodule if submodule.removeprefix(f"{PACKAGE}.") in TREES else base


def find_imports(module: str) -> list[Import]:
    found: list[Import] = []

    def visit(node: ast.AST, *, is_for_types: bool) -> None:
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.extend(Import(target, is_for_types) for target in targets(module, node))
        is_guard = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in ast.iter_child_nodes(node):
            visit(child, is_for_types=is_for_types or is_guard)

    visit(TREES[module], is_for_types=False)
    return found


IMPORTS = {name: find_imports(name) for name in TREES}
# Imports inside the package, as names below it.
INNER = {
    name: {each.module.removeprefix(PACKAGE).removeprefix(".") for each in imports if each.top == PACKAGE}
    for name, imports in IMPORTS.items()
}


def floor_of(name: str) -> int:
    return FLOORS[name.partition(".")[0]]


def users_of(library: str) -> set[str]:
    """Return the modules below the sandbox's floor, and the batch's, that import *library* at run time."""
    return {
        name
        for name, imports in IMPORTS.items()
        if (floor_of(name) < FLOORS["sandbox"] or name.partition(".")[0] == "batch")
        and any(each.top == library and not each.is_for_types for each in imports)
    }


def test_the_sources_were_found() -> None:
    """The reading of imports works: it finds some of every kind that is known to be there."""
    assert {"", "caches", "caches._file", "_wire"} <= PATHS.keys()
    assert {"caches", "_token"} <= INNER[""]
    assert {"caches._format", "_token", "errors"} <= INNER["caches._file"]
    assert Import("cattrs", is_for_types=True) in IMPORTS["_wire"]
    assert Import("cattrs", is_for_types=False) in IMPORTS["_wire"]
    assert Import(f"{PACKAGE}._clock", is_for_types=True) in IMPORTS["caches._memory"]


def test_every_module_has_a_floor() -> None:
    """The table of floors names what there is, and nothing else."""
    assert {name.partition(".")[0] for name in PATHS} == FLOORS.keys()


def test_imports_go_downward() -> None:
    """A module imports from its own floor and those below, be it at run time, in a function or for types."""
    upward = [(name, each) for name, imported in INNER.items() for each in imported if floor_of(each) > floor_of(name)]
    assert [] == upward


def test_there_are_no_cycles() -> None:
    """No module imports itself, by whatever way round: `CycleError` would name it."""
    assert set(PATHS) == set(TopologicalSorter(INNER).static_order())


def test_every_module_says_its_rule() -> None:
    """A module's first line names the rule that it obeys; a package may leave that to its modules."""
    first_lines = {name: (ast.get_docstring(tree) or "").partition("\n")[0] for name, tree in TREES.items()}
    assert [] == [name for name, line in first_lines.items() if name not in PACKAGES and "Rule: " not in line]


def re_exports(statements: list[ast.stmt]) -> dict[str, str]:
    """Return the names that these statements import from below the package, each with its module."""
    imports = [each for each in statements if isinstance(each, ast.ImportFrom) and each.level]
    assert {1} == {each.level for each in imports}
    return {alias.name: each.module or "" for each in imports for alias in each.names}


def names_in_all(statement: ast.stmt) -> list[str]:
    assert isinstance(statement, ast.Assign)
    assert "__all__" == ast.unparse(statement.targets[0])
    return list(ast.literal_eval(statement.value))


# The command's has code: it must work, and say so, without the libraries of its extra.
@pytest.mark.parametrize("name", sorted({*PACKAGES} - {"", "cli"}))
def test_packages_only_re_export(name: str) -> None:
    """A package's own file holds imports from below itself and `__all__`, which names just those."""
    docstring, *statements, last = TREES[name].body
    assert isinstance(docstring, ast.Expr)
    assert all(isinstance(each, ast.ImportFrom) for each in statements)
    assert sorted(re_exports(statements)) == sorted(names_in_all(last))


def test_the_root_re_exports_later() -> None:
    """The root imports nothing but for type checkers; its table leads to the same names, and so does `dir()`."""
    guard, names = (each for each in TREES[""].body[4:6])
    assert isinstance(guard, ast.If)
    exports = re_exports(guard.body)
    assert sorted(exports) == names_in_all(names)
    assert {name: home for name, home in exports.items() if home} == simplestore_async._HOMES
    assert set(exports) <= set(dir(simplestore_async))
    for name, home in exports.items():
        module = importlib.import_module(f"{PACKAGE}.{home or name}")
        assert getattr(simplestore_async, name) is (getattr(module, name) if home else module)
    with pytest.raises(AttributeError, match="module 'simplestore_async' has no attribute 'event'"):
        simplestore_async.event  # type: ignore[attr-defined]  # noqa: B018 - the lookup is what is tested


@pytest.mark.parametrize(
    ("library", "modules"),
    [
        ("aiohttp", {"_endpoint", "_middleware", "_session", "batch._attempts", "batch._sender", "batch._sending"}),
        ("cattrs", {"_wire"}),
        ("tenacity", {"_endpoint"}),
        ("platformdirs", {"caches._file"}),
        ("filelock", {"caches._file", "batch._lock"}),
        ("sqlite3", {"batch._file"}),
        ("msgspec", {"batch._json"}),
        ("cryptography", {"caches.encryption"}),
        ("click", set()),
        ("rich", set()),
        ("opentelemetry", {"opentelemetry"}),
        ("redis", {"caches._redis_client", "caches._redis_entry", "caches._redis_lock"}),
    ],
)
def test_who_uses_a_library(library: str, modules: set[str]) -> None:
    """A library has its place: in the core only these modules import it."""
    assert modules == users_of(library)


@pytest.mark.parametrize("extra", ["opentelemetry", "caches.redis"])
def test_nothing_imports_what_needs_an_extra(extra: str) -> None:
    """An extra may be missing: only those who import its module for themselves need it."""
    assert [] == [name for name, imported in INNER.items() if extra in imported]


def test_redis_is_for_its_cache_only() -> None:
    """What needs redis-py is imported by the cache that does, and by what is its own."""
    users = {name for name, imported in INNER.items() if any(each.startswith("caches._redis") for each in imported)}
    assert {"caches.redis"} == {name for name in users if not name.startswith("caches._redis")}


def test_only_the_command_imports_the_encryption() -> None:
    """The extra `encryption` may be missing: of the package only the command asks for it, if the environment does."""
    assert ["cli._folder"] == [name for name, imported in INNER.items() if "caches.encryption" in imported]


def test_only_the_endpoint_opens_a_session_of_its_own() -> None:
    """Among the modules up to the provider only the token endpoint knows HTTP."""
    assert ["_endpoint"] == [name for name in users_of("aiohttp") if floor_of(name) <= FLOORS["_provider"]]


@pytest.mark.parametrize(
    "name", ["_renewal", "_wire", "caches._format", "batch._json", "batch._lines", "batch._pace", "batch._records"]
)
def test_what_is_pure_stays_pure(name: str) -> None:
    """Decisions, the wire and stored forms import nothing that reads a clock, draws lots, waits or does I/O."""
    impure = {"aiohttp", "asyncio", "logging", "os", "pathlib", "random", "secrets", "socket", "threading", "time"}
    assert set() == impure & {each.top for each in IMPORTS[name]}


def test_the_batch_knows_no_sandbox() -> None:
    """They share a floor, and one is for production, the other for tests."""
    tops = {
        imported.partition(".")[0] for name in TREES if name.partition(".")[0] == "batch" for imported in INNER[name]
    }
    assert not {"sandbox", "testing"} & tops


def test_single_flight_knows_nothing_of_tokens() -> None:
    """`_single_flight` imports nothing of the package."""
    assert set() == INNER["_single_flight"]


def test_the_doctor_s_checks_know_no_display() -> None:
    """What `simplestore doctor` looks at is in modules that import neither its order, its course, nor its looks."""
    course = {f"cli._doctor.{name}" for name in ("_command", "_plan", "_report", "_runner")}
    checks = {name for name in TREES if name.startswith("cli._doctor.")} - course
    assert {"cli._doctor._host", "cli._doctor._secret"} <= checks
    for name in checks:
        assert set() == INNER[name] & {*course, "cli._console"}
        assert set() == {"click", "rich"} & {each.top for each in IMPORTS[name]}


def modules_loaded_by(statement: str) -> set[str]:
    script = f"import sys; before = set(sys.modules); {statement}; print(*sorted(set(sys.modules) - before))"
    command = [sys.executable, "-P", "-c", script]
    listing = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(listing.stdout.split())


def test_the_import_is_light() -> None:
    """Importing the package, or its errors, loads nothing but that."""
    for statement, expected in (
        (f"import {PACKAGE}", {PACKAGE}),
        (f"from {PACKAGE}.errors import TokenError", {PACKAGE, f"{PACKAGE}.errors"}),
    ):
        loaded = modules_loaded_by(statement)
        assert expected == {name for name in loaded if name.partition(".")[0] == PACKAGE}
        assert set() == {"aiohttp", "asyncio", "attr", "attrs", "logging"} & loaded


def test_what_is_rarely_needed_comes_late() -> None:
    """A provider loads nothing that only a renewal, a file or the command needs; `open_session` loads no provider."""
    opener = modules_loaded_by(f"from {PACKAGE} import open_session")
    loaded = modules_loaded_by(f"from {PACKAGE} import open_session, TokenProvider, FileTokenCache")
    assert {f"{PACKAGE}._endpoint", f"{PACKAGE}._provider"} <= loaded - opener
    late = {"cattrs", "tenacity", "platformdirs", "filelock", "click", "rich", "cryptography", "importlib.metadata"}
    late |= {"opentelemetry", "redis", "msgspec", "concurrent.futures.thread", "html.entities", "secrets"}
    late |= {
        f"{PACKAGE}.{name}"
        for name in (
            "cli",
            "batch",
            "sandbox",
            "opentelemetry",
            "events",
            "_renewer",
            "_wire",
            "caches._guarded",
            "caches.encryption",
        )
    }
    assert set() == late & loaded
