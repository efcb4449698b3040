"""An estimate of the memory that a run needs, and the message for a device that is out of memory."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from xpnet.backends import Backend

__all__ = ["MemoryNeeds", "estimate_memory", "explain_shortage"]

# Vectors shaped like theta beside the moments: theta, its gradient and two temporaries of the update.
# The kernels of a CUDA graph need no temporaries, but the first steps are taken as written if there is room.
_N_VECTORS = 4


class MemoryNeeds(NamedTuple):
    """The memory that a run needs on its device, in bytes."""

    data: int
    parameters: int
    batch: int


def estimate_memory(
    sizes: Sequence[int], *, n_values: int, n_moments: int, rows: int, dtype_name: str
) -> MemoryNeeds:
    """Return the memory needed to train a network with layers of `sizes` units.

    Args:
        n_values: number of elements of the data that is on the device for the whole run.
        n_moments: number of the optimizer's vectors, each as long as the parameters.
        rows: number of rows that the network processes at once.
        dtype_name: `float32` or `float64`.
    """
    itemsize = np.dtype(dtype_name).itemsize
    n_parameters = sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise(sizes))
    return MemoryNeeds(
        data=itemsize * n_values,
        parameters=itemsize * (_N_VECTORS + n_moments) * n_parameters,
        # The rows; and of each layer the output and its gradient, or the output before its activation.
        batch=itemsize * rows * (sizes[0] + 2 * sum(sizes[1:])),
    )


def explain_shortage(
    what: str,
    needs: MemoryNeeds,
    free: int | None,
    *,
    backend: Backend,
    fewer_rows: str,
    smaller: str,
    reason: str,
) -> str:
    """Return the message for a device that is out of memory.

    Args:
        what: what ran out of memory: "the run", "fit".
        free: the free memory in bytes before it started, or None if unknown.
        fewer_rows: the remedy if the data takes more memory than the network and a batch.
        smaller: the remedy otherwise.
        reason: the message of the library.
    """
    has = "" if free is None else f", {free:,} bytes are free"
    remedy = fewer_rows if needs.data > needs.parameters + needs.batch else smaller
    return (
        f"{backend.name} on {backend.device_name} is out of memory: "
        f"{what} needs about {sum(needs):,} bytes{has}. Try {remedy}. The library says: {reason}"
    )
