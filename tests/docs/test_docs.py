"""The documentation is true: its examples run, its links lead somewhere, and it leaves out no message and no name."""

from __future__ import annotations

import ast
import asyncio
import os
import re
import sys
from inspect import CO_COROUTINE
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any

import pytest
from pages_from_code.decisions import list_decisions, list_plots, number_of
from pages_from_code.life import draw_life, read_instants
from pages_from_code.lines import keep_numbers_whole, open_names
from pages_from_code.names import find_public_names
from pages_from_code.proofs import list_guarantees, list_proofs, read_guarantees

from simplestore_async import RenewalPolicy
from simplestore_async._core.state import DECISIONS, EndpointState, TokenState
from simplestore_async.sandbox import Sandbox
from tests.support.pages import PAGES, ROOT, Example, examples_of, links_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.redis_server import RedisServer

TROUBLESHOOTING = ROOT / "docs" / "troubleshooting.md"

# Leads out of the site. These addresses are not fetched: tests have no network.
EXTERNAL: set[str] = set()


def ids(paths: list[Path]) -> list[str]:
    return [path.stem for path in paths]


@pytest.fixture
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of the example's own, and a home with an empty cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


async def run_python(page: Path, example: Example, names: dict[str, Any]) -> None:
    """Run a block as a notebook does; one without `await` in a thread, where it may call `asyncio.run()`."""
    source = "\n" * example.line + example.code
    code = compile(source, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    if code.co_flags & CO_COROUTINE:
        await FunctionType(code, names)()
    else:
        await asyncio.to_thread(FunctionType(code, names))


async def run_shell(example: Example) -> None:
    process = await asyncio.create_subprocess_exec(
        "bash", "-euc", example.code, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    assert 0 == process.returncode, said.decode()


@pytest.mark.usefixtures("surroundings")
@pytest.mark.parametrize("page", [page for page in PAGES if [*examples_of(page)]], ids=lambda page: page.stem)
async def test_examples_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_redis: RedisServer
) -> None:
    """The blocks of a page run one after the other, with the environment of a sandbox, and a Redis."""
    monkeypatch.setenv("SIMPLESTORE_REDIS_URL", shared_redis.url)
    async with Sandbox() as sandbox:
        for name, value in sandbox.environment.items():
            monkeypatch.setenv(name, value)
        names = {"__name__": "example", "sandbox": sandbox, "tmp_path": tmp_path, "monkeypatch": monkeypatch}
        for example in examples_of(page):
            if example.reason_not_to_run is not None:
                continue
            if example.language == "sh":
                await run_shell(example)
            else:
                await run_python(page, example, names)


def test_examples_are_found() -> None:
    """The reading of pages works: blocks of both languages, what is hidden, and the reason of what is not run."""
    found = [*examples_of(ROOT / "docs" / "quickstart.md")]
    assert {"python", "sh"} == {example.language for example in found}
    assert 1 == len([example for example in found if example.reason_not_to_run])
    assert any(example.code.startswith("assert 2 == sandbox") for example in found)


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_links_to_files(page: Path) -> None:
    """What a page links, takes in or names of this repository is there; what leads elsewhere is known."""
    inner = [link for link in links_of(page) if not re.match(r"\w+:", link)]
    assert set(links_of(page)) - set(inner) <= EXTERNAL
    files = [link.partition("#")[0] for link in inner]
    assert [] == [file for file in files if file and not (page.parent / file).exists()]
    named = re.findall(r"`((?:examples|tests|benchmarks|docs)/[\w/.]+)`", page.read_text("utf-8"))
    assert [] == [file for file in named if not (ROOT / file).exists()]


def test_reference_has_every_name() -> None:
    """Each public name is on the page of the reference, be it by the root's name or by its module's."""
    page = (ROOT / "docs" / "api.md").read_text("utf-8")
    whole = re.findall(r"automodule:: ([\w.]+)", page)
    found = [name.rpartition(".") for name in re.findall(r"auto(?:class|function|data):: ([\w.]+)", page)]
    single = {name for module, _, name in found if module not in whole}
    names = {full.rpartition(".")[2] for full in find_public_names().values() if full.rpartition(".")[0] not in whole}
    assert names == single


def test_decisions_are_the_code_s() -> None:
    """Each cell of the table of decisions is the code's own."""
    head, _, *rows = [line.strip("| ").split(" | ") for line in list_decisions().splitlines()]
    assert [f"the endpoint {endpoint.value}" for endpoint in EndpointState] == head[1:]
    shown = {
        (state, endpoint): cell
        for state, row in zip(TokenState, rows, strict=True)
        for endpoint, cell in zip(EndpointState, row[1:], strict=True)
    }
    assert {key: action.value for key, action in DECISIONS.items()} == shown


def test_picture_has_the_policy_s_instants() -> None:
    """The picture of an hour's token shows when it is due, expiring and expired, by the default policy."""
    picture = draw_life(RenewalPolicy(), life_seconds=3600)
    assert ["0:00", "45:36 … 50:24", "27:00 … 50:24", "59:30", "60:00"] == instants_in(picture)
    # 20 % of the life before its end, ± 20 % of that
    instants = read_instants(RenewalPolicy(), life_seconds=3600)
    assert pytest.approx((3600 - 720 * 1.2, 3600 - 720 * 0.8)) == instants.due
    assert pytest.approx((3600 * 0.45, 3600 * 0.84)) == instants.first_due
    assert (3570, 3600) == (instants.expiring, instants.expiry)


def test_picture_follows_the_policy() -> None:
    """Another policy gives another picture."""
    policy = RenewalPolicy(due_seconds=100, first_due_fractions=(0.5, 0.6))
    picture = draw_life(policy, life_seconds=1200)
    assert ["0:00", "18:00 … 18:40", "10:00 … 12:00", "19:30", "20:00"] == instants_in(picture)


def instants_in(picture: str) -> list[str]:
    return re.findall(r'class="instant"[^>]*>([\d:]+(?: … [\d:]+)?)', picture)


def test_numbers_in_sentences_are_the_policy_s() -> None:
    """A page takes its numbers from the policies and constants that the code decides by."""
    roles = {name for page in PAGES for name in re.findall(r"\{policy\}`(\w+)`", page.read_text("utf-8"))}
    assert len(roles) > 10
    shown: Mapping[str, str] = {name: number_of(name) for name in roles}
    assert ("30", "10", "300") == (shown["budget_seconds"], shown["attempt_seconds"], shown["retry_after_cap_seconds"])


def test_guarantees_are_the_readme_s() -> None:
    """Every row of the README's table is on the page, and leads to its test."""
    readme = (ROOT / "README.md").read_text("utf-8")
    table = readme.partition("| guarantee | proved by |")[2].partition("\n\n")[0]
    guarantees = read_guarantees()
    assert len(table.strip().splitlines()) - 1 == len(guarantees)
    listed, proofs = list_guarantees().splitlines(), list_proofs()
    for guarantee in guarantees:
        assert f"- {guarantee.claim} ([test](#{guarantee.anchor}))" in listed
        assert f"({guarantee.anchor})=\n" in proofs
    assert len(guarantees) == len({guarantee.anchor for guarantee in guarantees})


def test_proofs_are_the_tests() -> None:
    """A proof is a test as it stands, with its decorators; of a whole file it is what its tests claim."""
    proofs = list_proofs()
    assert "\n````python\n@on_every_loop\nasync def test_cold_callers_make_one_request(" in proofs
    assert '\n````python\n@pytest.mark.parametrize("row", WIRE.values(), ids=WIRE)\nasync def test_wire(' in proofs
    assert "\n````python\nclass TestFork:\n" in proofs
    assert "(`test_costs_no_token`)\n- " in proofs


def test_plots_are_those_that_were_drawn(tmp_path: Path) -> None:
    """The page of benchmarks shows every plot among the results, if there are any, and that of all measures first."""
    assert "" == list_plots(tmp_path / "missing")
    for name in ("cold.svg", "cached.svg", "overview.svg", "results.json"):
        (tmp_path / name).touch()
    expected = [f"![{name}](../benchmarks/results/{name}.svg)" for name in ("overview", "cached", "cold")]
    assert expected == list_plots(tmp_path).split()


def test_numbers_are_kept_whole() -> None:
    """No line of a page ends within a number, or before its unit; other spaces are left alone."""
    kept = "10\u00a0000 tasks, 4\u00a0%, 30\u00a0s, 1.4\u00a0µs, 64\u00a0KiB"
    assert kept == keep_numbers_whole(kept.replace("\u00a0", " "))
    assert "3 attempts, 2 so far, 5 2026" == keep_numbers_whole("3 attempts, 2 so far, 5 2026")


@pytest.mark.parametrize(
    ("code", "opened"),
    [
        ("simplestore_async.AccessToken.is_replacement", "simplestore_async.<wbr>AccessToken.<wbr>is_replacement"),
        ("https://auth.example.com/connect/1.0", "https://auth.<wbr>example.<wbr>com/<wbr>connect/<wbr>1.0"),
        ("(SIMPLESTORE_CLIENT_SECRET_FILE", "(SIMPLESTORE_CLIENT_SECRET_FILE"),
        ("test_this_where_files_have_no_owners", "test_<wbr>this_<wbr>where_<wbr>files_<wbr>have_<wbr>no_<wbr>owners"),
        ("simplestore_async.Sandbox", "simplestore_async.Sandbox"),
        ("[", "[<wbr>"),
    ],
)
def test_names_break_where_parts_meet(code: str, opened: str) -> None:
    """A word of code too long for a phone may break between its parts, and so may a heading; prose is as it was."""
    page = '<h2>test_it<a>#</a></h2> so_long_a_word_that_it_is_over_31 <span class="pre">{}</span>'.format
    assert page(opened).replace("test_it", "test_<wbr>it") == open_names(page(code))
