"""The loop in virtual time: order, asyncio on it, deadlock, failures, repeatability."""

import asyncio
import subprocess
import sys
import time
import warnings
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfrl.core.errors import DeadlockError
from p2pfrl.core.units import SECOND
from p2pfrl.simulator.loop import Entry, Several, VirtualTimeLoop, virtual_time


def loop_of(explain: object = None) -> VirtualTimeLoop:
    loop = virtual_time()
    if explain is not None:
        loop.explain = explain  # type: ignore[assignment]
    return loop


@given(st.lists(st.integers(0, 5), max_size=60))
def test_callbacks_run_in_order_of_time_and_equal_times_in_order_of_posting(times):
    loop, seen = virtual_time(), []
    for number, when in enumerate(times):
        loop.post(when, lambda n: seen.append((loop.now, n)), number)
    loop.post(10, loop.stop)
    loop.run_forever()
    assert seen == sorted(zip(times, range(len(times)), strict=True))


def test_what_is_ready_runs_before_time_moves_on_first_in_first_out():
    loop, seen = virtual_time(), []
    loop.post(1, seen.append, "later")
    loop.post(1, loop.stop)
    loop.call_soon(seen.append, "a")
    loop.call_soon(lambda: (seen.append("b"), loop.call_soon(seen.append, "d")))
    loop.call_soon(seen.append, "c")
    loop.run_forever()
    assert seen == ["a", "b", "c", "d", "later"]


def test_callbacks_may_post_and_are_called_at_the_very_time_they_asked_for():
    loop, seen = virtual_time(), []

    def again(left: int) -> None:
        seen.append(loop.now)
        if left:
            loop.post(loop.now + 3, again, left - 1)
            loop.post(loop.now, seen.append, "same time")
        else:
            loop.stop()

    loop.post(1, again, 2)
    loop.run_forever()
    assert seen == [1, "same time", 4, "same time", 7]


class Waves(Several):
    """Calls at given times, under sequences that were reserved when they were made."""

    def __init__(
        self, loop: VirtualTimeLoop, times: list[int], call: Callable[[int], None]
    ) -> None:
        self.loop, self.call = loop, call
        number = loop.reserve(len(times))
        self.calls = sorted((when, number + k) for k, when in enumerate(times))
        loop.post_as(*self.calls[0], self)

    def first(self) -> None:
        _, number = self.calls.pop(0)
        if self.calls:
            self.loop.post_as(*self.calls[0], self)
        self.call(number)

    def entries(self, most: int | None = None) -> list[Entry]:
        return [(when, number, self.call, (number,)) for when, number in self.calls[:most]]

    def __len__(self) -> int:
        return len(self.calls)


Plan = list[tuple[list[int], int]]


@given(st.lists(st.tuples(st.lists(st.integers(0, 3), max_size=4), st.integers(0, 3)), max_size=9))
def test_reserved_calls_happen_in_order_of_time_and_sequence_whoever_posts_meanwhile(plan: Plan):
    """Each call makes the next wave of the plan, some of it at the very instant being handled."""
    loop, seen, due, left = virtual_time(), [], [], iter(plan)

    def call(number: int) -> None:
        seen.append((loop.now, number))
        begin()

    def begin() -> None:
        times, alone = next(left, (None, 0))
        if times is None:
            return
        if times:
            waves = Waves(loop, [loop.now + delay for delay in times], call)
            due.extend(waves.calls)
        number = loop.reserve(1) + 1
        due.append((loop.now + alone, number))
        loop.post(loop.now + alone, call, number)

    loop.post(40, loop.stop)
    begin()
    loop.run_forever()
    assert seen == sorted(due)
    assert not loop.scheduled()


def test_a_loop_that_resumes_has_the_calls_that_were_saved_and_no_others():
    loop, seen = virtual_time(), list[str]()
    loop.post(7, seen.append, "of the build")
    saved: list[Entry] = [(5, 3, seen.append, ("a",)), (7, 2, seen.append, ("b",))]
    loop.resume(5, saved)
    assert loop.scheduled() == saved
    loop.post(5, seen.append, "c")
    loop.post(9, loop.stop)
    loop.run_forever()
    assert seen == ["a", "c", "b"]


