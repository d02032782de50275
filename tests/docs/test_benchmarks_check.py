"""`benchmarks/check` reports what got worse; `python -m benchmarks` prints and draws results."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"


def contender(name: str, ratio: float | None, *, note: str = "", is_peer: bool = True, **counts: int) -> dict[str, Any]:
    return {
        "name": name,
        "is_peer": is_peer,
        "median": ratio and 100 * ratio,
        "ratio": ratio,
        "spread": ratio and [ratio - 0.01, ratio + 0.02],
        "rounds": 100 if ratio else 0,
        "counts": {what.replace("_", " "): count for what, count in counts.items()},
        "note": note,
    }


def result(measure: str, name: str, goal: float | None, *contenders: dict[str, Any]) -> dict[str, Any]:
    floor = {"floor_name": "the least", "floor": 100.0}
    return {"measure": measure, "name": name, "unit": "ns", "goal": goal, **floor, "contenders": [*contenders]}


REASON = "cannot be pointed at a server on this machine, " * 6
RUN: dict[str, Any] = {
    "surroundings": {"python": "3.11.9", "cores": 2, "versions": {"aiohttp": "3.14.5", "msal": "1.39"}},
    "results": [
        result(
            "cached",
            "cached get_token()",
            1.3,
            contender("simplestore-async", 1.2, token_requests=1),
            contender("a-peer-of-a-long-name", 120.0, token_requests=3),
            contender("no client", 1.1, is_peer=False),
            contender("another", None, note=REASON),
        ),
        result("cold", "cold: wall", 1.25, contender("simplestore-async", 1.1, token_requests=1)),
        result(
            "cold",
            "cold: the <slowest> & the others, with words that need more than a single line of the picture",
            1.3,
            contender("simplestore-async", 1.4, note="the first call opens a connection"),
            contender("a-peer-of-a-long-name", 0.8),
        ),
        {
            **result("growth", "growth", 1.2, contender("simplestore-async", None)),
            "points": {
                name: [[10**power, cost + 1e-3 / 10**power] for power in range(6)]
                for name, cost in {"floor": 1e-5, "simplestore-async": 1.1e-5, "a-peer-of-a-long-name": 1.12e-5}.items()
            },
        },
        result("due", "without a goal", None, contender("simplestore-async", 1.0)),
    ],
}


class Check:
    """The script, with the run above as the old one."""

    def __init__(self, directory: Path) -> None:
        self.old, self.new = directory / "old.json", directory / "new.json"
        self.old.write_text(json.dumps(RUN))
        self.changed: dict[str, Any] = copy.deepcopy(RUN)

    @property
    def ours(self) -> dict[str, Any]:
        """What this package did in the first measure of the new run."""
        found: dict[str, Any] = self.changed["results"][0]["contenders"][0]
        return found

    def run(self) -> tuple[int, list[str]]:
        """Return the exit code and the findings, without the line that counts them."""
        self.new.write_text(json.dumps(self.changed))
        code, stdout, stderr = run_check(str(self.old), str(self.new))
        assert "" == stderr
        *findings, last = stdout.splitlines()
        assert re.fullmatch(r"\d+ compared; (\d+|nothing) got worse", last)
        return code, findings


def run_check(*arguments: str) -> tuple[int, str, str]:
    command = [sys.executable, str(ROOT / "benchmarks" / "check"), *arguments]
    process = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    return process.returncode, process.stdout, process.stderr


@pytest.fixture
def check(tmp_path: Path) -> Check:
    return Check(tmp_path)


def test_same_run(check: Check) -> None:
    """A run is no worse than itself."""
    assert (0, []) == check.run()


# Each run errs by 0.93 * 0.03 / sqrt(100) = 0.0028; three times that of both together is 0.0118.
@pytest.mark.parametrize(("ratio", "words"), [(1.211, None), (1.213, "WORSE"), (1.189, None), (1.187, "better")])
def test_ratio(check: Check, ratio: float, words: str | None) -> None:
    """A ratio that rose by more than the noise of both runs is worse, one that fell by as much is better."""
    check.ours["ratio"] = ratio
    code, findings = check.run()
    assert int(words == "WORSE") == code
    assert ([words] if words else []) == [line.split()[0] for line in findings]
    assert all(f"cached, cached get_token(): 1.2 → {ratio} times the floor" in line for line in findings)


def test_noise_is_each_runs_own(check: Check) -> None:
    """A run that was noisy proves less."""
    check.ours.update(ratio=1.213, spread=[1.1, 1.3])
    assert (0, []) == check.run()


def test_no_noise(check: Check) -> None:
    """Where no round differs from another, a thousandth is worse, and less is not."""
    results = RUN["results"][0]["contenders"][0] | {"spread": [1.2, 1.2]}
    check.old.write_text(json.dumps({**RUN, "results": [{**RUN["results"][0], "contenders": [results]}]}))
    check.changed["results"] = check.changed["results"][:1]
    check.ours.update(ratio=1.201, spread=[1.201, 1.201])
    assert (0, []) == check.run()
    check.ours.update(ratio=1.202)
    code, [finding] = check.run()
    assert (1, "WORSE") == (code, finding.split()[0])


def test_single_round(check: Check) -> None:
    """A single round has no spread, and a change that could be noise does not fail the check."""
    check.ours.update(ratio=1.29, rounds=1)
    code, findings = check.run()
    assert 0 == code
    assert ["differs", "unsure"] == sorted(line.split()[0] for line in findings)


def test_count(check: Check) -> None:
    """A second token request is worse, however fast."""
    check.ours["counts"]["token requests"] = 2
    assert (1, ["COUNT   cached, cached get_token(): token requests 1 → 2"]) == check.run()


def test_goal_newly_missed(check: Check) -> None:
    """A goal that was reached and is not any more is worse; one that was missed before is not named again."""
    check.ours.update(ratio=1.31, spread=[1.0, 2.0])
    code, [finding] = check.run()
    assert (1, "GOAL    cached, cached get_token(): 1.31 times the floor, and the goal is 1.3") == (code, finding)


def test_goal_newly_reached(check: Check) -> None:
    """A goal that was missed and is reached is reported."""
    check.changed["results"][2]["contenders"][0]["ratio"] = 1.2
    code, findings = check.run()
    assert (0, ["better", "goal"]) == (code, [line.split()[0] for line in findings])


def test_lost_figure(check: Check) -> None:
    """What is not measured any more does not pass for what is no worse."""
    check.ours.update(median=None, ratio=None, spread=None, rounds=0, note="TimeoutError", counts={})
    del check.changed["results"][1]
    code, findings = check.run()
    assert 1 == code
    assert [
        "LOST    cached, cached get_token(): not measured any more: TimeoutError",
        "LOST    cached, cached get_token(): token requests are not counted any more",
        "LOST    cold, cold: wall: not in the new run",
    ] == findings[:3]


def test_fewer_measures(check: Check) -> None:
    """A measure that was not run again is named, and is no failure."""
    check.changed["results"] = check.changed["results"][:1]
    code, findings = check.run()
    assert (0, {"absent"}, 4) == (code, {line.split()[0] for line in findings}, len(findings))


def test_worse_comes_first(check: Check) -> None:
    """What got worse stands before what got better."""
    check.changed["results"][1]["contenders"][0]["ratio"] = 1.2
    check.ours["ratio"] = 1.0
    code, findings = check.run()
    assert (1, ["WORSE", "better"]) == (code, [line.split()[0] for line in findings])


def test_peers_are_not_judged(check: Check) -> None:
    """A peer that got slower is no failure."""
    check.changed["results"][0]["contenders"][1].update(ratio=500.0, counts={"token requests": 50})
    assert (0, []) == check.run()


def test_surroundings(check: Check) -> None:
    """Another machine and other versions are named, since ratios of different ones say little."""
    check.changed["surroundings"].update(cores=8, versions={"aiohttp": "3.15.0"})
    assert (
        0,
        ["differs aiohttp: 3.14.5 → 3.15.0", "differs cores: 2 → 8", "differs msal: 1.39 → none"],
    ) == check.run()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        ("{", "Expecting"),
        ("[]", "no results of the benchmarks"),
        ('{"results": [{}], "surroundings": {}}', "KeyError"),
        ('{"results": [], "surroundings": {}}', "no measure in common"),
        (json.dumps({**RUN, "results": [RUN["results"][0]] * 2}), "the same measure and name"),
    ],
    ids=["none", "no-json", "a-list", "no-result", "empty", "twice"],
)
def test_no_results(check: Check, content: str | None, words: str) -> None:
    """A file that is none, or no results, is wrong usage; so is a single file."""
    if content is not None:
        check.new.write_text(content)
    code, stdout, stderr = run_check(str(check.old), str(check.new))
    assert (2, "") == (code, stdout)
    assert words in stderr
    assert "Traceback" not in stderr


def test_usage(check: Check) -> None:
    """One file is not enough."""
    code, _, stderr = run_check(str(check.old))
    assert 2 == code
    assert "NEW" in stderr


def test_needs_no_package(check: Check) -> None:
    """The script runs as a command, from anywhere, by a Python that has no package installed."""
    command = [sys.executable, "-I", "-S", str(ROOT / "benchmarks" / "check"), str(check.old), str(check.old)]
    process = subprocess.run(command, capture_output=True, cwd=check.old.parent, check=False)
    assert (0, b"") == (process.returncode, process.stderr)
    assert os.access(ROOT / "benchmarks" / "check", os.X_OK)


def run_benchmarks(*arguments: str) -> str:
    """Return what the command prints."""
    command = [sys.executable, "-m", "benchmarks", *arguments]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert (0, "") == (process.returncode, process.stderr)
    return process.stdout


def test_table_of_runs(tmp_path: Path) -> None:
    """The table has a column for each run, and a missed goal in bold."""
    runs = [tmp_path / "3.11.json", tmp_path / "3.13.json"]
    runs[0].write_text(json.dumps(RUN))
    runs[1].write_text(json.dumps({**RUN, "results": RUN["results"][:1]}))
    head, _, cached, _, slowest, *_ = run_benchmarks("table", *map(str, runs)).splitlines()
    assert "| measure | goal | 3.11 | 3.13 |" == head
    assert "| cached get_token() | 1.3 | 1.200\u00d7 | 1.200\u00d7 |" == cached
    assert slowest.endswith("| 1.3 | **1.400\u00d7** | - |")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ET.Element]:
    """The charts of the run above."""
    pytest.importorskip("matplotlib")
    directory = tmp_path_factory.mktemp("pictures")
    path = directory / "run.json"
    path.write_text(json.dumps(RUN))
    run_benchmarks("draw", str(path), "--directory", str(directory))
    return {drawn.stem: ET.fromstring(drawn.read_text("utf-8")) for drawn in directory.glob("*.svg")}  # noqa: S314 - ours


def words_of(picture: ET.Element) -> str:
    return " ".join("".join(text.itertext()) for text in picture.iter(f"{SVG}text"))


def test_chart_for_each_measure(pictures: dict[str, ET.Element]) -> None:
    """Each measure has a chart, and all have one together."""
    assert {"cached", "cold", "growth", "due", "overview"} == pictures.keys()


def test_charts_have_themes_and_descriptions(pictures: dict[str, ET.Element]) -> None:
    """Each chart has a title, a description with this package's name, and colours for light and dark."""
    for picture in pictures.values():
        title, description, style = (picture.find(f"{SVG}{tag}") for tag in ("title", "desc", "style"))
        assert title is not None
        assert title.text
        assert description is not None
        assert "simplestore-async" in (description.text or "")
        assert style is not None
        assert "@media (prefers-color-scheme:dark)" in (style.text or "")


def test_bars(pictures: dict[str, ET.Element]) -> None:
    """Each contender has its name, ratio, median and counts; a contender without a ratio is in the description."""
    words = words_of(pictures["cached"])
    for expected in (
        "simplestore-async",
        "1.200\u00d7 = 120 ns, token requests: 1",
        "goal 1.3\u00d7",
        "120\u00d7 = 12,000 ns",
    ):
        assert expected in words
    assert "another not measured" in (pictures["cached"].findtext(f"{SVG}desc") or "")


def test_overview(pictures: dict[str, ET.Element]) -> None:
    """The overview names the best peer, which a yardstick is not, and a missed goal."""
    words = words_of(pictures["overview"])
    assert "1.200\u00d7 (goal 1.3\u00d7); best peer a-peer-of-a-long-name 120\u00d7" in words
    assert "1.400\u00d7 (goal 1.3\u00d7, missed)" in words
    assert "best peer no client" not in words


def test_growth(pictures: dict[str, ET.Element]) -> None:
    """Each curve has its name."""
    words = words_of(pictures["growth"])
    assert all(name in words for name in ("floor", "simplestore-async", "a-peer-of-a-long-name"))
