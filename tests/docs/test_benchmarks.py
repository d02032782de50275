"""The benchmarks run on their least scale; counts are asserted, figures are not."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from benchmarks._peers import MISSING, PEERS
from tests.support.platforms import needs_httpx2, needs_matplotlib, needs_resource, needs_valgrind

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"
ONE_REQUEST = {"token requests": 1}
COLD = ONE_REQUEST | {"failed callers": 0, "failed by one cancel": 0}
# For each measure its results' counts.
COUNTS: dict[str, list[dict[str, int]]] = {
    "cached": [ONE_REQUEST],
    "cold": [COLD] * 3,
    "busy": [COLD] * 3,
    "requests": [ONE_REQUEST] * 4,
    "instructions": [{}],
    "httpx": [ONE_REQUEST] * 2,
    "import": [{}],
    "processes": [ONE_REQUEST],
    "file-cache": [{"token requests": 0}],
    "due": [ONE_REQUEST | {"blocked callers": 0}],
    "growth": [{}],
    "providers": [{"token requests": 0}] * 2,
    "pause": [{}],
    "batch": [{}] * 4,
}
# Yardsticks, which are not peers.
LEAST = {
    "cold": ["one future"],
    "busy": ["one future"],
    "growth": ["without gc", "one future"],
    "pause": ["the least that is safe"],
    "requests": ["the least middleware"],
    "instructions": ["the least middleware"],
    "batch": ["xargs curl", "wrk"],
}
NEEDS = {"httpx": [needs_httpx2], "instructions": [needs_valgrind]}
# Other requirements of the extra `bench`.
NO_PEERS = {"click", "httpx2", "matplotlib", "msal-extensions", "trustme", "uvloop"}
SLOW = COUNTS.keys() - {"cached"}


@needs_resource
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[*NEEDS.get(name, []), *[pytest.mark.slow] * (name in SLOW)]) for name in COUNTS],
)
def test_measure(name: str, tmp_path: Path) -> None:
    """A measure prints its lines and writes ratios, goals, surroundings and counts."""
    path = tmp_path / "results.json"
    command = sys.executable, "-m", "benchmarks", "--quick", "--only-ours", "--json", str(path), name
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", timeout=300, check=False)

    assert (0, "") == (done.returncode, done.stderr)
    found: dict[str, Any] = json.loads(path.read_text())
    lines = done.stdout.splitlines()
    assert [f"{name}: {result['name']}" for result in found["results"]] == [
        line.partition("; goal")[0] for line in lines if not line.startswith(" ")
    ]
    ours = []
    for result in found["results"]:
        figure, *least = result["contenders"]
        assert (name, "simplestore-async") == (result["measure"], figure["name"])
        assert set(LEAST.get(name, [])) - {"wrk"} <= {other["name"] for other in least} <= set(LEAST.get(name, []))
        for some in (figure, *least):
            if some["ratio"] is None:  # curl and wrk are not everywhere
                assert "not installed" == some["note"]
                continue
            assert min(result["floor"], some["median"], some["ratio"], result["goal"]) > 0
        ours.append(figure)
    assert COUNTS[name] == [figure["counts"] for figure in ours]
    assert {"python", "cores", "processor", "load"} <= found["surroundings"].keys()
    assert {"aiohttp", "simplestore-async"} <= found["surroundings"]["versions"].keys()


def test_peers() -> None:
    """Each peer of the extra is there, or named as missing; README names each with its version and page."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bounds = dict(re.split(r"(?:\[.*\])?>=|;", each)[:2] for each in project["optional-dependencies"]["bench"])
    peers = {name: bound for name, bound in bounds.items() if name not in NO_PEERS}
    readme = (ROOT / "benchmarks" / "README.md").read_text()
    assert sorted(peers) == sorted([*PEERS, *MISSING])
    assert peers == dict(re.findall(r"^\| ([\w-]+) ([\d.]+) \| <https://", readme, re.MULTILINE))


def test_every_measure_is_run_here() -> None:
    """The table above and the benchmarks' README list every measure."""
    source = (ROOT / "benchmarks" / "_measures" / "__init__.py").read_text()
    readme = (ROOT / "benchmarks" / "README.md").read_text()
    assert [*COUNTS] == sorted(re.findall(r'^    "([\w-]+)": measure_', source, re.MULTILINE), key=[*COUNTS].index)
    assert [] == [name for name in COUNTS if f"`{name}`" not in readme]


def contender(name: str, ratio: float | None, **counts: int) -> dict[str, Any]:
    figures = (
        {"median": 100 * ratio, "ratio": ratio, "spread": [ratio - 0.01, ratio + 0.02], "rounds": 9} if ratio else {}
    )
    return {"name": name, "counts": counts, "note": "" if ratio else "sits out", **figures}


def result(measure: str, name: str, *contenders: dict[str, Any], **fields: object) -> dict[str, Any]:
    floor = {"floor_name": "the least", "floor": 100.0}
    return {"measure": measure, "name": name, "unit": "ns", "goal": 1.3, **floor, "contenders": [*contenders], **fields}


RESULTS = [
    result(
        "cached",
        "cached get_token()",
        contender("simplestore-async", 1.2, requests=1),
        contender("a-peer-of-a-long-name", 120.0),
        contender("another", None),
    ),
    result(
        "cold",
        "cold: the <slowest> & the others, with words that need more than a single line of the picture",
        contender("simplestore-async", 1.4),
        points={"simplestore-async": [[1, 1e-3], [10, 1e-4]], "one future": [[1, 2e-3], [10, 1e-4]]},
    ),
]


@needs_matplotlib
@pytest.mark.slow
def test_page(tmp_path: Path) -> None:
    """The page has a table with a column for each run, then a chart for each measure of the first."""
    surroundings = {"python": "CPython 3.11.9", "versions": {"aiohttp": "3.14.5"}}
    paths = [tmp_path / "3.11.json", tmp_path / "3.13.json"]
    for path, results in zip(paths, (RESULTS, RESULTS[:1]), strict=True):
        path.write_text(json.dumps({"surroundings": surroundings, "results": results}))
    command = [sys.executable, "-m", "benchmarks", "page", *map(str, paths), "--directory", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert (0, "") == (done.returncode, done.stderr)

    page = (tmp_path / "README.md").read_text("utf-8")
    assert "| measure | goal | 3.11 | 3.13 |" in page
    assert "| cached get_token() | 1.3 | 1.200\u00d7 (1.19 to 1.22) | 1.200\u00d7 (1.19 to 1.22) |" in page
    assert " | 1.3 | **1.400\u00d7** (1.39 to 1.42) | - |" in page
    assert "- **3.11**: python CPython 3.11.9, aiohttp 3.14.5" in page
    assert page.index("| measure") < page.index("![cached](cached.svg)") < page.index("![cold](cold.svg)")

    cached, cold = (ET.fromstring((tmp_path / name).read_text("utf-8")) for name in ("cached.svg", "cold.svg"))  # noqa: S314 - ours
    words = " ".join("".join(text.itertext()) for text in cached.iter(f"{SVG}text"))
    for expected in (
        "simplestore-async",
        "1.200\u00d7 = 120 ns, requests: 1",
        "goal 1.3\u00d7",
        "120\u00d7 = 12,000 ns",
    ):
        assert expected in words
    assert re.search(r"another +-; sits out", cached.findtext(f"{SVG}desc") or "")
    assert "@media (prefers-color-scheme:dark)" in (cached.findtext(f"{SVG}style") or "")
    assert "one future" in " ".join("".join(text.itertext()) for text in cold.iter(f"{SVG}text"))
