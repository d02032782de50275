"""The documentation: its links and tables are correct, and no name or error code is missing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pages_from_code.decisions import list_decisions, list_rejections, number_of
from pages_from_code.life import draw_life, read_instants
from pages_from_code.names import find_public_names

import simplestore_async
from simplestore_async import RenewalPolicy, errors
from simplestore_async._core.state import DECISIONS, REJECTIONS, EndpointState, Rejected, TokenState
from tests.support.pages import PAGES, ROOT, links_of

if TYPE_CHECKING:
    from collections.abc import Mapping


def ids(paths: list[Path]) -> list[str]:
    return [path.stem for path in paths]


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_links_to_files(page: Path) -> None:
    """Links, and names of files of the repository, lead to existing files; there are no links to other sites."""
    files = [link.partition("#")[0] for link in links_of(page)]
    assert [] == [file for file in files if file and not (page.parent / file).exists()]
    named = re.findall(r"`((?:examples|tests|benchmarks|docs)/[\w/.]+)`", page.read_text("utf-8"))
    assert [] == [file for file in named if not (ROOT / file).exists()]


def test_reference_has_every_name() -> None:
    """Each public name is in the reference, under the root's name or its module's."""
    reference = "\n".join(page.read_text("utf-8") for page in (ROOT / "docs" / "reference").glob("*.md"))
    whole = re.findall(r"automodule:: ([\w.]+)", reference)
    found = [name.rpartition(".") for name in re.findall(r"auto(?:class|function|data):: ([\w.]+)", reference)]
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


def test_rejections_are_the_code_s() -> None:
    """Each cell of the table of rejections is the code's own."""
    _, _, *rows = [line.strip("| ").split(" | ") for line in list_rejections().splitlines()]
    shown = {
        (which, is_backing_off): cell
        for which, row in zip(Rejected, rows, strict=True)
        for is_backing_off, cell in zip((False, True), row[1:], strict=True)
    }
    assert {key: verdict.value for key, verdict in REJECTIONS.items()} == shown


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
    """A page takes its numbers from fields that the policy has."""
    roles = {name for page in PAGES for name in re.findall(r"\{policy\}`(\w+)`", page.read_text("utf-8"))}
    assert len(roles) > 10
    shown: Mapping[str, str] = {name: number_of(name) for name in roles}
    assert ("30", "10", "300") == (shown["budget_seconds"], shown["attempt_seconds"], shown["retry_after_cap_seconds"])


def test_guarantees_have_their_tests() -> None:
    """A guarantee names a file of tests, or a test in the file that it links to."""
    page = (ROOT / "docs" / "guarantees.md").read_text("utf-8")
    table = page.partition("| guarantee | test |")[2].partition("\n\n")[0]
    tests = re.findall(r"\| \[`([\w.]+)`\]\(\.\./(tests/[\w/]+\.py)\) \|$", table, re.MULTILINE)
    assert len(table.strip().splitlines()) - 1 == len(tests) > 20
    for name, path in tests:
        source = (ROOT / path).read_text("utf-8")
        assert path.endswith(f"/{name}") or re.search(rf"^\s*(async def|def|class) {name}\b", source, re.MULTILINE), (
            name
        )


def test_every_code_has_its_entry() -> None:
    """Troubleshooting has one entry for each error code of the package, and no other."""
    page = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
    entries = re.findall(r"^\(([a-z-]+)\)=\n(?=\([a-z-]+\)=\n|### `)", page, re.MULTILINE)
    source = "\n".join(path.read_text("utf-8") for path in Path(simplestore_async.__file__).parent.rglob("*.py"))
    codes = re.findall(r'\bcode(?:=|: str = | = )"([a-z-]+)"', source)  # a keyword argument or a class attribute
    assert len(codes) > 15
    assert sorted(set(codes)) == sorted(entries)


def test_tree_of_errors_is_complete() -> None:
    """The reference's tree has each error."""
    tree = (ROOT / "docs" / "reference" / "errors.md").read_text("utf-8").partition("```text")[2].partition("```")[0]
    assert sorted(errors.__all__) == sorted(re.findall(r"^\W*(\w+)", tree, re.MULTILINE))
