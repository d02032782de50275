"""The command `benchmarks/check OLD NEW`. Rule: only a change beyond the noise of both runs is reported as worse.

Judged are this package's ratios, counts, goals and missing figures; peers' figures and absolute times are not.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._results import Result, ResultsError, read_results

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["main"]

ERRORS = 3
"""Standard errors beyond which a difference is not noise: one in some hundreds of comparisons of the same code."""
LEAST = 0.001
"""The least change of a ratio that counts, also where all rounds were equal, as with bytes."""
WORSE = {"WORSE", "COUNT", "GOAL", "LOST"}

Finding = tuple[str, str]
"""A word and its details."""


def _compare(old: Sequence[Result], new: Sequence[Result]) -> Iterator[Finding]:
    before, after = ({result.key: result for result in results} for results in (old, new))
    measures = {result.measure for result in new}
    for key, result in before.items():
        title = ", ".join(key)
        if key in after:
            yield from ((word, f"{title}: {details}") for word, details in _changes(result, after[key]))
        elif result.measure in measures:
            yield "LOST", f"{title}: not in the new run"
        else:
            yield "absent", f"{title}: its measure was not run again"
    yield from (("added", ", ".join(key)) for key in after if key not in before)


def _changes(old: Result, new: Result) -> Iterator[Finding]:
    yield from _changed_ratio(old, new)
    if old.ours.ratio is not None and new.ours.ratio is not None and new.is_missed != old.is_missed:
        yield "GOAL" if new.is_missed else "goal", f"{new.ours.ratio:.4g} times the floor, and the goal is {new.goal:g}"
    if old.ours.rounds != new.ours.rounds:
        yield "differs", f"{old.ours.rounds} → {new.ours.rounds} rounds"
    for what, count in new.ours.counts.items():
        earlier = old.ours.counts.get(what, count)
        if count != earlier:
            yield "COUNT" if count > earlier else "better", f"{what} {earlier:,} → {count:,}"
    for what in sorted(old.ours.counts.keys() - new.ours.counts.keys()):
        yield "LOST", f"{what} are not counted any more"


def _changed_ratio(old: Result, new: Result) -> Iterator[Finding]:
    before, after = old.ours.ratio, new.ours.ratio
    if before is None:
        return
    if after is None:
        yield "LOST", f"not measured any more: {new.ours.note}"
        return
    details = f"{before:.4g} → {after:.4g} times the floor"
    if old.ours.error is None or new.ours.error is None:
        if after != before:
            yield "unsure", f"{details}; a single round has no estimate of its noise"
        return
    noise = max(ERRORS * (old.ours.error**2 + new.ours.error**2) ** 0.5, LEAST * before)
    if abs(after - before) > noise:
        yield "WORSE" if after > before else "better", f"{details} ({after - before:+.2g}; noise {noise:.2g})"


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Finding]:
    before, after = ({**found, **(found.get("versions") or {})} for found in (old, new))
    for name in sorted((before.keys() | after.keys()) - {"versions"}):
        if before.get(name) != after.get(name):
            yield "differs", f"{name}: {before.get(name, 'none')} → {after.get(name, 'none')}"


def main() -> int:
    """Print the changes; return 1 if something got worse, 0 if not; exit with 2 if nothing can be compared."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/check",
        description="Report what got worse for simplestore-async between two full runs on one machine.",
        epilog="Exit code: 1 if something got worse, 0 if nothing did, 2 if there was nothing to compare.",
    )
    for name in ("old", "new"):
        parser.add_argument(name, type=Path, metavar=name.upper(), help="written by `python -m benchmarks --json`")
    paths = parser.parse_args()
    try:
        (old_surroundings, old), (new_surroundings, new) = read_results(paths.old), read_results(paths.new)
    except (OSError, ResultsError) as error:
        parser.error(str(error))
    common = {result.key for result in old} & {result.key for result in new}
    if not common:
        parser.error("the two runs have no measure in common")
    findings = [*_differences(old_surroundings, new_surroundings), *_compare(old, new)]
    for word, details in sorted(findings, key=lambda finding: finding[0] not in WORSE):
        sys.stdout.write(f"{word:<8}{details}\n")
    worse = sum(word in WORSE for word, _ in findings)
    sys.stdout.write(f"{len(common)} compared; {worse or 'nothing'} got worse\n")
    return 1 if worse else 0
