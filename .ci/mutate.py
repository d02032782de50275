"""Mutation testing of floors 0 to 4: does a test fail when the code is wrong?

Run it with the development environment and cosmic-ray, which makes the mutants:

    .venv/bin/pip install "cosmic-ray>=8.7"
    .venv/bin/python .ci/mutate.py [--only _renewal.py] [--survivors FILE]

Each mutant is one change of one operator, number, condition, exception or decorator. It meets the tests that run its
line, quickest first, and those of its module's own test file, until one of them fails. The suite is run once before,
to learn which tests these are. What survives is printed, and what only a time limit ended: `--again` looks at both once
more, when the machine is quiet. Nothing here is changed: the mutants live in copies.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

ROOT: Final = Path(__file__).parent.parent
PACKAGE: Final = "simplestore_async"
UPPER_FLOORS: Final = {"cli", "sandbox", "testing", "_pytest_plugin.py"}
COPIED: Final = (
    PACKAGE,
    "tests",
    "benchmarks",
    "docs",
    "examples",
    "pyproject.toml",
    "README.md",
    "CHANGELOG.md",
    "SECURITY.md",
)

# What somebody might write by mistake; of the dozen operators that could stand for another the rest say no more.
OPERATORS: Final = {
    before: set(after.split())
    for before, after in (
        ("Add", "Sub"), ("Sub", "Add"), ("Mul", "Div"), ("Div", "Mul"), ("Pow", "Mul"),
        ("BitOr", "BitAnd"), ("BitAnd", "BitOr"), ("LShift", "RShift"),
        ("Lt", "LtE Gt"), ("LtE", "Lt GtE"), ("Gt", "GtE Lt"), ("GtE", "Gt LtE"),
        ("Eq", "NotEq"), ("NotEq", "Eq"), ("Is", "IsNot"), ("IsNot", "Is"),
    )
}  # fmt: skip

IGNORED_WARNING: Final = "ignore::pytest.PytestAssertRewriteWarning"  # plugins are imported before the fork

TESTED_WITH: Final = {
    "cache_folder": ("cache_file", "cache_inventory"),
    "renewal": ("provider", "loops"),
}
"""The modules whose tests are another's: what is within a provider is tested by its behaviour."""
FIRST_TESTS: Final = 40
"""How many tests a mutant meets before the others are even collected."""
MOST_SECONDS: Final = 20
"""How long all its tests may take: what they do not find in that time counts as missed."""


def is_plausible(operator: str) -> bool:
    """Return whether somebody might make this change by mistake."""
    kind, _, change = operator.partition("_")
    before, _, after = change.partition("_")
    if kind in {"core/ReplaceBinaryOperator", "core/ReplaceComparisonOperator"}:
        return after in OPERATORS.get(before, ())
    return True


class _Executed(ast.NodeTransformer):
    """Leaves what is executed: no annotations, and nothing that is for type checkers."""

    def visit_arguments(self, node: ast.arguments) -> ast.arguments:
        # Whether an argument is passed by its name is for the type checkers to see.
        node.args = [*node.posonlyargs, *node.args, *node.kwonlyargs]
        node.defaults = [*node.defaults, *filter(None, node.kw_defaults)]
        node.posonlyargs = node.kwonlyargs = node.kw_defaults = []
        self.generic_visit(node)
        return node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.returns = None
        self.generic_visit(node)
        return node

    visit_AsyncFunctionDef = visit_FunctionDef  # type: ignore[assignment]  # noqa: N815 - names and types are ast's

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(None)
        self.generic_visit(node)
        return node

    def visit_If(self, node: ast.If) -> ast.AST | None:
        if "TYPE_CHECKING" in ast.unparse(node.test):
            return None
        self.generic_visit(node)
        return node


def executed(source: str) -> str | None:
    """Return a form of *source* that is the same for two sources that do the same; None if it is no Python."""
    try:
        return ast.dump(_Executed().visit(ast.parse(source)))
    except SyntaxError:
        return None


