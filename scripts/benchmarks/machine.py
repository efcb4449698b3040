"""Where and when a result was measured."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import xpnet

PACKAGES = (
    *("numpy", "scikit-learn", "torch", "jax", "jaxlib", "onnxruntime"),
    *("cupy-cuda12x", "cupy-cuda13x", "array-api-strict"),
)


def describe(argv, backends):
    """Return the date, command, machine and versions of a result."""
    gpu = next((backend.hardware for backend in backends if backend.hardware), None)
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": " ".join(["python scripts/benchmark.py", *argv]),
        "machine": {"cpu": cpu(), "cores": cores(), "memory_gb": memory_gb(), "gpu": gpu},
        "versions": versions(),
    }


def format_head(result):
    """Return the lines above the tables."""
    machine = result["machine"]
    where = f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB"
    if machine["gpu"]:
        where += f"; {machine['gpu']}"
    listed = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    return f"{where}\n{listed}\n{result['date']}, `{result['command']}`"


def versions():
    # xpnet's own, because another version may be installed than the one that is measured.
    found = {"python": platform.python_version(), "xpnet": xpnet.__version__}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def cpu():
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def cores():
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def memory_gb():
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9)
    return None
