"""An event loop without I/O, with virtual time and a chosen order of steps."""

from __future__ import annotations

import asyncio
import heapq
from math import inf
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs one ready handle at a time, selected by *choose*; time advances when none is ready.

    Without *choose* it is the first one, as in asyncio's loops.
    Tasks with the same name that wait at the same place are interchangeable: they count as one choice.
    It uses private names of asyncio's base loop, since there is no public way to choose the next handle.
    """

    _ready: Any
    _scheduled: list[Any]

    def __init__(self, choose: Callable[[int], int] | None = None) -> None:
        super().__init__()
        self.set_debug(False)  # in development mode each of a million tasks would record its stack
        self._choose = choose
        self._now = 1_000.0
        self.complaints: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.complaints.append(context))

    def time(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Advance the time and make due handles ready."""
        self._now += seconds
        self._collect_due()

    @property
    def has_work(self) -> bool:
        """Whether a handle is ready at the current time."""
        self._collect_due()
        return bool(self._ready)

    @property
    def next_at(self) -> float:
        """The time of the next timer, or infinity."""
        self._collect_due()
        return self._scheduled[0]._when if self._scheduled else inf

    def run_ready(self) -> None:
        """Run until no handle is ready at the current time."""

        async def until_idle() -> None:
            while len(self._ready):
                await asyncio.sleep(0)

        self.run_until_complete(until_idle())

    def _collect_due(self) -> None:
        while self._scheduled and (self._scheduled[0]._cancelled or self._scheduled[0]._when <= self._now):
            handle = heapq.heappop(self._scheduled)
            handle._scheduled = False
            if not handle._cancelled:
                self._ready.append(handle)

    def _run_once(self) -> None:
        self._collect_due()
        if not self._ready and self._scheduled:
            self._now = self._scheduled[0]._when
            self._collect_due()
        if not self._ready:
            raise RuntimeError("a task waits, but no handle is left to run")
        position = 0 if self._choose is None else self._choose_position(self._choose)
        handle = self._ready[position]
        del self._ready[position]
        if not handle._cancelled:
            handle._run()

    def _choose_position(self, choose: Callable[[int], int]) -> int:
        positions: dict[object, int] = {}
        for position, handle in enumerate(self._ready):
            positions.setdefault(_kind_of(handle), position)
        options = list(positions.values())
        return options[choose(len(options)) if len(options) > 1 else 0]

    def _process_events(self, _events: object) -> None: ...

    def _write_to_self(self) -> None: ...


def _kind_of(handle: asyncio.Handle) -> object:
    task = getattr(handle._callback, "__self__", None)  # type: ignore[attr-defined]  # a private name
    if not isinstance(task, asyncio.Task):
        return id(handle)
    frame = getattr(task.get_coro(), "cr_frame", None)
    return id(handle) if frame is None else (task.get_name(), frame.f_lasti)


def run_chosen(scenario: Callable[[], Coroutine[Any, Any, None]], choices: Sequence[int]) -> list[tuple[int, int]]:
    """Run *scenario* with the given choices, then always the first; return each choice and the number of options."""
    made: list[tuple[int, int]] = []

    def choose(count: int) -> int:
        choice = choices[len(made)] if len(made) < len(choices) else 0
        made.append((choice, count))
        return choice

    loop = VirtualLoop(choose)
    try:
        loop.run_until_complete(scenario())
        loop.run_until_complete(asyncio.sleep(0))
        left_over = asyncio.all_tasks(loop)
    finally:
        loop.close()
    assert not left_over
    assert not loop.complaints
    return made


def every_schedule(scenario: Callable[[], Coroutine[Any, Any, None]]) -> Iterator[list[int]]:
    """Run *scenario* in every possible order, depth first; yield the choices of each run."""
    choices: list[int] = []
    while True:
        made = run_chosen(scenario, choices)
        yield [choice for choice, _ in made]
        while made and made[-1][0] + 1 >= made[-1][1]:
            made.pop()
        if not made:
            return
        choices = [choice for choice, _ in made]
        choices[-1] += 1
