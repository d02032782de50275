"""The benchmarks run on their least scale; counts are asserted, figures are not."""

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
    "alternating": [ONE_REQUEST],
    "cold": [ONE_REQUEST | {"failed callers": 0}] * 3,
    "busy": [ONE_REQUEST | {"failed callers": 0}] * 3,
    "cancel": [{"others failed by one cancel": 0}],
    "memory": [{}],
    "requests": [ONE_REQUEST | {"401 responses": 0}] * 4,
    "instructions": [ONE_REQUEST] * 2,
    "import": [{}] * (2 if Path("/proc/self/status").exists() else 1),
    "processes": [ONE_REQUEST],
    "file-cache": [{"token requests": 0}],
    "due": [ONE_REQUEST | {"blocked callers": 0}],
    "growth": [{}] * 2,
    "httpx": [ONE_REQUEST | {"401 responses": 0}],
    "providers": [{"token requests": 0}, {}],
    "pause": [{}],
    "batch": [{"401 responses": 0}] * 4,
}
# Yardsticks, which are not peers.
LEAST = {
    "cold": ["one future"],
    "busy": ["one future"],
    "cancel": ["the least that is safe"],
    "pause": ["the least that is safe"],
    "requests": ["the least middleware"],
    "instructions": ["the least middleware"],
    "file-cache": ["FileTokenCache alone"],
    "batch": ["a loop of aiohttp", "xargs curl", "wrk"],
}
NEEDS = {
    "httpx": importlib.util.find_spec("simplestore_async.httpx") and importlib.util.find_spec("httpx2"),
    "instructions": shutil.which("callgrind_control"),
}
# Other requirements of the extra `bench`.
NO_PEERS = {"click", "httpx2", "matplotlib", "msal-extensions", "trustme", "uvloop"}
# They take seconds, by their nature.
SLOW = {
    "providers",
    "pause",
    "batch",
    "instructions",
    "due",
    "processes",
    "growth",
    "cancel",
    "import",
    "memory",
    "requests",
}


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
    assert [f"{name}: {result['name']}" for result in found["results"]] == [
        line.partition("; goal")[0] for line in lines if not line.startswith(" ")
    ]
    ours = []
    for result in found["results"]:
        figure, *least = result["contenders"]
        assert (name, "simplestore-async") == (result["measure"], figure["name"])
        assert LEAST.get(name, []) == [other["name"] for other in least if not other["is_peer"]]
        for some in (figure, *least):
            if some["ratio"] is None:  # curl and wrk are not everywhere
                assert re.search("not installed|No such file", some["note"])
                continue
            assert min(result["floor"], some["median"], some["ratio"], result["goal"]) > 0
        ours.append(figure)
    assert COUNTS[name] == [figure["counts"] for figure in ours]
    assert {"python", "cores", "processor", "memory_bytes"} <= found["surroundings"].keys()
    assert {"aiohttp", "simplestore-async"} <= found["surroundings"]["versions"].keys()


def test_peers() -> None:
    """Each peer is there, or named with what to install."""
    code = "import json; from benchmarks._peers import MISSING, PEERS; print(json.dumps([*PEERS, *MISSING]))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.split(r"\[|>|;", requirement)[0] for requirement in project["optional-dependencies"]["bench"]}

    assert sorted(names - NO_PEERS) == sorted(json.loads(done.stdout))


def test_every_measure_is_run_here() -> None:
    """The table above names them all, and so does the benchmarks' own README."""
    source = (ROOT / "benchmarks" / "_measures" / "__init__.py").read_text()
    readme = (ROOT / "benchmarks" / "README.md").read_text()
    assert [*COUNTS] == sorted(re.findall(r'^    "([\w-]+)": measure_', source, re.MULTILINE), key=[*COUNTS].index)
    assert [] == [name for name in COUNTS if f"`{name}`" not in readme]
