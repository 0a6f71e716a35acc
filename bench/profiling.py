"""Where the worker's time goes while it drains a backlog.

With `py-spy` on the path (`uv tool install py-spy`; root, or ptrace allowed) the running worker is
sampled, which costs it nothing. Without, it runs under cProfile, which makes many small calls look
dearer than they are.
"""

import asyncio
import contextlib
import cProfile
import os
import pstats
import re
import runpy
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from bench.broker import Broker
from bench.contender import Run
from bench.contenders import Contender
from bench.drain import measure_drain
from bench.report import one_line
from bench.traffic import Backlog
from consumer.local.stack import Stack

_RATE_HZ = 250
_SHOWN = 40
_LINE_NUMBER = re.compile(r":\d+\)")


async def profile_drain(
    contender: Contender, stack: Stack, broker: Broker, backlog: Backlog, output: Path
) -> None:
    """Profile one drain; write the samples to `output` and print the top functions."""
    py_spy = shutil.which("py-spy")
    command: Sequence[str] = ()
    if py_spy is None:
        print("py-spy is not on the path: using cProfile")
        output = output.with_suffix(".pstats")
        command = (sys.executable, "-m", "bench.profiling", str(output), contender.module)
    async with Run(contender, stack, broker, command=command) as run:
        sampling = None if py_spy is None else asyncio.create_task(_sample(run, py_spy, output))
        result = await measure_drain(run, broker, backlog)
        await run.stop()
        if sampling is not None:
            await sampling
    print(one_line({"measure": "mixed", "contender": contender.name, **result}))
    print(f"profile: {output}")
    print(top_samples(output.read_text()) if py_spy is not None else top_calls(output))


async def _sample(run: Run, py_spy: str, output: Path) -> None:
    while not run.pid:
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.5)  # the interpreter has to be there
    command = (
        py_spy, "record", "--pid", str(run.pid), "--rate", str(_RATE_HZ), "--format", "raw",
        "--output", str(output), "--duration", "3600", "--nonblocking",
    )  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    await process.wait()  # it ends with the process it samples


def top_samples(text: str) -> str:
    """Give the functions with the most samples of their own, and with all below them."""
    own: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    total = 0
    for line in text.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [_LINE_NUMBER.sub(")", frame) for frame in stack.split(";")]
        own[frames[-1]] += int(count)
        for frame in set(frames):
            whole[frame] += int(count)
        total += int(count)
    lines = [f"{total} samples", "own time, %"]
    lines += [f"{100 * n / total:6.1f}  {frame}" for frame, n in own.most_common(_SHOWN)]
    lines.append("with all below, %")
    lines += [f"{100 * n / total:6.1f}  {frame}" for frame, n in whole.most_common(_SHOWN)]
    return "\n".join(lines)


def top_calls(path: Path) -> str:
    """Give the functions with the most time of their own, from a cProfile file."""
    stats = pstats.Stats(str(path))
    every = stats.get_stats_profile().func_profiles.items()
    ordered = sorted(every, key=lambda item: -item[1].tottime)[:_SHOWN]
    lines = [f"{stats.total_tt:.1f} s in all; own time s, with all below s, calls"]  # type: ignore[attr-defined]
    lines += [
        f"{f.tottime:8.2f} {f.cumtime:8.2f} {f.ncalls:>10}  {Path(f.file_name).name}:{name}"
        for name, f in ordered
    ]
    return "\n".join(lines)


def run_profiled(output: str, module: str) -> None:
    """Run a module's command under cProfile; the profile is written however it ends."""
    profile = cProfile.Profile()
    leave = os._exit

    def dump_and_leave(code: int) -> None:  # the worker ends its process by this call
        profile.disable()
        profile.dump_stats(output)
        leave(code)

    os._exit = dump_and_leave  # type: ignore[assignment]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.argv = [module, "worker"]
    with contextlib.suppress(SystemExit):
        profile.runcall(runpy.run_module, module, run_name="__main__", alter_sys=True)
    dump_and_leave(0)


if __name__ == "__main__":
    run_profiled(sys.argv[1], sys.argv[2])
