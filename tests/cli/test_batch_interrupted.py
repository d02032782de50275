"""`simplestore batch` under signals, kills and memory limits."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections import Counter

import pytest

from simplestore_async.sandbox import Late
from tests.support.batches import Directory, read_results
from tests.support.command import COMMAND, assert_one_line, finish, patched, read_line, start
from tests.support.platforms import needs_posix, needs_proc


@needs_posix
@pytest.mark.parametrize(
    ("name", "code"), [("SIGINT", 130), ("SIGHUP", 75), pytest.param("SIGTERM", 75, marks=pytest.mark.slow)]
)
async def test_signal(directory: Directory, name: str, code: int) -> None:
    """After a signal, requests in flight finish; the same command sends the remaining ones."""
    directory.write(*["POST", "GET"] * 10)
    directory.sandbox.api.fail_for(0.5, Late(0.5))
    process = await directory.start("--concurrency", "4")
    await directory.requests_arrive(4)
    process.send_signal(signal.Signals[name])
    outcome = await finish(process)

    assert code == outcome.code
    assert "stopping; in-flight requests have 10 s to finish (press Ctrl-C again to abort)" in outcome.stderr
    assert "4 succeeded, 0 refused, 0 failed, 0 unknown, 16 remaining" in outcome.stdout
    assert f"continue with: simplestore batch {directory.file} " in outcome.stdout
    assert 4 == len(directory.lines)
    assert 0 == (await directory.run()).code
    assert list(range(1, 21)) == directory.lines
    assert 20 == directory.sandbox.counters.api_requests


@needs_posix
async def test_nohup(directory: Directory) -> None:
    """A batch under nohup survives SIGHUP."""
    directory.write("GET", "GET")
    directory.sandbox.api.fail_next(1, Late(0.2))
    command = "nohup", *COMMAND, *directory.command, "--concurrency", "1"
    process = await start(*command, environment=directory.sandbox.environment)
    await directory.requests_arrive(1)
    process.send_signal(signal.SIGHUP)
    assert 0 == (await finish(process)).code
    assert [1, 2] == directory.lines


@needs_posix
async def test_second_signal(directory: Directory) -> None:
    """A second signal ends the command at once; requests that may have taken effect are counted as unknown."""
    directory.write(*["POST"] * 6)
    directory.sandbox.api.fail_next(2, Late(3_600))
    process = await directory.start("--concurrency", "2", "--json")
    await directory.requests_arrive(2)
    process.send_signal(signal.SIGINT)
    assert "stopping" in await read_line(process.stderr)
    process.send_signal(signal.SIGINT)
    outcome = await finish(process)
    summary = outcome.json
    assert (130, True, 2, 4) == (outcome.code, summary["is_stopped"], summary["unknown"], summary["remaining"])
    assert ("SigintError", 130) == (outcome.error["type"], outcome.error["exit_code"])

    outcome = await directory.run()
    assert 1 == outcome.code
    assert Counter(unknown=2, succeeded=4) == Counter(result["outcome"] for result in read_results(directory.results))
    assert 6 == directory.sandbox.counters.api_requests


async def test_two_at_once(directory: Directory) -> None:
    """A concurrent run of the same batch fails with exit code 75."""
    directory.write("GET")
    directory.sandbox.api.fail_next(1, Late(3_600))
    process = await directory.start()
    await directory.requests_arrive(1)
    assert_one_line(await directory.run(), code=75, says="another run uses")
    process.kill()
    await finish(process)


KILLED = 1 if sys.platform == "win32" else -signal.SIGKILL
KINDS = {
    "reads": (["GET"], 5, []),
    "writes": (["POST"], 5, []),
    "mixed": (["GET", "POST", "PUT", "DELETE"], 5, []),
    "many at once": (["POST", "PUT"], 50, []),
    "one at a time": (["POST"], 1, []),
    "at a rate": (["GET", "PATCH"], 5, ["--rate", "500"]),
    "repeatable": (["POST", "GET"], 5, ["--idempotency-key", "Idempotency-Key"]),
}
KILLS = int(os.environ.get("BATCH_KILLS", "12"))


@pytest.mark.parametrize(
    ("kind", "kills"),
    [("mixed", 2), *(pytest.param(kind, KILLS, marks=pytest.mark.slow) for kind in KINDS)],
)
async def test_killed(directory: Directory, kind: str, kills: int) -> None:
    """After repeated kills and restarts, each safe request has its result and no unsafe one was sent twice.

    At most the requests in flight are unknown after a kill, and no result on the disk is lost.
    """
    methods, concurrency, more = KINDS[kind]
    options = ["--concurrency", str(concurrency), *more]
    chance = random.Random(f"{kind} {kills}")  # noqa: S311 - no secret
    chosen = [chance.choice(methods) for _ in range(kills * 60)]
    directory.write(*chosen)
    directory.sandbox.api.fail_next(kills * 60, Late(0.01))  # so that there is something left whenever it is killed
    known: dict[int, str] = {}
    for number in range(kills):
        process = await directory.start(*options)
        arrived = directory.sandbox.counters.api_requests
        await directory.requests_arrive(arrived + chance.randrange(1, 40))
        process.kill()
        assert KILLED == (await finish(process)).code, number
        if directory.results.exists():
            whole = directory.results.read_text().rpartition("\n")[0]
            now = {result["line"]: result["outcome"] for result in map(json.loads, whole.splitlines())}
            assert known.items() <= now.items()
            known = now
    directory.sandbox.api.fail_next(1, Late(0.01))
    outcome = await directory.run(*options)

    assert outcome.code in {0, 1}
    assert list(range(1, kills * 60 + 1)) == directory.lines
    outcomes = {result["id"]: result["outcome"] for result in read_results(directory.results)}
    sent = Counter(int(request.path.rpartition("/")[2]) for request in directory.sandbox.api.requests)
    for id_, method in enumerate(chosen, 1):
        if method == "GET" or kind == "repeatable":
            assert "succeeded" == outcomes[id_]
        else:
            assert outcomes[id_] in {"succeeded", "unknown"}
            assert sent[id_] == 1 or (sent[id_] == 0 and outcomes[id_] == "unknown")
    assert Counter(outcomes.values())["unknown"] <= kills * concurrency


@pytest.mark.slow
@needs_proc
async def test_memory(directory: Directory) -> None:
    """Memory does not grow with requests or results."""
    peaks = {}
    for count in 5_000, 20_000:
        directory.write(*["GET"] * count)
        directory.database.unlink(missing_ok=True)
        directory.results.unlink(missing_ok=True)
        # Not ru_maxrss, which starts with what the process had before exec: the test's own memory.
        patch = """import atexit
@atexit.register
def print_peak():
    status = dict(line.split(':') for line in open('/proc/self/status'))
    print(status['VmHWM'].split()[0], file=sys.stderr)"""
        command = *directory.command, "--concurrency", "50"
        outcome = await patched(patch, *command, environment=directory.sandbox.environment)
        assert 0 == outcome.code
        peaks[count] = int(outcome.stderr.splitlines()[-1])
    bytes_per_line = (peaks[20_000] - peaks[5_000]) * 1024 / 15_000
    assert bytes_per_line < 300, peaks  # of a request and its result, as objects, some 2 000 would be left
