"""`benchmarks/check` names what got worse, and `python -m benchmarks draw` shows what was measured."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"
LETTER = 7.2
"""How wide a letter is, at the most, on average."""


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
    floor = {"name": "the least", "median": 100.0}
    return {"measure": measure, "name": name, "unit": "ns", "goal": goal, "floor": floor, "contenders": [*contenders]}


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

    def __init__(self, folder: Path) -> None:
        self.old, self.new = folder / "old.json", folder / "new.json"
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
    """A single round tells no noise, and a change that could be noise does not fail the check."""
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
    """A goal that was missed and is reached is told."""
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


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ET.Element]:
    """What the command draws of the run above."""
    folder = tmp_path_factory.mktemp("pictures")
    path = folder / "run.json"
    path.write_text(json.dumps(RUN))
    command = [sys.executable, "-m", "benchmarks", "draw", str(path), "--folder", str(folder)]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert (0, "") == (process.returncode, process.stderr)
    return {drawn.stem: ET.fromstring(drawn.read_text("utf-8")) for drawn in folder.glob("*.svg")}  # noqa: S314 - ours


def words_of(picture: ET.Element) -> list[str]:
    return [text.text or "" for text in picture.iter(f"{SVG}text")]


def test_a_picture_for_each_measure(pictures: dict[str, ET.Element]) -> None:
    """Each measure has a picture, and all of them one together."""
    assert {"cached", "cold", "growth", "due", "overview"} == pictures.keys()


def test_pictures_speak(pictures: dict[str, ET.Element]) -> None:
    """Each says in words what it shows, and has colours for light and for dark."""
    for picture in pictures.values():
        [title], [description], [style] = (picture.findall(f"{SVG}{tag}") for tag in ("title", "desc", "style"))
        assert "title description" == picture.get("aria-labelledby")
        assert title.text
        assert "simplestore-async" in (description.text or "")
        assert "@media (prefers-color-scheme:dark)" in (style.text or "")


def test_bars(pictures: dict[str, ET.Element]) -> None:
    """Each contender has its name, and its ratio, or the whole reason why there is none; the goal is written."""
    words = words_of(pictures["cached"])
    expected = {"simplestore-async", "1.20\u00d7", "120 ns", "1 token request", "goal 1.3\u00d7"}
    assert expected | {"a-peer-of-a-long-name", "120\u00d7", "3 token requests", "another"} <= {*words}
    assert REASON.strip() in " ".join(words)
    bars = [float(bar.get("width", 0)) for bar in pictures["cached"].iter(f"{SVG}rect") if not bar.get("rx")]
    assert 3 == len(bars)
    assert bars[1] < bars[0] < bars[2]


def test_overview(pictures: dict[str, ET.Element]) -> None:
    """Beside this package stands the best of its peers; what no program could use is none of them."""
    words = words_of(pictures["overview"])
    assert {"1.20\u00d7", "120\u00d7", "a-peer-of-a-long-name"} <= {*words}
    assert "no client" not in words


def test_missed_goal(pictures: dict[str, ET.Element]) -> None:
    """A missed goal is told in words and in colour."""
    assert any("Goal: 1.3\u00d7, missed." in words for words in words_of(pictures["cold"]))
    kinds = [bar.get("class") for bar in pictures["cold"].iter(f"{SVG}rect")]
    assert ["ground", "good", "bad", "faint"] == kinds
    assert "goal 1.3\u00d7 missed" in words_of(pictures["overview"])


def test_growth(pictures: dict[str, ET.Element]) -> None:
    """Each curve has its name at its end, and no two names lie upon each other."""
    curves = pictures["growth"].findall(f"{SVG}path[@class]")
    assert 6 == len(curves)  # a line and its dots
    names = {"floor", "simplestore-async", "a-peer-of-a-long-name"}
    ends = sorted(
        float(text.get("y", 0))
        for text in pictures["growth"].iter(f"{SVG}text")
        if text.text in names and float(text.get("x", 0)) > 700
    )
    assert 3 == len(ends)
    assert all(low + 14 <= high for low, high in pairwise(ends))


def test_words_fit(pictures: dict[str, ET.Element]) -> None:
    """No words leave the sheet, and on one line no two run into each other."""
    for name, picture in pictures.items():
        _, _, width, height = (float(edge) for edge in picture.get("viewBox", "").split())
        lines: dict[float, list[tuple[float, float, str]]] = {}
        for text in picture.iter(f"{SVG}text"):
            words, x, y = text.text or "", float(text.get("x", 0)), float(text.get("y", 0))
            length = len(words) * LETTER * (17 / 13 if "title" in text.get("class", "") else 1)
            start = x - {"start": 0, "middle": length / 2, "end": length}[text.get("text-anchor", "start")]
            assert start >= 0, (name, words)
            assert start + length <= width, (name, words)
            assert 0 < y < height, (name, words)
            lines.setdefault(y, []).append((start, start + length, words))
        for line in lines.values():
            for (_, end, words), (start, _, then) in pairwise(sorted(line)):
                assert end <= start, (name, words, then)
