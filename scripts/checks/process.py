"""A check: a Python process with a time limit, and what is read from its output."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]


class Check(NamedTuple):
    """A process to run.

    Attributes:
        part: the part of the report it belongs to.
        name: what it checks, such as a library.
        arguments: those of the Python interpreter.
        read: the text it printed -> (figures, a sentence about them, problem or None). May raise OSError,
            ValueError or LookupError if the process did not come to its end.
        seconds: how long it should take at most on a GPU.
        variables: those of the environment to set.
    """

    part: str
    name: str
    arguments: list[str]
    read: Callable[[str], tuple[dict, str, str | None]]
    seconds: float
    variables: dict[str, str] | None = None


def run(check, limit, logs):
    """Run a check for at most `limit` seconds; return its result. What it printed is kept in `logs`."""
    log = logs / f"{check.part}-{check.name.replace('/', 'x')}.log"
    began = time.monotonic()
    status = execute(check.arguments, check.variables, log, limit)
    took = round(time.monotonic() - began, 1)
    text = log.read_text("utf-8", errors="replace")
    try:
        figures, summary, problem = check.read(text)
    except (OSError, ValueError, LookupError):
        figures, summary, problem = {}, "", "there are no results"
    problems = [describe_end(status, limit), problem]
    result = {
        "part": check.part,
        "name": check.name,
        "status": "out of time" if status is None else "failed" if any(problems) else "passed",
        "seconds": took,
        "summary": summary,
        "figures": figures,
        "warnings": list(dict.fromkeys(line for line in text.splitlines() if "Warning: " in line)),
    }
    if any(problems):
        result["problem"] = "; ".join(filter(None, problems))
        result["output"] = text.splitlines()[-40:] if status != 0 else []
    return result


def describe_end(status, limit):
    """Return how a process ended, or None if as it should."""
    if status is None:
        return f"stopped after {limit:.0f} s"
    if status < 0:
        return f"ended by {signal.Signals(-status).name}"
    return f"exit status {status}" if status else None


def execute(arguments, variables, log, limit):
    """Run Python with these arguments; return its exit status, or None if it had to be stopped."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        "PYTHONUNBUFFERED": "1",
        # By default JAX takes three quarters of the GPU's memory and multiplies in TF32; the others do not.
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "JAX_DEFAULT_MATMUL_PRECISION": "highest",
        **(variables or {}),
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            return process.wait(limit)
        except subprocess.TimeoutExpired:
            return None
        finally:
            if process.poll() is None:
                stop(process)


def stop(process):
    """End a process and those that it has started, which would otherwise go on using the GPU."""
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()