def test_time_is_integer_nanoseconds_and_never_waits():
    loop = virtual_time()
    began = time.perf_counter()

    async def century() -> None:
        for _ in range(100):
            await asyncio.sleep(365 * 86400.0)

    loop.run_until_complete(century())
    assert type(loop.now) is int
    assert loop.now == 100 * 365 * 86400 * SECOND
    assert loop.time() == 100 * 365 * 86400.0
    assert time.perf_counter() - began < 5.0


def test_sleeps_of_many_tasks_end_in_order():
    loop, seen = virtual_time(), []

    async def sleeper(name: int, delay: float) -> None:
        await asyncio.sleep(delay)
        seen.append((loop.now, name))

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for name, delay in enumerate((0.3, 0.1, 0.2, 0.1, 0.0)):
                group.create_task(sleeper(name, delay))

    loop.run_until_complete(main())
    ms = SECOND // 1000
    assert seen == [(0, 4), (100 * ms, 1), (100 * ms, 3), (200 * ms, 2), (300 * ms, 0)]


def test_gather_queue_event_and_lock_work():
    async def main() -> tuple[list[int], list[int]]:
        queue: asyncio.Queue[int] = asyncio.Queue(maxsize=2)
        ready, lock, got = asyncio.Event(), asyncio.Lock(), []

        async def producer() -> None:
            await ready.wait()
            for i in range(5):
                await queue.put(i)
                await asyncio.sleep(0.01)

        async def consumer() -> None:
            for _ in range(5):
                async with lock:
                    got.append(await queue.get())

        async def one(i: int) -> int:
            await asyncio.sleep(1.0 / (i + 1))
            return i

        asyncio.get_running_loop().call_later(1.0, ready.set)
        results = await asyncio.gather(producer(), consumer(), one(1), one(2))
        return got, [r for r in results if r is not None]

    assert virtual_time().run_until_complete(main()) == ([0, 1, 2, 3, 4], [1, 2])


def test_timeouts_end_what_takes_too_long_and_nothing_else():
    loop = virtual_time()

    async def main() -> list[object]:
        seen: list[object] = []
        try:
            async with asyncio.timeout(0.5):
                await asyncio.sleep(1.0)
        except TimeoutError:
            seen.append(loop.now)
        async with asyncio.timeout(0.5):
            await asyncio.sleep(0.25)
        seen.append(loop.now)
        try:
            await asyncio.wait_for(asyncio.Event().wait(), 0.1)
        except TimeoutError:
            seen.append(loop.now)
        seen.append(await asyncio.wait_for(asyncio.sleep(0.05, "in time"), 0.1))
        await asyncio.sleep(10.0)
        return seen

    assert loop.run_until_complete(main()) == [
        SECOND // 2,
        3 * SECOND // 4,
        17 * SECOND // 20,
        "in time",
    ]


def test_a_timeout_of_zero_ends_a_wait_and_only_a_wait():
    async def main() -> str:
        async with asyncio.timeout(0):
            pass
        await asyncio.sleep(1.0)
        try:
            async with asyncio.timeout(0):
                await asyncio.sleep(1.0)
        except TimeoutError:
            return "ended"
        return "not ended"

    assert virtual_time().run_until_complete(main()) == "ended"


def test_cancelled_callbacks_do_not_run():
    loop, seen = virtual_time(), []
    handles = [loop.call_later(0.1, seen.append, "timer"), loop.call_soon(seen.append, "ready")]
    for handle in handles:
        handle.cancel()
    loop.call_later(0.2, loop.stop)
    loop.run_forever()
    assert seen == []