def mutants_of(path: Path) -> Iterator[dict[str, Any]]:
    """Give each mutant of a module: what was changed, where, and the whole mutated source."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator, operator_names

    source = path.read_text("utf-8")
    seen = {executed(source), None}
    for name in sorted(filter(is_plausible, operator_names())):
        if get_operator(name).arguments():
            continue
        operator = get_operator(name)()
        places = [place for node in ast_nodes(get_ast(source)) for place in operator.mutation_positions(node)]
        for occurrence, ((line, _), _) in enumerate(places):
            mutated = mutate_code(source, operator, occurrence)
            form = executed(mutated)
            if form not in seen:
                seen.add(form)
                change = difflib.ndiff(source.splitlines(), mutated.splitlines())
                yield {
                    "module": str(path.relative_to(ROOT)),
                    "line": line,
                    "operator": name.removeprefix("core/"),
                    "change": "\n".join(each for each in change if each[0] in "+-"),
                    "source": mutated,
                }


class Suite:
    """What the unchanged suite told: how long each test takes, and which tests run which line."""

    def __init__(self, folder: Path) -> None:
        import coverage

        self.seconds: dict[str, float] = json.loads((folder / "seconds.json").read_text("utf-8"))
        data = coverage.CoverageData(str(folder / "coverage"))
        data.read()
        self._tests = {
            Path(file).relative_to(folder).as_posix(): data.contexts_by_lineno(file) for file in data.measured_files()
        }

    def tests_for(self, mutant: dict[str, Any]) -> list[list[str]]:
        """Return the tests for a mutant, in groups, each quickest first."""
        module = mutant["module"]
        parts = Path(module).parts[1:]
        name = "_".join(part.removesuffix(".py").strip("_") for part in parts).replace("caches", "cache")
        files = tuple(f"tests/test_{file}" for file in TESTED_WITH.get(name, (name,)))
        own = {test for test in self.seconds if test.startswith(files)}
        others = set(self.seconds) - own
        contexts = self._tests.get(module, {}).get(mutant["line"], [""])
        if "" not in contexts:  # which stands for what runs when the module is imported: that meets every test
            others &= {context.partition("|")[0] for context in contexts}
        first = sorted(own, key=self.seconds.__getitem__) + sorted(others, key=self.seconds.__getitem__)
        within = accumulate(self.seconds[test] for test in first)
        tests = [test for test, seconds in zip(first, within, strict=True) if seconds < MOST_SECONDS]
        return [tests[:FIRST_TESTS], tests[FIRST_TESTS:]]


class Selection:
    """A pytest plugin that runs the named tests in their order, each in a time of its own."""

    def __init__(self, tests: list[str], seconds: dict[str, float]) -> None:
        self._places = {test: place for place, test in enumerate(tests)}
        self._seconds = seconds

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted(
            (item for item in items if item.nodeid in self._places), key=lambda item: self._places[item.nodeid]
        )

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        # The signal's default action ends the process: a test that hangs is one that fails.
        signal.alarm(30 + int(20 * self._seconds[nodeid]))


class Stopwatch:
    """A pytest plugin that notes how long each test took, and which failed."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.failed: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] += report.duration  # type: ignore[assignment]  # fractions of them, in a Counter
        if report.failed:
            self.failed.add(report.nodeid)


def run_suite(folder: Path) -> None:
    """Run the unchanged suite in *folder*, and leave there what `Suite` reads."""
    import pytest

    stopwatch = Stopwatch()
    options = ["--cov", "--cov-context=test", "--cov-report=", "-n", "2", "-q"]
    os.environ["COVERAGE_FILE"] = str(folder / "coverage")
    pytest.main(options, plugins=[stopwatch])
    # What fails by itself kills every mutant.
    seconds = {test: seconds for test, seconds in stopwatch.seconds.items() if test not in stopwatch.failed}
    (folder / "seconds.json").write_text(json.dumps(seconds), "utf-8")


def run_worker(suite_folder: Path) -> None:
    """Read mutants from stdin, one JSON a line, and answer each with "killed", "hung" or "survived"."""
    # Everything but the package itself, so that each mutant's process, a fork of this one, starts quickly.
    for name in ("aiohttp.web", "cattrs", "filelock", "hypothesis", "pytest_asyncio"):
        importlib.import_module(name)

    answers, sys.stdout = os.fdopen(os.dup(1), "w", buffering=1), sys.stderr
    suite, module = Suite(suite_folder), ""
    for number, line in enumerate(sys.stdin):
        mutant = json.loads(line)
        if mutant["module"] != module:  # else everything would seem to be killed
            module = mutant["module"]
            assert verdict(suite.tests_for(mutant)[0], suite.seconds) == "survived", f"{module} fails as it is"
        path = Path(module)
        original, times = path.read_bytes(), path.stat()
        path.write_text(mutant["source"], "utf-8")
        # A second of its own for each mutant: by it Python sees that the compiled file is another's.
        os.utime(path, (number, number))
        verdicts = (verdict(tests, suite.seconds) for tests in suite.tests_for(mutant) if tests)
        answer = next((each for each in verdicts if each != "survived"), "survived")
        path.write_bytes(original)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        print(answer, file=answers)


