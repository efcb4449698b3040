"""NumPy, the reference implementation, on the CPU."""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any, cast

import numpy as np

from xpnet._typing import Namespace
from xpnet.backends.backend import WORTH_RECORDING, Backend

__all__ = ["NumPy"]

# Five vectors of this many bytes, the number that Adam uses, fit in the second-level cache of a CPU core.
_BLOCK_BYTES = 2**17


class NumPy(Backend):
    """NumPy. A training step is recorded and replayed: see `accelerate`."""

    name = "numpy"
    namespace = "numpy"
    remedy = 'pip install "numpy>=2.1"'
    # The outputs of a layer of 100 to 500 units then stay in the second-level cache of a CPU core, and fit
    # in memory that is used again: larger arrays are page-faulted in anew at each operation.
    chunk_rows = 512

    @staticmethod
    def owns(x: object) -> bool:
        return isinstance(x, np.ndarray)

    @property
    def block(self) -> int:
        return _BLOCK_BYTES // np.dtype(self.dtype_name).itemsize

    def compile_step(
        self, step: Callable[..., Any], n_steps: int, steps_per_epoch: int
    ) -> Callable[..., Any]:
        if n_steps < WORTH_RECORDING:
            return super().compile_step(step, n_steps, steps_per_epoch)
        from xpnet.backends.accelerate.plan import record_step
        from xpnet.backends.accelerate.replay import Replay

        return Replay(step, self.xp, record_step, steps_per_epoch)

    @cached_property
    def for_short_rows(self) -> Backend:
        if cast(Any, self.xp) is not np:
            return self
        from xpnet.backends.accelerate.rows import RowNamespace

        return replace(self, xp=cast(Namespace, RowNamespace(self.xp)))