def test_cancelling_a_task_reaches_it_where_it_waits():
    loop, seen = virtual_time(), []

    async def patient() -> None:
        try:
            await asyncio.sleep(100.0)
        except asyncio.CancelledError:
            seen.append(loop.now)
            raise

    async def main() -> None:
        task = asyncio.create_task(patient())
        await asyncio.sleep(2.0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    loop.run_until_complete(main())
    assert seen == [2 * SECOND]


def test_a_failure_in_a_task_group_cancels_the_others_and_surfaces():
    seen = []

    async def fails() -> None:
        await asyncio.sleep(1.0)
        raise ValueError("broken")

    async def waits() -> None:
        try:
            await asyncio.sleep(50.0)
        finally:
            seen.append("cancelled")

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(waits())
            group.create_task(fails())

    with pytest.raises(ExceptionGroup) as error:
        virtual_time().run_until_complete(main())
    assert error.group_contains(ValueError, match="broken")
    assert seen == ["cancelled"]


def test_everyone_waiting_without_a_timer_is_an_error_that_says_who():
    loop = loop_of(lambda: "agent 3 waits in round 7 for 4")

    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(DeadlockError, match="no timer is left: agent 3 waits in round 7 for 4"):
        loop.run_until_complete(main())


def test_two_tasks_that_wait_for_each_other_are_a_deadlock_and_a_timer_is_not():
    loop = virtual_time()

    async def main() -> None:
        first, second = asyncio.Event(), asyncio.Event()

        async def wait(mine: asyncio.Event, other: asyncio.Event) -> None:
            await mine.wait()
            other.set()

        loop.call_later(5.0, first.set)
        await asyncio.gather(wait(first, second), wait(second, first))
        first.clear()
        await first.wait()

    with pytest.raises(DeadlockError):
        loop.run_until_complete(main())
    assert loop.now == 5 * SECOND


@pytest.mark.parametrize("how", ["post", "soon", "later", "soon in context"])
def test_an_exception_in_a_callback_is_raised(how):
    loop = virtual_time()

    def fail() -> None:
        raise ZeroDivisionError("here")

    if how == "post":
        loop.post(5, fail)
    elif how == "soon":
        loop.call_soon(fail)
    elif how == "later":
        loop.call_later(1.0, fail)
    else:
        import contextvars

        loop.call_soon(fail, context=contextvars.copy_context())
    loop.call_later(2.0, loop.stop)
    with pytest.raises(ZeroDivisionError, match="here"):
        loop.run_forever()
    assert not loop.is_running()


def test_the_exception_of_a_task_that_nobody_awaits_is_raised():
    loop = virtual_time()

    async def fails() -> None:
        raise LookupError("unseen")

    async def main() -> None:
        task = asyncio.create_task(fails())
        await asyncio.sleep(0.1)
        del task
        await asyncio.sleep(1.0)

    with pytest.raises(LookupError, match="unseen"):
        loop.run_until_complete(main())


def test_a_running_loop_refuses_to_run_again_and_another_may_run_inside():
    outer, inner = virtual_time(), virtual_time()

    async def main() -> str:
        with pytest.raises(RuntimeError, match="running already"):
            outer.run_forever()
        assert outer.is_running()
        inner.post(7, inner.stop)
        inner.run_forever()
        assert asyncio.get_running_loop() is outer
        await asyncio.sleep(1.0)
        return "done"

    assert outer.run_until_complete(main()) == "done"
    assert (outer.now, inner.now) == (SECOND, 7)


def test_a_loop_goes_on_where_it_stopped():
    loop = virtual_time()
    assert loop.run_until_complete(asyncio.sleep(1.0, "a")) == "a"
    assert loop.run_until_complete(asyncio.sleep(1.0, "b")) == "b"
    assert loop.now == 2 * SECOND
    assert not loop.is_running()
    loop.close()
    assert loop.is_closed()


def test_names_and_contexts_of_tasks_are_kept():
    loop = virtual_time()

    async def main() -> str:
        return asyncio.current_task().get_name()  # type: ignore[union-attr]

    assert loop.run_until_complete(loop.create_task(main(), name="agent 5")) == "agent 5"


def test_nothing_warns_about_what_was_never_awaited():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loop = virtual_time()
        loop.run_until_complete(asyncio.sleep(0.0))
        loop.close()


PROGRAM = """
import asyncio, hashlib
from p2pfrl.simulator.loop import virtual_time
loop, seen = virtual_time(), hashlib.blake2b()
async def agent(i, boxes):
    for r in range(20):
        await asyncio.sleep(((i * 7919 + r * 31) % 97) / 1000)
        for j in ((i + 1) % 16, (i - 1) % 16):
            loop.post(loop.now + (i * 13 + j) % 5, boxes[j].put_nowait, (i, r))
        for _ in range(2):
            seen.update(repr((loop.now, i, await boxes[i].get())).encode())
async def main():
    boxes = [asyncio.Queue() for _ in range(16)]
    await asyncio.gather(*(agent(i, boxes) for i in range(16)))
loop.run_until_complete(main())
print(loop.now, seen.hexdigest())
"""


def test_every_process_and_hash_seed_gives_the_same_run():
    runs = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "12345")
    }
    assert len(runs) == 1
