"""The benchmarks work: each is run on the least scale. Nothing is said of what they measure, but of what they count."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
ONE_REQUEST = {"token requests": 1}
# For each measure its results' counts.
COUNTS: dict[str, list[dict[str, int]]] = {
    "cached": [ONE_REQUEST],
    "cached-uvloop": [ONE_REQUEST],
    "alternating": [ONE_REQUEST],
    "cold": [ONE_REQUEST | {"failed callers": 0}] * 2,
    "busy": [ONE_REQUEST | {"failed callers": 0}] * 2,
    "cancel": [{"others failed by one cancel": 0}],
    "memory": [{}],
    "requests": [ONE_REQUEST | {"answered 401": 0}] * 2,
    "instructions": [ONE_REQUEST] * 2,
    "import": [{}] * (2 if Path("/proc/self/status").exists() else 1),
    "processes": [ONE_REQUEST],
    "file-cache": [{"token requests": 0}],
    "due": [ONE_REQUEST | {"blocked callers": 0}],
    "growth": [{}] * 2,
    "batch": [{"answered 401": 0}] * 4,
}
# What is measured beside the peers, to tell what a goal is made of.
LEAST = {
    "cold": ["the least client"],
    "busy": ["the least client"],
    "requests": ["the least middleware"],
    "instructions": ["the least middleware"],
    "file-cache": ["FileTokenCache alone"],
    "batch": ["a loop"],
}
NEEDS = {
    "cached-uvloop": importlib.util.find_spec("uvloop"),
    "instructions": shutil.which("callgrind_control"),
}
# What the extra `bench` brings beside the peers.
NO_PEERS = {"click", "httpx2", "msal-extensions", "trustme", "uvloop"}
# They take seconds, by their nature.
SLOW = {"batch", "instructions", "due", "processes", "growth", "cancel", "import", "memory", "requests"}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in COUNTS])
async def test_measure(name: str, tmp_path: Path) -> None:
    """A measure ends, prints its lines, and writes what it found: ratios, goals, surroundings and counts."""
    if not NEEDS.get(name, True):
        pytest.skip("what it needs is not installed")
    path = tmp_path / "results.json"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks", "--quick", "--only-ours", "--json", str(path), name),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(300):
        stdout, stderr = await process.communicate()

    assert (0, "") == (process.returncode, stderr.decode())
    found: dict[str, Any] = json.loads(path.read_text())
    lines = stdout.decode().splitlines()
    assert [result["name"] for result in found["results"]] == [
        line.partition(" (floor:")[0] for line in lines if not line.startswith(" ")
    ]
    ours = []
    for result in found["results"]:
        figure, *least = result["contenders"]
        assert (name, "simplestore-async") == (result["measure"], figure["name"])
        assert LEAST.get(name, []) == [other["name"] for other in least if not other["is_peer"]]
        for some in (figure, *least):
            assert min(result["floor"]["median"], some["median"], some["ratio"], result["goal"]) > 0
        ours.append(figure)
    assert COUNTS[name] == [figure["counts"] for figure in ours]
    assert {"python", "cores", "processor", "memory_bytes"} <= found["surroundings"].keys()
    assert {"aiohttp", "simplestore-async"} <= found["surroundings"]["versions"].keys()


def test_peers() -> None:
    """Each peer is there, or named with what to install."""
    code = "import json; from benchmarks._peers import MISSING, PEERS; print(json.dumps([*PEERS, *MISSING]))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.split(r"\[|>", requirement)[0] for requirement in project["optional-dependencies"]["bench"]}

    assert sorted(names - NO_PEERS) == sorted(json.loads(done.stdout))


def test_every_measure_is_run_here() -> None:
    """The table above names them all, and so does the benchmarks' own README."""
    source = (ROOT / "benchmarks" / "_measures" / "__init__.py").read_text()
    readme = (ROOT / "benchmarks" / "README.md").read_text()
    for name in COUNTS:
        assert f'"{name}": Measure(' in source
        assert f"`{name}`" in readme
    assert len(COUNTS) == source.count('": Measure(')
