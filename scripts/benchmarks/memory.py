"""Peak memory: of a function on each library, and of this process."""

import gc
import sys
import tracemalloc
from pathlib import Path


def choose_meter(backend):
    """Return a function of work() -> peak megabytes on this backend, or None if nothing counts them."""
    if backend.name == "numpy":
        return numpy_peak
    if not backend.device_name.startswith("cuda"):
        return None
    return {"torch": torch_peak, "cupy": cupy_peak}.get(backend.name)


def numpy_peak(work):
    gc.collect()
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


def torch_peak(work):
    cuda = sys.modules["torch"].cuda
    gc.collect()
    cuda.empty_cache()
    cuda.reset_peak_memory_stats()
    work()
    return cuda.max_memory_allocated() / 1e6


def cupy_peak(work):
    # The pool keeps what is freed, so its size afterwards is the peak.
    pool = sys.modules["cupy"].get_default_memory_pool()
    gc.collect()
    pool.free_all_blocks()
    work()
    return pool.total_bytes() / 1e6


def can_measure_process():
    """Return whether `process_peak` works here: on Linux."""
    return Path("/proc/self/clear_refs").exists()


def process_peak(work):
    """Return by how many megabytes the peak of this process exceeds, during work(), what it held before."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak is now what is held now
    before = _status("VmRSS")
    work()
    return max(0.0, _status("VmHWM") - before)


def _status(key):
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (found,) = [line for line in lines if line.startswith(key)]
    return int(found.split()[1]) * 1024 / 1e6
