"""Processes whose networks other engines compute work together, and say what that costs."""

import asyncio

from test_goodbye import pair


def test_processes_with_other_engines_say_once_that_bits_are_not_promised() -> None:
    async def main() -> None:
        async with pair(("native", "torch")) as (left, right):
            assert left.log.said == right.log.said == ["joined", "engine"]
            assert left.log.details[1].startswith("torch there, native here: this run equals no")
            assert right.log.details[1].startswith("native there, torch here: this run equals no")
            assert "set compute.engine = 'torch' in all processes" in left.log.details[1]
            assert left.mesh.refusals == {}
            left.mesh._compare_engines(right.mesh._own)
            assert left.log.said == ["joined", "engine"], "once for a process"

    asyncio.run(main())


def test_processes_on_other_devices_say_what_makes_bits_equal() -> None:
    async def main() -> None:
        async with pair(("native", "torch on cuda")) as (left, right):
            assert left.log.details[1].startswith("torch on cuda there, native here: ")
            for side in (left, right):
                fix = "for equal bits set compute.device = 'cpu' in all processes"
                assert side.log.details[1].endswith(fix)

    asyncio.run(main())


def test_processes_with_one_engine_say_nothing_of_it() -> None:
    async def main() -> None:
        async with pair(("native", "native")) as (left, right):
            assert left.log.said == right.log.said == ["joined"]

    asyncio.run(main())
