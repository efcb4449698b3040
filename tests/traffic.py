"""What a piece of code makes a CUDA device do, counted from the trace of an emulated one."""

import os
import subprocess
import sys
from collections import Counter

import pytest
from places import Place, find_problem, is_emulated

# The trace has a line for each, such as "cupyemu: copy host to device 6000".
EVENTS = ("launch", "graph launch", "copy host to device", "copy device to host", "synchronize")


def count_traffic(setup, code):
    """Run `setup`, then `code` twice, in a new process. Count the events of the second time.

    Kernels are compiled and memory is found the first time. Also counted are the bytes of the copies, as
    "bytes host to device" and "bytes device to host".
    """
    problem = find_problem(Place.CUPY)
    if problem or not is_emulated(Place.CUPY):
        pytest.skip(f"needs CuPy on an emulated device, which prints a trace ({problem or 'this is a GPU'})")
    marks = [f"print({mark!r}, file=sys.stderr, flush=True)" for mark in ("begin counting", "end counting")]
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore",
            "-c",
            "\n".join(["import sys", setup, code, marks[0], code, marks[1]]),
        ],
        env={**os.environ, "EMU_CUDA_TRACE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    trace = done.stderr.partition("begin counting\n")[2].partition("end counting")[0]
    counts = Counter()
    for line in trace.splitlines():
        line = line.removeprefix("cupyemu: ")
        for event in EVENTS:
            if line.startswith(event):
                counts[event] += 1
                if event.startswith("copy"):
                    counts[event.replace("copy", "bytes")] += int(line.split()[-1])
    return counts
