"""The command `python -m benchmarks`: run measures, print a table, write JSON, draw."""

from __future__ import annotations

import asyncio
import os
import platform
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ._measures import MEASURES, Scale
from ._peers import MISSING, PEERS, versions
from ._results import read_results, write_results
from ._tables import print_table, table_of_runs

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._results import Result

_HERE = Path(__file__).parent
_file = click.Path(path_type=Path, dir_okay=False)
_directory = click.Path(path_type=Path, file_okay=False, exists=True)


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.pass_context
def main(context: click.Context) -> None:
    """Measure everything, or draw results and compare them."""
    if context.invoked_subcommand is None:
        context.invoke(run)


@main.command()
@click.argument("names", nargs=-1, type=click.Choice([*MEASURES]))
@click.option("--quick", is_flag=True, help="Few samples; figures are meaningless, but every measure runs.")
@click.option("--only-ours", is_flag=True, help="This package without its peers.")
@click.option("--uvloop", "has_uvloop", is_flag=True, help="Event loop of uvloop.")
@click.option("--json", "path", type=_file, help="File for the results.")
@click.option("--charts", type=_directory, help="Directory for the charts.")
def run(  # noqa: PLR0913 - one for each option
    *,
    names: tuple[str, ...] = (),
    quick: bool = False,
    only_ours: bool = False,
    has_uvloop: bool = False,
    path: Path | None = None,
    charts: Path | None = None,
) -> None:
    """Run all measures, or those with these NAMES."""
    scale = Scale(peers=() if only_ours else tuple(PEERS.values()), is_quick=quick)
    surroundings = _surroundings(has_uvloop=has_uvloop)
    results: list[Result] = []
    for name in names or MEASURES:
        with asyncio.Runner(loop_factory=_uvloop() if has_uvloop else None) as runner:
            found = runner.run(MEASURES[name](scale))
        for result in found:
            print_table(result)
        results += found
        if path is not None:  # after each measure, as a whole run takes long
            write_results(path, surroundings, results)
    if results and not only_ours:
        for name, reason in MISSING.items():
            click.echo(f"{name}: {reason}", err=True)
    if charts is not None:
        _draw(surroundings, results, charts)


@main.command()
@click.argument("path", type=_file)
@click.option("--directory", type=_directory, default=_HERE / "results", help="Directory for the charts.")
def draw(*, path: Path, directory: Path) -> None:
    """Draw the results in PATH."""
    _draw(*read_results(path), directory)


@main.command()
@click.argument("paths", nargs=-1, type=_file, required=True)
def table(*, paths: tuple[Path, ...]) -> None:
    """Print the results in PATHS side by side, in Markdown."""
    click.echo(table_of_runs({path.stem: read_results(path)[1] for path in paths}))


@main.command()
@click.argument("names", nargs=-1, type=click.Choice(["day", "fleet"]))
@click.option("--directory", type=_directory, default=_HERE, help="Directory for the pictures.")
def play(*, names: tuple[str, ...], directory: Path) -> None:
    """Simulate a day or a fleet in production, and draw it."""
    from ._production import draw_day, draw_fleet

    for name, picture in {"day": draw_day, "fleet": draw_fleet}.items():
        if not names or name in names:
            click.echo(f"{name}: {picture(directory / f'{name}.svg')}")


def _draw(surroundings: dict[str, Any], results: list[Result], directory: Path) -> None:
    if not find_spec("matplotlib"):
        raise click.ClickException("charts need matplotlib: pip install 'simplestore-async[bench]'")
    from ._charts import draw_results

    draw_results(surroundings, results, directory)


def _uvloop() -> Callable[[], asyncio.AbstractEventLoop]:
    if not find_spec("uvloop"):
        raise click.ClickException("uvloop is not installed")
    import uvloop

    return uvloop.new_event_loop


def _surroundings(*, has_uvloop: bool) -> dict[str, Any]:
    has_sysconf = hasattr(os, "sysconf")
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "event_loop": "uvloop" if has_uvloop else "asyncio",
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "processor": _processor(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if has_sysconf else None,
        "versions": versions(),
    }


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] not in {*main.commands, "-h", "--help"}:
        sys.argv.insert(1, "run")
    main(prog_name="python -m benchmarks")
