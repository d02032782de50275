"""The command `benchmarks/check OLD NEW`. Rule: worse is only what exceeds the noise that both runs measured.

It judges this package, by four things: a ratio to the floor that rose by more than three standard errors of the
difference; a count that rose; a goal that was reached and is not; a figure that was there and is not. The ratios of
peers are not judged, and nor are absolute times.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._results import Outcome, Results, ResultsError, read_results

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["Finding", "compare_results", "main"]

ERRORS = 3
"""How many standard errors are more than noise: one comparison in some hundreds of unchanged code exceeds them."""
LEAST = 0.001
"""Less than this part of a ratio is none, even where no round differed from another, as with bytes."""


@dataclass(frozen=True)
class Finding:
    """What changed; *kind* is its first word in the output."""

    kind: str
    words: str

    @property
    def is_worse(self) -> bool:
        """Whether it fails the check."""
        return self.kind in {"WORSE", "COUNT", "GOAL", "LOST"}


def compare_results(old: Results, new: Results) -> list[Finding]:
    """Return what changed from one run to the other: what got worse first, then the rest."""
    before = {outcome.key: outcome for outcome in old.outcomes}
    after = {outcome.key: outcome for outcome in new.outcomes}
    measured = {outcome.measure for outcome in new.outcomes}
    findings = [*_different_surroundings(old.surroundings, new.surroundings)]
    for key, outcome in before.items():
        if key in after:
            findings += _changes(outcome, after[key])
        elif outcome.measure in measured:
            findings.append(Finding("LOST", f"{_title(outcome)}: not in the new run"))
        else:
            findings.append(Finding("absent", f"{_title(outcome)}: its measure was not run again"))
    findings += [Finding("added", _title(outcome)) for key, outcome in after.items() if key not in before]
    return sorted(findings, key=lambda finding: not finding.is_worse)


def _title(outcome: Outcome) -> str:
    return f"{outcome.measure}, {outcome.name}"


def _changes(old: Outcome, new: Outcome) -> Iterator[Finding]:
    title = _title(new)
    yield from _changed_ratio(title, old, new)
    if new.is_missed and not old.is_missed and old.ours.ratio is not None:
        yield Finding("GOAL", f"{title}: {new.ours.ratio:.4g} times the floor, and the goal is {new.goal:g}")
    if old.is_missed and not new.is_missed and new.ours.ratio is not None:
        yield Finding("goal", f"{title}: {new.ours.ratio:.4g} times the floor; the goal is reached now")
    if old.ours.rounds != new.ours.rounds:
        yield Finding("differs", f"{title}: {old.ours.rounds} → {new.ours.rounds} rounds")
    for what, count in new.ours.counts.items():
        earlier = old.ours.counts.get(what, count)
        if count != earlier:
            yield Finding("COUNT" if count > earlier else "better", f"{title}: {what} {earlier:,} → {count:,}")
    for what in sorted(old.ours.counts.keys() - new.ours.counts.keys()):
        yield Finding("LOST", f"{title}: {what} are not counted any more")


def _changed_ratio(title: str, old: Outcome, new: Outcome) -> Iterator[Finding]:
    before, after = old.ours.ratio, new.ours.ratio
    if before is None:
        return
    if after is None:
        yield Finding("LOST", f"{title}: not measured any more{': ' if new.ours.note else ''}{new.ours.note}")
        return
    words = f"{title}: {before:.4g} → {after:.4g} times the floor"
    if old.ours.error is None or new.ours.error is None:
        if after != before:
            yield Finding("unsure", f"{words}; a single round tells no noise")
        return
    noise = max(ERRORS * (old.ours.error**2 + new.ours.error**2) ** 0.5, LEAST * before)
    if abs(after - before) > noise:
        yield Finding("WORSE" if after > before else "better", f"{words} ({after - before:+.2g}; noise {noise:.2g})")


def _different_surroundings(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Finding]:
    before, after = _flat(old), _flat(new)
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            yield Finding("differs", f"{name}: {before.get(name, 'none')} → {after.get(name, 'none')}")


def _flat(surroundings: Mapping[str, Any]) -> dict[str, Any]:
    versions = surroundings.get("versions") or {}
    return {**{name: value for name, value in surroundings.items() if name != "versions"}, **versions}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what changed; return 1 if something got worse, 0 if not. Leave with 2 if there is nothing to compare."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/check",
        description="Name what got worse for simplestore-async from one run of the benchmarks to another, by more than "
        "the noise that both measured. Both should be full runs, on one machine.",
        epilog="Exit code: 1 if something got worse, 0 if nothing did, 2 if there was nothing to compare.",
    )
    for name in ("old", "new"):
        parser.add_argument(name, type=Path, metavar=name.upper(), help="as `python -m benchmarks --json` wrote it")
    paths = parser.parse_args(arguments)
    try:
        old, new = read_results(paths.old), read_results(paths.new)
    except (OSError, ResultsError) as error:
        parser.error(str(error))
    common = {outcome.key for outcome in old.outcomes} & {outcome.key for outcome in new.outcomes}
    if not common:
        parser.error("the two runs have no measure in common")
    findings = compare_results(old, new)
    worse = sum(finding.is_worse for finding in findings)
    for finding in findings:
        sys.stdout.write(f"{finding.kind:<8}{finding.words}\n")
    sys.stdout.write(f"{len(common)} compared; {worse or 'nothing'} got worse\n")
    return 1 if worse else 0
