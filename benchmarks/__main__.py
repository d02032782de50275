"""The command `python -m benchmarks`: run the measures, print their ratios, write them as JSON; draw the pictures."""

from __future__ import annotations

import asyncio
import json
import os
import platform
from importlib.metadata import version
from pathlib import Path

import attrs
import click

from ._measures import MEASURES, Scale
from ._pictures import PICTURES


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(sorted([*MEASURES, *PICTURES])))
@click.option("--quick", is_flag=True, help="Do little: the figures mean nothing, but the benchmarks are seen to work.")
@click.option("--json", "path", type=click.Path(path_type=Path, dir_okay=False), help="Write the results there, too.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=Path(__file__).parent,
    help="Write the pictures there, not here.",
)
def run(*, names: tuple[str, ...], quick: bool, path: Path | None, folder: Path) -> None:
    """Measure what NAMES say, or everything, each against its floor; or draw the pictures of that name."""
    results = []
    for name in names or MEASURES:
        if name in PICTURES:
            figures, picture = PICTURES[name]()
            (folder / f"{name}.svg").write_text(picture, encoding="utf-8", newline="\n")
            click.echo(f"{name}: {figures}")
            continue
        result = asyncio.run(MEASURES[name](Scale(is_quick=quick)))
        low, high = result.spread
        counts = "".join(f"; {count} {what}" for what, count in result.counts.items())
        click.echo(
            f"{result.name:<44} {result.ratio:6.3f} x floor (half of the rounds: {low:.3f} to {high:.3f}); "
            f"goal {result.goal:g}{'' if result.is_reached else ' MISSED'}; "
            f"{result.contender:.4g} against {result.floor:.4g} {result.unit}{counts}"
        )
        results.append(attrs.asdict(result) | {"measure": name})
    if path is not None:
        path.write_text(json.dumps({"results": results, "surroundings": _surroundings()}, indent=2) + "\n")


def _surroundings() -> dict[str, str | int | None]:
    packages = ("simplestore-async", "aiohttp", "attrs", "cattrs")
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        **{package: version(package) for package in packages},
    }


if __name__ == "__main__":
    run()
