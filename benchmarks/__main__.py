"""The command `python -m benchmarks`: run measures, print tables, write JSON, make the page of results."""

from __future__ import annotations

import asyncio
import cProfile
import os
import platform
import pstats
import sys
from pathlib import Path
from typing import Any

import click

from ._compare import Scale
from ._measures import MEASURES
from ._peers import MISSING, PEERS, versions
from ._results import Run, describe_result

_HERE = Path(__file__).parent
_file = click.Path(path_type=Path, dir_okay=False)
_directory = click.Path(path_type=Path, file_okay=False, exists=True)


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.pass_context
def main(context: click.Context) -> None:
    """Measure everything, or make the page of results."""
    if context.invoked_subcommand is None:
        context.invoke(run)


@main.command()
@click.argument("names", nargs=-1, type=click.Choice([*MEASURES]))
@click.option("--quick", is_flag=True, help="Few samples; figures are meaningless, but every measure runs.")
@click.option("--only-ours", is_flag=True, help="This package without its peers.")
@click.option("--uvloop", "has_uvloop", is_flag=True, help="Event loop of uvloop.")
@click.option("--profile", "has_profile", is_flag=True, help="A profile of this package's turns by cProfile.")
@click.option("--json", "path", type=_file, help="File for the results.")
def run(  # noqa: PLR0913 - one for each option
    *,
    names: tuple[str, ...] = (),
    quick: bool = False,
    only_ours: bool = False,
    has_uvloop: bool = False,
    has_profile: bool = False,
    path: Path | None = None,
) -> None:
    """Run all measures, or those with these NAMES."""
    loop_factory = None
    if has_uvloop:
        import uvloop

        loop_factory = uvloop.new_event_loop
    profiler = cProfile.Profile() if has_profile else None
    scale = Scale(peers=() if only_ours else tuple(PEERS.values()), is_quick=quick, profiler=profiler)
    found = Run(surroundings=_surroundings(has_uvloop=has_uvloop), results=[])
    for name in names or MEASURES:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            results = runner.run(MEASURES[name](scale))
        for result in results:
            click.echo(describe_result(result))
        found.results.extend(results)
        if path is not None:  # after each measure, as a whole run takes long
            found.write(path)
    if profiler is not None:
        pstats.Stats(profiler).sort_stats("tottime").print_stats(30)
    if MISSING and not only_ours:
        click.echo(f"not installed, see the extra `bench`: {', '.join(MISSING)}", err=True)


@main.command()
@click.argument("paths", nargs=-1, type=_file, required=True)
@click.option("--directory", type=_directory, default=_HERE / "results", help="Directory for the page and its charts.")
def page(*, paths: tuple[Path, ...], directory: Path) -> None:
    """Write a table of the runs in PATHS, a column for each, and charts of the first."""
    from ._charts import write_page

    write_page({path.stem: Run.read(path) for path in paths}, directory)


@main.command()
@click.argument("names", nargs=-1, type=click.Choice(["day", "fleet"]))
@click.option("--directory", type=_directory, default=_HERE, help="Directory for the pictures.")
def play(*, names: tuple[str, ...], directory: Path) -> None:
    """Simulate a day or a fleet in production, and draw it."""
    from ._production import draw_day, draw_fleet

    for name, picture in {"day": draw_day, "fleet": draw_fleet}.items():
        if not names or name in names:
            click.echo(f"{name}: {picture(directory / f'{name}.svg')}")


def _surroundings(*, has_uvloop: bool) -> dict[str, Any]:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "event_loop": "uvloop" if has_uvloop else "asyncio",
        "system": f"{platform.system()} {platform.machine()}",
        "processor": (models or [platform.processor()])[0],
        "cores": os.cpu_count(),
        "load": [round(load, 1) for load in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "versions": versions(),
    }


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] not in {*main.commands, "-h", "--help"}:
        sys.argv.insert(1, "run")
    main(prog_name="python -m benchmarks")