def verdict(tests: list[str], seconds: dict[str, float]) -> str:
    """Return what became of *tests*, run in a fork: they passed, one of them failed, or one of them hung."""
    import pytest

    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # what its tests started
        return {0: "survived", -signal.SIGALRM: "hung"}.get(os.waitstatus_to_exitcode(status), "killed")
    try:
        os.setsid()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(nowhere, descriptor)
        files = sorted({test.partition("::")[0] for test in tests})
        options = [
            "-x",
            "-q",
            "-n",
            "0",
            "-p",
            "no:randomly",
            "-p",
            "no:cacheprovider",
            "-W",
            "ignore::pytest.PytestAssertRewriteWarning",
        ]
        code = pytest.main([*options, *files], plugins=[Selection(tests, seconds)])
    except BaseException:  # noqa: BLE001 - the fork must not go on as its parent
        os._exit(1)
    os._exit(code)


def copy_project(folder: Path) -> Path:
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            folder.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, folder)
    return folder


def start(folder: Path, *arguments: str, **pipes: Any) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(folder)}
    command = [sys.executable, __file__, *arguments]
    return subprocess.Popen(command, cwd=folder, env=environment, text=True, **pipes)


def main() -> None:
    parser = argparse.ArgumentParser(description="Does a test fail when the code is wrong?")
    parser.add_argument("--only", default="", help="modules whose path contains this")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--survivors", type=Path, metavar="FILE", help="write them here, one JSON a line")
    parser.add_argument("--again", type=Path, metavar="FILE", help="only those in a file of survivors")
    parser.add_argument("--suite", type=Path, metavar="FOLDER", help="keep there what the first run of the suite told")
    parser.add_argument("--role", choices=["main", "suite", "worker"], default="main", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role == "suite":
        run_suite(Path.cwd())
    elif options.role == "worker":
        run_worker(options.suite)
    else:
        with tempfile.TemporaryDirectory() as folder:
            mutate(Path(folder), options)


def make_mutants(only: str) -> Iterator[dict[str, Any]]:
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        if not UPPER_FLOORS & set(path.parts) and only in str(path):
            yield from mutants_of(path)


def read_mutants(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def mutate(folder: Path, options: argparse.Namespace) -> None:
    mutants: SimpleQueue[dict[str, Any]] = SimpleQueue()
    for mutant in read_mutants(options.again) if options.again else make_mutants(options.only):
        mutants.put(mutant)
    total = mutants.qsize()
    print(f"{total} mutants", flush=True)
    suite = (options.suite or folder / "suite").absolute()
    if not suite.exists():
        start(copy_project(suite), "--role", "suite").wait()
    outcomes: Counter[str] = Counter()
    survivors: list[dict[str, Any]] = []
    began = time.monotonic()

    def work(number: int) -> None:
        place = copy_project(folder / f"worker-{number}")
        worker = start(place, "--role", "worker", "--suite", str(suite), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert worker.stdin is not None
        assert worker.stdout is not None
        while not mutants.empty():
            mutant = mutants.get()
            worker.stdin.write(json.dumps(mutant) + "\n")
            worker.stdin.flush()
            outcome = worker.stdout.readline().strip()
            outcomes[outcome] += 1
            if outcome != "killed":
                survivors.append(mutant)
                where = f"{mutant['module']}:{mutant['line']}"
                print(f"{outcome}: {where}: {mutant['operator']}\n{mutant['change']}", flush=True)
            if sum(outcomes.values()) % 50 == 0:
                print(f"{dict(outcomes)} of {total} in {time.monotonic() - began:.0f} s", flush=True)
        worker.stdin.close()
        worker.wait()

    with ThreadPoolExecutor(options.jobs) as threads:
        list(threads.map(work, range(options.jobs)))
    killed = outcomes["killed"] + outcomes["hung"]
    print(
        f"{killed} of {total} mutants killed ({killed / max(total, 1):.1%}), {outcomes['hung']} of them by time limits"
    )
    if options.survivors:
        options.survivors.write_text("".join(f"{json.dumps(each)}\n" for each in survivors), "utf-8")


if __name__ == "__main__":
    main()
