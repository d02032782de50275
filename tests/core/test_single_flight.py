"""`simplestore_async._core.single_flight`, on every kind of event loop."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from simplestore_async._core.single_flight import SingleFlight
from simplestore_async.errors import (
    InvalidClientError,
    ProviderClosedError,
    TokenCacheError,
    TokenEndpointError,
    TokenTimeoutError,
    TokenTransportError,
)
from tests.support.platforms import uvloop_factories

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    Scenario = Callable[[], Coroutine[Any, Any, None]]

CANCELLED = TokenTransportError("the program cancelled it")


LOOPS: dict[str, tuple[Callable[[], asyncio.AbstractEventLoop], Any]] = {
    "asyncio": (asyncio.new_event_loop, None),
    # As many programs have it: it knows neither a context nor any other argument of create_task().
    "plain task factory": (asyncio.new_event_loop, lambda loop, coro: asyncio.Task(coro, loop=loop)),
}
LOOPS |= {name: (new_loop, None) for name, new_loop in uvloop_factories().items()}
if hasattr(asyncio, "eager_task_factory"):  # Python 3.12 and later
    LOOPS["eager task factory"] = (asyncio.new_event_loop, asyncio.eager_task_factory)


class Runner:
    """Runs scenarios on one kind of event loop; nothing may be left pending or unretrieved there."""

    def __init__(self, kind: str) -> None:
        self._new_loop, self._task_factory = LOOPS[kind]
        self.complaints: list[dict[str, Any]] = []
        self.loop: weakref.ref[asyncio.AbstractEventLoop] | None = None

    def __call__(self, scenario: Scenario) -> None:
        with asyncio.Runner(loop_factory=self._new_loop) as runner:
            self.loop = weakref.ref(runner.get_loop())
            runner.run(self._watch(scenario))
        del runner
        gc.collect()
        assert [] == self.complaints

    async def _watch(self, scenario: Scenario) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self.complaints.append(context))
        loop.set_task_factory(self._task_factory)
        async with asyncio.timeout(60):  # a waiter that is never woken fails the test, and does not hang it
            await scenario()
        await ticks(3)
        assert {asyncio.current_task()} == asyncio.all_tasks()


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Runner:
    return Runner(request.param)


async def ticks(count: int) -> None:
    """Let everything that is ready run, *count* times over."""
    for _ in range(count):
        await asyncio.sleep(0)


class Operation:
    """An operation that counts its runs, ends when its gate is opened, and returns or raises what it was given."""

    def __init__(self, outcome: object = None, *, is_open: bool = False) -> None:
        self.outcome = outcome
        self.run_count = 0
        self.is_finished = False
        self.task: weakref.ref[asyncio.Task[Any]] | None = None
        self._is_open = is_open
        self._gate = asyncio.Event()

    def open(self) -> None:
        self._gate.set()

    def cancel(self) -> None:
        """Cancel the task that runs it, as a part of the program might that the flight knows nothing of."""
        task = self.task and self.task()
        assert isinstance(task, asyncio.Task)
        task.cancel()

    async def __call__(self) -> object:
        task = asyncio.current_task()
        assert task is not None
        self.task = weakref.ref(task)
        self.run_count += 1
        if not self._is_open:
            await self._gate.wait()
        self.is_finished = True
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


def new_flight() -> SingleFlight[object]:
    return SingleFlight(cancelled=CANCELLED)


async def join(flight: SingleFlight[object], count: int) -> list[asyncio.Task[object]]:
    """Return *count* tasks that wait for the flight's outcome."""
    waiters = [asyncio.ensure_future(flight.wait()) for _ in range(count)]
    await ticks(2)
    assert count <= flight.waiter_count
    return waiters


async def settle(operation: Operation, waiters: list[asyncio.Task[object]]) -> list[object]:
    """Let *operation* end; return what each waiter got."""
    operation.open()
    return await asyncio.gather(*waiters, return_exceptions=True)


# case 1
def test_everybody_gets_the_one_outcome(run: Runner) -> None:
    """A thousand waiters get the very value of one run."""

    async def scenario() -> None:
        flight, operation = new_flight(), Operation(outcome := object())
        flight.start(operation)
        waiters = await join(flight, 1000)
        assert 1000 == flight.waiter_count

        results = await settle(operation, waiters)

        assert all(result is outcome for result in results)
        assert 1000 == len(results)
        assert 1 == operation.run_count

    run(scenario)


