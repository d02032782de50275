"""The benchmarks work: each is run on the least scale. Nothing is said of what they measure, but of what they count."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
COUNTS = {
    "cached": {"token requests": 1},
    "cold": {"providers": 3, "token requests": 3},
    "middleware": {"answered 401": 0},
    "import": {},
    "memory": {},
}


@pytest.mark.parametrize("name", COUNTS)
async def test_measure(name: str, tmp_path: Path) -> None:
    """A measure ends, prints its line, and writes what it found: ratio, goal, surroundings and counts."""
    path = tmp_path / "results.json"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks", "--quick", "--json", str(path), name),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        stdout, stderr = await process.communicate()

    assert (0, "") == (process.returncode, stderr.decode())
    (line,) = stdout.decode().splitlines()
    found: dict[str, Any] = json.loads(path.read_text())
    (result,) = found["results"]
    assert line.startswith(result["name"])
    assert name == result["measure"]
    assert min(result["floor"], result["contender"], result["ratio"], result["goal"]) > 0
    assert COUNTS[name] == result["counts"]
    assert {"python", "aiohttp", "simplestore-async", "cores"} <= found["surroundings"].keys()


def test_every_measure_is_run_here() -> None:
    """The table above names them all, and so does the benchmarks' own README."""
    source = (ROOT / "benchmarks" / "_measures.py").read_text()
    readme = (ROOT / "benchmarks" / "README.md").read_text()
    for name in COUNTS:
        assert f'"{name}": measure_{name}' in source
        assert f"| `{name}` |" in readme
    assert len(COUNTS) == source.count('": measure_')
