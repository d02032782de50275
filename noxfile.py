"""Development tasks; `nox --list` shows them.

All but `tests` and `package` run in the environment that nox itself is installed in, which is README's.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path
from typing import Final

import nox

ROOT: Final = Path(__file__).parent
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PYTHONS: Final = ["3.11", "3.12", "3.13", "3.14", "3.15"]
# What the tests read, but not the package: they import the one that was built and installed.
SUITE: Final = [
    *("tests", "benchmarks", "docs", "examples", "pyproject.toml", "LICENSE"),
    *(path.name for path in ROOT.glob("*.md")),
]

nox.options.default_venv_backend = "none"
nox.options.sessions = ["fast"]
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
os.environ.setdefault("PYRIGHT_PYTHON_IGNORE_WARNINGS", "1")


@nox.session
def fast(session: nox.Session) -> None:
    """Format, lint, check types, and run the tests of the changed modules."""
    session.run("ruff", "format")
    session.run("ruff", "check", "--fix")
    session.run("lint-imports", silent=True)
    session.run("mypy")
    if selected := _tests_of_changes():
        session.run("pytest", "-q", "-n", "auto", *selected)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, formatting, spelling and the layers of imports."""
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("codespell")
    session.run("lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """Check types with mypy and pyright, and that every public name is typed."""
    session.run("mypy")
    session.run("pyright", "--pythonpath", sys.executable)
    with session.chdir(session.create_tmp()):  # away from the sources, so that pyright finds the installed package
        session.run("pyright", "--ignoreexternal", "--verifytypes", "simplestore_async")


@nox.session(python=PYTHONS, venv_backend="venv")
def tests(session: nox.Session) -> None:
    """Run the tests on the built wheel; on the oldest Python with the oldest dependencies allowed."""
    work = Path(session.create_tmp()).resolve()
    session.env.pop("TMPDIR", None)  # the path of a socket must be short
    shutil.rmtree(work)
    session.run("pip", "wheel", "-qq", "--no-deps", "--wheel-dir", str(work), ".")
    (wheel,) = work.glob("*.whl")
    constraints = work / "constraints.txt"
    constraints.write_text("\n".join(_oldest_dependencies() if session.python == PYTHONS[0] else []), encoding="utf-8")
    # Without a compiler.
    session.install("-qq", "--only-binary=:all:", "--constraint", str(constraints), f"{wheel}[dev]")
    # Away from the sources, so that what is imported is what was installed.
    for name in SUITE:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, work / name)
    with session.chdir(work):
        session.run("pytest", *(session.posargs or ["-n", "auto"]))


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation; any warning is an error. Needs the extra `docs`."""
    session.run("sphinx-build", "-W", "-n", "--keep-going", "-q", "docs", "docs/_build")


@nox.session
def bench(session: nox.Session) -> None:
    """Run the benchmarks. Needs the extra `bench`."""
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session
def mutation(session: nox.Session) -> None:
    """List changes of the code that no test notices. Needs the dependency group `mutation`."""
    session.run("mutmut", "run", *session.posargs)
    session.run("mutmut", "results")


@nox.session(venv_backend="venv")
def package(session: nox.Session) -> None:
    """Build the distributions twice, compare them, and check contents and metadata."""
    session.install("-qq", *PROJECT["dependency-groups"]["package"])
    session.run("validate-pyproject", "pyproject.toml")
    work = Path(session.create_tmp()).resolve()
    shutil.rmtree(work)
    for name in ("first", "second"):
        session.run("python", "-m", "build", "--outdir", str(work / name), silent=True)
    distributions = sorted((work / "first").iterdir())
    for each in distributions:
        if each.read_bytes() != (work / "second" / each.name).read_bytes():
            session.error(f"{each.name}: two builds differ")
    session.run("twine", "check", "--strict", *map(str, distributions))
    session.run("check-wheel-contents", *(str(each) for each in distributions if each.suffix == ".whl"))
    _check_source_distribution(session, *(each for each in distributions if each.suffix == ".gz"))


def _check_source_distribution(session: nox.Session, path: Path) -> None:
    """Fail unless it holds the tracked files of the included paths, and what the builder adds."""
    with tarfile.open(path) as archive:
        held = {each.name.partition("/")[2] for each in archive if each.isfile()}
    included = tuple(each[1:] for each in PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"])
    expected = {each for each in _files_of_git() if each.startswith(included)} | {
        "pyproject.toml",
        "PKG-INFO",
        ".gitignore",
    }
    if difference := held ^ expected:
        session.error(f"{path.name}: too many files, or too few: {sorted(difference)}")


def _oldest_dependencies() -> list[str]:
    """Return the lower bounds of the dependencies, and of the extras that users install."""
    project = PROJECT["project"]
    development = {"bench", "dev", "docs"}
    extras = project["optional-dependencies"]
    wanted = project["dependencies"] + [each for name in extras.keys() - development for each in extras[name]]
    own = re.compile(rf"{re.escape(project['name'])}\b")
    return sorted(
        {re.sub(r"^([\w-]+)(?:\[[^]]*])?>=([\d.]+)[^;]*", r"\1==\2", each) for each in wanted if not own.match(each)}
    )


def _files_of_git(*options: str) -> list[str]:
    command = ["git", "ls-files", *options]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()


def _tests_of_changes() -> list[str]:
    """Return the changed tests, and the tests that are named after changed modules."""
    command = ["git", "diff", "--name-only", "--diff-filter=d", "HEAD"]
    output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    changed = [Path(each) for each in output.splitlines() + _files_of_git("--others", "--exclude-standard")]
    python = [path for path in changed if path.suffix == ".py"]
    tests = {path for path in python if path.name.startswith("test_")}
    for path in python:
        tests.update(Path("tests").rglob(f"test_{path.stem.strip('_')}*.py"))
    return sorted(map(str, tests))
