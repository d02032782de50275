"""`SingleFlight` on every kind of event loop."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from simplestore_async._core.single_flight import Flight, SingleFlight
from simplestore_async.errors import ProviderClosedError, TokenCacheError, TokenTransportError
from tests.support.loops import LOOPS, LoopFactory

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

CANCELLED = TokenTransportError("the program cancelled it")
CLOSED = ProviderClosedError()

pytestmark = pytest.mark.every_loop


async def ticks(count: int) -> None:
    """Let the event loop turn *count* times."""
    for _ in range(count):
        await asyncio.sleep(0)


class Operation(Flight[object]):
    """A flight that ends with a given result or error once its gate opens."""

    def __init__(self, outcome: object = "outcome", *, is_open: bool = False) -> None:
        super().__init__(cancelled=CANCELLED)
        self.outcome = outcome
        self.run_count = 0
        self.is_finished = False
        self.task: weakref.ref[asyncio.Task[Any]] | None = None
        self.gate = asyncio.Event()
        if is_open:
            self.gate.set()

    def cancel_from_outside(self) -> None:
        """Cancel the task, as an unrelated part of the program might."""
        task = self.task and self.task()
        assert isinstance(task, asyncio.Task)
        task.cancel()

    async def run(self) -> object:
        task = asyncio.current_task()
        assert task is not None
        self.task = weakref.ref(task)
        self.run_count += 1
        if not self.gate.is_set():
            await self.gate.wait()
        self.is_finished = True
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


class Custom(Operation):
    """A flight that runs a given coroutine function."""

    def __init__(self, work: Callable[[], Coroutine[Any, Any, object]]) -> None:
        super().__init__()
        self.work = work

    async def run(self) -> object:
        return await self.work()


async def settle(operation: Operation, waiters: list[asyncio.Future[object]]) -> list[object]:
    """Let *operation* end, and return the outcomes of *waiters*."""
    operation.gate.set()
    async with asyncio.timeout(60):  # a waiter that is never woken must not hang the test
        return await asyncio.gather(*waiters, return_exceptions=True)


async def take_off(operation: Operation, waiters: int) -> tuple[SingleFlight[Operation], list[asyncio.Future[object]]]:
    """Start *operation*, and return its slot and the futures of that many waiters."""
    flights = SingleFlight[Operation]()
    await flights.start(operation)
    return flights, [flights.join() for _ in range(waiters)]


OUTCOMES = pytest.mark.parametrize(
    "outcome",
    ["outcome", TokenTransportError("refused"), KeyError("of another base")],
    ids=["success", "failure", "other"],
)


@OUTCOMES
async def test_every_waiter_gets_the_outcome(outcome: object) -> None:
    """A thousand waiters get the outcome of one run, with an error as a value."""
    flights, waiters = await take_off(operation := Operation(outcome), 1_000)
    assert (1_000, True, operation) == (operation.waiter_count, flights.is_taken(), flights.current)

    results = await settle(operation, waiters)

    assert 1_000 == sum(result is outcome for result in results)
    assert (1, False, None) == (operation.run_count, flights.is_taken(), flights.current)


async def test_a_cancelled_waiter_ends_only_its_own_wait() -> None:
    """If a waiter is cancelled or times out, the others get the outcome of the same run."""
    flights, (first, *others) = await take_off(operation := Operation(), 3)
    first.cancel()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await flights.join()

    assert 2 == operation.waiter_count
    assert ["outcome"] * 2 == await settle(operation, others)
    assert 1 == operation.run_count


async def test_cancelled_waiters_are_swept() -> None:
    """Cancelled waiters are forgotten when there are 1 000 waiters, and again at 1 000 more than twice those left."""
    _, waiters = await take_off(operation := Operation(), 0)
    swept: list[tuple[int, int]] = []
    for count in range(2_600):
        before = operation._waiters
        waiters.append(operation.join())
        if operation._waiters is not before:
            swept.append((count, len(operation._waiters)))
        if count < 1_000 and count % 2:
            waiters[-1].cancel()

    assert [(1_000, 501), (2_500, 2_001)] == swept
    assert 2_100 == (await settle(operation, waiters)).count("outcome")


@pytest.mark.parametrize("moment", ["before its first step", "later", "from within"])
async def test_a_cancelled_operation(moment: str) -> None:
    """If something other than `cancel()` cancels the operation, its waiters get the error for that case."""
    before = asyncio.all_tasks()
    operation = Operation(asyncio.CancelledError(), is_open=moment == "from within")
    flights, waiters = await take_off(operation, 2)
    if moment == "before its first step":
        for task in asyncio.all_tasks() - before:
            task.cancel()
    elif moment == "later":
        await ticks(1)
        operation.cancel_from_outside()

    assert [CANCELLED] * 2 == await asyncio.gather(*waiters)
    assert not flights.is_taken()


class TestCancel:
    async def test_gives_its_error_to_every_waiter(self) -> None:
        """`cancel()` returns the task to await, and every waiter gets the error that was passed to it."""
        flights, waiters = await take_off(operation := Operation(), 3)
        await ticks(1)
        task = operation.cancel(CLOSED)

        assert task is not None
        await asyncio.wait([task])
        assert task.cancelled()
        assert [CLOSED] * 3 == await asyncio.gather(*waiters)
        assert not flights.is_taken()

    async def test_only_the_first_counts(self) -> None:
        """A second `cancel()` returns the same task without interrupting its clean-up or changing the error."""
        cleaning_up, goes_on = asyncio.Event(), asyncio.Event()

        async def operate() -> object:
            try:
                return await asyncio.get_running_loop().create_future()
            finally:
                cleaning_up.set()
                await goes_on.wait()

        flights, waiters = await take_off(operation := Custom(operate), 1)
        await ticks(1)
        task = operation.cancel(CLOSED)
        await cleaning_up.wait()

        assert operation.cancel(TokenCacheError("second")) is task
        await ticks(2)

        assert flights.is_taken()
        goes_on.set()
        assert [CLOSED] == await asyncio.gather(*waiters)

    async def test_before_there_is_a_task(self) -> None:
        """A `cancel()` while the task is being created takes effect."""
        operation, flights = Operation(), SingleFlight[Operation]()

        def cancel_first(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
            operation.cancel(CLOSED)
            return asyncio.Task(coro, loop=loop, **options)

        loop = asyncio.get_running_loop()
        loop.set_task_factory(cancel_first)
        await flights.start(operation)
        loop.set_task_factory(None)

        assert CLOSED is await flights.join()
        assert not operation.is_finished


class TestSlot:
    async def test_is_taken_before_the_first_step(self) -> None:
        """The operation finds its slot taken, even if an eager task factory runs it inside `start()`."""
        flights = SingleFlight[Operation]()

        async def look() -> object:
            return flights.is_taken(), flights.current is operation

        operation = Custom(look)
        await flights.start(operation)
        assert (True, True) == await flights.join()

    async def test_is_free_if_the_task_cannot_be_made(self) -> None:
        """If a task factory raises, the caller of `start()` gets the error and the slot is free."""

        def refuse(_loop: object, coro: Coroutine[Any, Any, Any], **_options: Any) -> asyncio.Task[Any]:
            raise TokenCacheError("broken")

        loop, flights = asyncio.get_running_loop(), SingleFlight[Operation]()
        loop.set_task_factory(refuse)  # type: ignore[arg-type]  # its options differ from Python to Python
        with pytest.raises(TokenCacheError, match="broken"):
            await flights.start(Operation())
        loop.set_task_factory(None)

        assert not flights.is_taken()
        with pytest.raises(RuntimeError, match="nothing is in flight"):
            flights.join()
        await flights.start(Operation(is_open=True))
        assert "outcome" == await flights.join()

    @pytest.mark.parametrize("ending", ["success", "failure", "cancelled", "abandoned"])
    @pytest.mark.parametrize("new_loop", LOOPS)
    def test_holds_nothing_between_flights(self, new_loop: LoopFactory, ending: str) -> None:
        """After a flight the slot keeps neither task nor loop alive and works on another loop."""
        flights = SingleFlight[Operation]()

        async def scenario() -> list[weakref.ref[Any] | None]:
            operation = Operation(TokenTransportError("refused") if ending == "failure" else "outcome")
            await flights.start(operation)
            waiter = flights.join()
            await ticks(1)
            if ending == "cancelled":
                operation.cancel(CLOSED)
            elif ending == "abandoned":
                waiter.cancel()
            await settle(operation, [waiter])
            await ticks(3)
            assert not flights.is_taken()
            return [operation.task, weakref.ref(asyncio.get_running_loop())]

        for _ in range(2):
            with asyncio.Runner(loop_factory=new_loop) as runner:
                references = runner.run(scenario())
            del runner
            gc.collect()
            assert [None, None] == [reference and reference() for reference in references]


async def test_the_operation_runs_in_an_empty_context() -> None:
    """The operation neither inherits nor changes the caller's context variables, such as a trace span."""
    span = contextvars.ContextVar[str]("span")

    async def operate() -> object:
        at_first = dict(contextvars.copy_context())
        await ticks(1)
        later = dict(contextvars.copy_context())
        span.set("the operation's")
        return at_first, later

    span.set("the caller's")
    flights, _ = await take_off(Custom(operate), 0)

    assert ({}, {}) == await flights.join()
    assert "the caller's" == span.get()


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_plain_task_factory() -> None:
    """A task factory that accepts neither a context nor other arguments, as is common, can be used."""
    loop = asyncio.get_running_loop()
    loop.set_task_factory(lambda loop, coro: asyncio.Task(coro, loop=loop))
    flights, _ = await take_off(Operation(is_open=True), 0)
    loop.set_task_factory(None)

    assert "outcome" == await flights.join()


async def test_the_cost_of_a_cancelled_waiter_does_not_grow() -> None:
    """The operation's task gets one callback, however many waiters are cancelled.

    A callback for each waiter makes `asyncio.shield` quadratic, since removing it searches all others.
    """
    calls: list[str] = []

    class CountingTask(asyncio.Task[Any]):
        def add_done_callback(self, *args: Any, **options: Any) -> None:
            calls.append("add")
            super().add_done_callback(*args, **options)

        def remove_done_callback(self, *args: Any, **options: Any) -> int:
            calls.append("remove")
            return super().remove_done_callback(*args, **options)

    loop = asyncio.get_running_loop()
    loop.set_task_factory(lambda loop, coro, **_: CountingTask(coro, loop=loop))
    _, waiters = await take_off(operation := Operation(), 100)
    loop.set_task_factory(None)
    for waiter in waiters[1:]:
        waiter.cancel()

    assert "outcome" == (await settle(operation, waiters))[0]
    assert ["add"] == calls
