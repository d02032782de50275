"""The command `python -m benchmarks`: run the measures, print their ratios, write them as JSON; draw the pictures."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ._charts import draw_results
from ._measures import MEASURES, Scale
from ._peers import MISSING, OURS, PEERS, versions
from ._pictures import PICTURES
from ._results import read_results

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._measure import Figure, Result

_HERE = Path(__file__).parent
_file = click.Path(path_type=Path, dir_okay=False)
_folder = click.Path(path_type=Path, file_okay=False, exists=True)


@click.command(epilog="`draw RESULTS.json` draws what --json wrote.")
@click.argument("names", nargs=-1, type=click.Choice([*MEASURES, *PICTURES]))
@click.option("--quick", is_flag=True, help="Do little: the figures mean nothing, but the benchmarks are seen to work.")
@click.option("--only-ours", is_flag=True, help="Leave the peers out.")
@click.option("--json", "path", type=_file, help="Write the results there, too.")
@click.option("--folder", type=_folder, default=_HERE, help="Write the pictures there, not here.")
def run(*, names: tuple[str, ...], quick: bool, only_ours: bool, path: Path | None, folder: Path) -> None:
    """Measure what NAMES say, or everything, each against its floor; or draw the pictures of that name."""
    scale = Scale(peers=(OURS,) if only_ours else (OURS, *PEERS.values()), is_quick=quick)
    found = []
    for name in names or MEASURES:
        if name in PICTURES:
            figures, picture = PICTURES[name]()
            (folder / f"{name}.svg").write_text(picture, encoding="utf-8", newline="\n")
            click.echo(f"{name}: {figures}")
            continue
        measure = MEASURES[name]
        if measure.is_on_uvloop and not find_spec("uvloop"):
            click.echo(f"{name}: uvloop is not installed", err=True)
            continue
        with asyncio.Runner(loop_factory=_uvloop() if measure.is_on_uvloop else None) as runner:
            results = runner.run(measure.run(scale))
        for result in results:
            _tell(result)
            found.append(result.as_json(name))
        if path is not None:  # after each, as all of them take long
            path.write_text(json.dumps({"surroundings": _surroundings(), "results": found}, indent=1) + "\n")
    if found and not only_ours:
        for name, reason in MISSING.items():
            click.echo(f"{name}: {reason}", err=True)


@click.command()
@click.argument("path", type=_file)
@click.option("--folder", type=_folder, help="Write the pictures there, not to `results`.")
def draw(*, path: Path, folder: Path | None) -> None:
    """Draw the results in the file PATH."""
    if folder is None:
        folder = _HERE / "results"
        folder.mkdir(exist_ok=True)
    for name, picture in draw_results(read_results(path)).items():
        (folder / name).write_text(picture, encoding="utf-8", newline="\n")


def _uvloop() -> Callable[[], asyncio.AbstractEventLoop]:
    import uvloop

    return uvloop.new_event_loop


def _tell(result: Result) -> None:
    goal = "" if result.goal is None else f"; goal {result.goal:g}"
    floor = "" if result.floor is None else f", {result.floor:.4g} {result.unit}"
    click.echo(f"{result.name} (floor: {result.floor_name}{floor}{goal})")
    for number, figure in enumerate(result.contenders):
        is_missed = not number and result.goal is not None and (figure.ratio or 0) > result.goal
        click.echo(f"  {figure.name:<22} {_describe(figure, result.unit)}{' MISSED' if is_missed else ''}")


def _describe(figure: Figure, unit: str) -> str:
    if figure.ratio is None or figure.spread is None:
        return f"      - {figure.note}"
    low, high = figure.spread
    counts = "".join(f"; {what}: {count}" for what, count in figure.counts.items())
    note = f"; {figure.note}" if figure.note else ""
    return f"{figure.ratio:7.3f} x ({low:.3f} to {high:.3f}), {figure.median:.4g} {unit}{counts}{note}"


def _surroundings() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "processor": _processor(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None,
        "versions": versions(),
    }


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def main() -> None:
    """Run the command that the first argument names."""
    if sys.argv[1:2] == ["draw"]:
        draw(args=sys.argv[2:], prog_name="python -m benchmarks draw")
    else:
        run(prog_name="python -m benchmarks")


if __name__ == "__main__":
    main()
