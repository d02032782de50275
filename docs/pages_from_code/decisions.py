"""The table of decisions. Rule: it is the code's own, cell by cell."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from simplestore_async._core.state import DEFAULT_POLICY, TABLE, Endpoint, State

__all__ = ["list_decisions", "list_plots", "number_of"]

_RESULTS: Final = Path(__file__).parent.parent.parent / "benchmarks" / "results"


def list_decisions() -> str:
    """Return the table in Markdown: a row for each state of the token, a column for each of the endpoint."""
    head = ["the token is …", *(f"the endpoint {endpoint.value}" for endpoint in Endpoint)]
    rows = [
        [f"**{state.name.lower()}** ({state.value})", *(TABLE[state, endpoint].value for endpoint in Endpoint)]
        for state in State
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *rows])


def number_of(field: str) -> str:
    """Return the default of a field of `RenewalPolicy`, as it is written in a sentence.

    Raises:
        AttributeError: if there is no such field.
    """
    return f"{getattr(DEFAULT_POLICY, field):g}"


def list_plots(results: Path = _RESULTS) -> str:
    """Return the benchmarks' plots in Markdown, that of all measures first; nothing if they were not drawn."""
    plots = sorted(results.glob("*.svg"), key=lambda plot: (plot.stem != "overview", plot.stem))
    return "\n\n".join(f"![{plot.stem}](../benchmarks/results/{plot.name})" for plot in plots)