# case 5
@pytest.mark.parametrize(
    "error",
    [
        TokenEndpointError("refused", status=503, error="a", error_description="b", title="c", retry_after=1.5),
        InvalidClientError("refused", status=400, error="invalid_client", title="Unknown client"),
        TokenTransportError("untrusted", retryable=False),
        TokenTimeoutError("late"),
        ProviderClosedError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_each_waiter_gets_its_own_error(run: Runner, error: Exception) -> None:
    """Each waiter raises an instance of its own, with the class, text and attributes of the operation's error."""

    async def scenario() -> None:
        flight, operation = new_flight(), Operation(error)
        flight.start(operation)
        results = await settle(operation, await join(flight, 1000))

        assert 1 == operation.run_count
        assert 1001 == len({id(each) for each in [*results, error]})
        assert {type(error)} == {type(result) for result in results}
        assert all(vars(error) == vars(result) and str(error) == str(result) for result in results)

    run(scenario)


def test_errors_of_any_base_reach_the_waiters(run: Runner) -> None:
    """An error that is no Exception reaches the waiters all the same."""

    class Stop(BaseException):
        pass

    async def scenario() -> None:
        flight, operation = new_flight(), Operation(Stop())
        flight.start(operation)
        (result,) = await settle(operation, await join(flight, 1))

        assert isinstance(result, Stop)
        assert operation.outcome is not result

    run(scenario)


# case 2
def test_a_cancelled_waiter_ends_only_its_own_wait(run: Runner) -> None:
    """When the first waiter is cancelled, the others get the outcome of the same run."""

    async def scenario() -> None:
        flight, operation = new_flight(), Operation("outcome")
        flight.start(operation)
        first, *others = await join(flight, 3)

        first.cancel()
        await ticks(2)

        assert first.cancelled()
        assert 2 == flight.waiter_count
        assert flight.is_running
        assert ["outcome", "outcome"] == await settle(operation, others)
        assert 1 == operation.run_count

    run(scenario)


# cases 3 and 7
def test_deadlines_end_only_their_own_wait(run: Runner) -> None:
    """Sixty waiters whose deadline passes get TimeoutError; the operation runs on, once, for those who come later."""

    async def scenario() -> None:
        flight, operation = new_flight(), Operation("outcome")

        async def wait_in_vain() -> None:
            async with asyncio.timeout(0):
                await flight.wait()

        flight.start(operation)
        hasty = await asyncio.gather(*(wait_in_vain() for _ in range(60)), return_exceptions=True)
        assert [TimeoutError] * 60 == [type(each) for each in hasty]
        assert 0 == flight.waiter_count

        flight.start(operation)
        assert ["outcome"] == await settle(operation, await join(flight, 1))
        assert 1 == operation.run_count

    run(scenario)


def test_those_who_wait_no_more_do_not_pile_up(run: Runner) -> None:
    """However many waiters are cancelled while one operation runs, few of them are remembered, and each that waits."""

    async def scenario() -> None:
        flight, operation = new_flight(), Operation("outcome")
        flight.start(operation)
        patient = await join(flight, 10)
        remembered = 0
        for _ in range(10_000):
            flight.join().cancel()
            remembered = max(remembered, len(flight._waiters))

        assert remembered < 1_100
        assert 10 == flight.waiter_count
        assert ["outcome"] * 10 == await settle(operation, patient)

    run(scenario)


def test_those_who_wait_are_looked_through_rarely(run: Runner) -> None:
    """While none is cancelled, the waiters are looked through at 1 000 of them, and each time they have doubled."""

    async def scenario() -> None:
        flight, operation = new_flight(), Operation("outcome")
        flight.start(operation)
        counts: list[int] = []
        for count in range(10_000):
            before = flight._waiters
            flight.join()
            if flight._waiters is not before:
                counts.append(count)

        assert [1_000, 3_000, 7_000] == counts
        await settle(operation, [])

    run(scenario)


# case 4
@pytest.mark.parametrize("outcome", ["outcome", TokenTransportError("refused")], ids=["success", "failure"])
def test_an_abandoned_operation_completes(run: Runner, outcome: object) -> None:
    """When every waiter is cancelled the operation still ends by itself, and a failure of it goes without complaint."""

    async def scenario() -> None:
        flight, operation = new_flight(), Operation(outcome)
        flight.start(operation)
        for waiter in await join(flight, 3):
            waiter.cancel()
        await ticks(2)
        assert 0 == flight.waiter_count
        assert flight.is_running

        operation.open()
        await ticks(3)

        assert operation.is_finished
        assert not flight.is_running

    run(scenario)


# case 4
@pytest.mark.parametrize("outcome", ["outcome", TokenTransportError("refused")], ids=["success", "failure"])
@pytest.mark.parametrize("turns", [0, 1], ids=["just before the outcome", "between outcome and wake-up"])
def test_a_waiter_cancelled_as_the_operation_ends(run: Runner, outcome: object, turns: int) -> None:
    """A waiter cancelled at the very moment of the outcome is cancelled; the next one gets the outcome."""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        flight, gate = new_flight(), asyncio.Event()

        def cancel_after(turns: int) -> None:
            if turns:
                loop.call_soon(cancel_after, turns - 1)
            else:
                unlucky.cancel()

        async def operate() -> object:
            await gate.wait()
            # The outcome is settled one turn of the loop after this, and wakes its waiters another turn later.
            loop.call_soon(cancel_after, turns)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        flight.start(operate)
        unlucky, lucky = await join(flight, 2)
        gate.set()
        unlucky_result, lucky_result = await asyncio.gather(unlucky, lucky, return_exceptions=True)

        assert isinstance(unlucky_result, asyncio.CancelledError)
        assert str(outcome) == str(lucky_result)
        assert 0 == flight.waiter_count

    run(scenario)


# case 7
def test_a_waiter_in_a_task_group_falls_with_its_group_only(run: Runner) -> None:
    """A task group that fails ends the waits inside it, and neither the operation nor a wait outside."""

    async def scenario() -> None:
        flight, operation = new_flight(), Operation("outcome")
        flight.start(operation)
        outside = await join(flight, 1)

        async def fail_while_another_waits() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(flight.wait())
                await ticks(2)
                raise TokenCacheError("of the group")

        with pytest.raises(ExceptionGroup) as failure:
            await fail_while_another_waits()

        assert [TokenCacheError] == [type(error) for error in failure.value.exceptions]
        assert 1 == flight.waiter_count
        assert ["outcome"] == await settle(operation, outside)

    run(scenario)


# case 7
def test_a_task_group_sees_the_operation_cancelled_as_an_error(run: Runner) -> None:
    """When somebody cancels the operation, a task group that waits for it fails with an error, not with silence."""

    async def scenario() -> None:
        flight, operation = new_flight(), Operation()
        flight.start(operation)

        async def see_it_cancelled() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(flight.wait())
                await ticks(2)
                operation.cancel()

        with pytest.raises(ExceptionGroup) as failure:
            await see_it_cancelled()

        assert [str(CANCELLED)] == [str(error) for error in failure.value.exceptions]

    run(scenario)


def test_an_operation_cancelled_before_its_first_step(run: Runner) -> None:
    """A task that is cancelled before it ran any code of its own still tells its waiters, and frees the slot."""

    async def scenario() -> None:
        flight, operation = new_flight(), Operation()
        before = asyncio.all_tasks()
        flight.start(operation)
        (task,) = asyncio.all_tasks() - before
        task.cancel()

        results = await settle(operation, [asyncio.ensure_future(flight.wait()) for _ in range(2)])

        assert [str(CANCELLED)] * 2 == [str(result) for result in results]
        assert [type(CANCELLED)] * 2 == [type(result) for result in results]
        assert 3 == len({id(each) for each in [*results, CANCELLED]})
        assert not operation.is_finished
        assert not flight.is_running

    run(scenario)


def test_an_operation_that_raises_cancelled_error(run: Runner) -> None:
    """An operation that ends in a CancelledError of its own gives its waiters the error for that."""

    async def scenario() -> None:
        flight, operation = new_flight(), Operation(asyncio.CancelledError())
        flight.start(operation)
        (result,) = await settle(operation, await join(flight, 1))

        assert str(CANCELLED) == str(result)

    run(scenario)


# case 10
def test_cancel_gives_its_error_to_every_waiter(run: Runner) -> None:
    """`cancel()` returns the task to be awaited, and each waiter raises a copy of the error that it named."""

    async def scenario() -> None:
        flight, operation, error = new_flight(), Operation(), ProviderClosedError()
        flight.start(operation)
        waiters = await join(flight, 3)

        task = flight.cancel(error)

        assert task is not None
        await asyncio.wait([task])
        assert task.cancelled()
        results = await settle(operation, waiters)
        assert [ProviderClosedError] * 3 == [type(result) for result in results]
        assert 4 == len({id(each) for each in [*results, error]})
        assert not flight.is_running

    run(scenario)


def test_only_the_first_cancel_counts(run: Runner) -> None:
    """A second `cancel()` does not interrupt the operation's cleaning up, returns its task, and changes no error."""

    async def scenario() -> None:
        flight, cleaning_up = new_flight(), Operation()

        async def operate() -> object:
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                await cleaning_up()
            raise AssertionError

        flight.start(operate)
        waiters = await join(flight, 1)
        task = flight.cancel(ProviderClosedError())
        await ticks(2)
        assert 1 == cleaning_up.run_count

        assert flight.cancel(TokenCacheError("second")) is task
        await ticks(2)

        assert flight.is_running
        (result,) = await settle(cleaning_up, waiters)
        assert isinstance(result, ProviderClosedError)
        assert cleaning_up.is_finished

    run(scenario)


def test_cancel_with_nothing_under_way(run: Runner) -> None:
    """`cancel()` between flights returns None and leaves no trace in the next one."""

    async def scenario() -> None:
        flight, operation = new_flight(), Operation()
        assert flight.cancel(ProviderClosedError()) is None

        flight.start(operation)
        waiters = await join(flight, 1)
        operation.cancel()
        (result,) = await settle(operation, waiters)
        assert str(CANCELLED) == str(result)

    run(scenario)


def test_an_error_of_cancel_does_not_outlive_its_flight(run: Runner) -> None:
    """After a flight that `cancel()` ended, the next one knows nothing of its error."""

    async def scenario() -> None:
        flight, first, second = new_flight(), Operation(), Operation()
        flight.start(first)
        task = flight.cancel(ProviderClosedError())
        assert task is not None
        await asyncio.wait([task])

        flight.start(second)
        waiters = await join(flight, 1)
        second.cancel()
        (result,) = await settle(second, waiters)
        assert str(CANCELLED) == str(result)

    run(scenario)


def test_an_operation_that_finishes_in_spite_of_cancel(run: Runner) -> None:
    """An operation that survives `cancel()` gives its waiters the outcome that it reached."""

    async def scenario() -> None:
        flight = new_flight()

        async def insist() -> object:
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                return "outcome"
            raise AssertionError

        flight.start(insist)
        (waiter,) = await join(flight, 1)
        flight.cancel(ProviderClosedError())
        assert "outcome" == await waiter

    run(scenario)


def test_start_is_a_no_op_while_one_runs(run: Runner) -> None:
    """A second operation is not even called while the first runs."""

    async def scenario() -> None:
        flight, first, second = new_flight(), Operation("first"), Operation("second", is_open=True)
        assert not flight.is_running
        flight.start(first)
        assert flight.is_running
        flight.start(second)
        waiters = await join(flight, 1)
        flight.start(second)

        assert ["first"] == await settle(first, waiters)
        assert 0 == second.run_count

    run(scenario)


def test_flights_follow_each_other(run: Runner) -> None:
    """Once one operation has ended the next may start, and its waiters get its outcome and not the last one's."""

    async def scenario() -> None:
        flight = new_flight()
        for outcome in ["first", TokenTransportError("second"), "third"]:
            operation = Operation(outcome)
            flight.start(operation)
            (result,) = await settle(operation, await join(flight, 1))
            assert str(outcome) == str(result)
            assert 1 == operation.run_count
            assert not flight.is_running
            assert 0 == flight.waiter_count

    run(scenario)


# case 7
@pytest.mark.parametrize("outcome", ["outcome", TokenTransportError("refused")], ids=["success", "failure"])
def test_an_operation_that_never_suspends(run: Runner, outcome: object) -> None:
    """An operation that ends in its first step, which an eager task factory runs inside `start()`, reaches its waiters.

    Until they were told, it counts as running, so that nobody starts another.
    """

    async def scenario() -> None:
        flight, operation, second = new_flight(), Operation(outcome, is_open=True), Operation()
        flight.start(operation)
        assert flight.is_running
        flight.start(second)

        (result,) = await asyncio.gather(flight.wait(), return_exceptions=True)

        assert str(outcome) == str(result)
        assert 1 == operation.run_count
        assert 0 == second.run_count
        assert not flight.is_running

    run(scenario)


def test_an_operation_that_starts_its_own_flight_again(run: Runner) -> None:
    """The slot is taken before the operation's first step, so that not even the operation can start a second one."""

    async def scenario() -> None:
        flight, second = new_flight(), Operation()

        async def start_again() -> object:
            flight.start(second)
            return flight.is_running

        flight.start(start_again)
        assert await flight.wait() is True
        assert 0 == second.run_count

    run(scenario)


def test_a_flight_that_is_cancelled_while_its_task_is_made(run: Runner) -> None:
    """What an eager first step cancels is cancelled, though there was no task yet to be cancelled."""

    async def scenario() -> None:
        flight, operation = new_flight(), Operation("outcome")

        def cancel_first(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
            flight.cancel(ProviderClosedError())
            return asyncio.Task(coro, loop=loop, **options)

        loop = asyncio.get_running_loop()
        loop.set_task_factory(cancel_first)
        flight.start(operation)
        loop.set_task_factory(None)

        with pytest.raises(ProviderClosedError):
            await flight.wait()
        assert not operation.is_finished
        assert not flight.is_running

    run(scenario)


def test_an_operation_that_cannot_be_made_frees_the_slot(run: Runner) -> None:
    """When the operation cannot even be called its error goes to the caller, and the next start works."""

    async def scenario() -> None:
        flight = new_flight()

        def broken() -> Coroutine[Any, Any, object]:
            raise TokenCacheError("broken")

        with pytest.raises(TokenCacheError, match="broken"):
            flight.start(broken)

        assert not flight.is_running
        operation = Operation("outcome", is_open=True)
        flight.start(operation)
        assert "outcome" == await flight.wait()

    run(scenario)


# case 8
def test_the_operation_runs_in_an_empty_context(run: Runner) -> None:
    """The operation and the caller that started it see none of each other's context variables, such as a trace span."""
    span = contextvars.ContextVar[str]("span")

    async def scenario() -> None:
        flight = new_flight()

        async def operate() -> object:
            at_first = dict(contextvars.copy_context())
            await ticks(1)
            later = dict(contextvars.copy_context())
            span.set("the operation's")
            return at_first, later

        span.set("the caller's")
        flight.start(operate)

        assert ({}, {}) == await flight.wait()
        assert "the caller's" == span.get()

    run(scenario)


# case 9
@pytest.mark.parametrize("ending", ["success", "failure", "cancelled", "abandoned"])
def test_nothing_is_held_between_flights(run: Runner, ending: str) -> None:
    """Once a flight is over it keeps neither the task nor the loop alive, and serves another loop."""
    flight = new_flight()
    tasks: list[weakref.ref[asyncio.Task[Any]] | None] = []

    async def scenario() -> None:
        operation = Operation(TokenTransportError("refused") if ending == "failure" else "outcome")
        flight.start(operation)
        (waiter,) = await join(flight, 1)
        if ending == "cancelled":
            flight.cancel(ProviderClosedError())
        elif ending == "abandoned":
            waiter.cancel()
        await settle(operation, [waiter])
        await ticks(3)
        assert not flight.is_running
        tasks.append(operation.task)

    for _ in range(2):
        run(scenario)
        assert run.loop is not None
        assert run.loop() is None
    assert [None, None] == [task and task() for task in tasks]


def test_the_cost_of_a_cancelled_waiter_does_not_grow() -> None:
    """However many wait and are cancelled, the operation's task gets one callback and never loses one.

    A callback for each waiter is what makes `asyncio.shield` quadratic: taking it off again searches the others.
    """
    calls: list[str] = []

    class CountingTask(asyncio.Task[Any]):
        def add_done_callback(self, *args: Any, **options: Any) -> None:
            calls.append("add")
            super().add_done_callback(*args, **options)

        def remove_done_callback(self, *args: Any, **options: Any) -> int:
            calls.append("remove")
            return super().remove_done_callback(*args, **options)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        flight, operation = new_flight(), Operation("outcome")
        loop.set_task_factory(lambda loop, coro, **_: CountingTask(coro, loop=loop))
        flight.start(operation)
        loop.set_task_factory(None)
        waiters = await join(flight, 100)
        for waiter in waiters[1:]:
            waiter.cancel()
        results = await settle(operation, waiters)

        assert "outcome" == results[0]
        assert ["add"] == calls

    Runner("asyncio")(scenario)
