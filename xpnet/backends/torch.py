"""PyTorch, on the CPU and on CUDA devices."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any, cast

import numpy as np
from array_api_compat import is_torch_array
from numpy.typing import ArrayLike, NDArray

from xpnet._typing import Array, Device, DType
from xpnet.backends import cuda
from xpnet.backends.backend import WORTH_RECORDING, Backend, split_device
from xpnet.errors import InputError

__all__ = ["Torch"]


class Torch(Backend):
    """PyTorch, without its autograd.

    On the CPU a training step is recorded and replayed on the memory of the tensors, small calls by NumPy and
    large ones by PyTorch: see `accelerate`.
    """

    name = "torch"
    namespace = "array_api_compat.torch"
    remedy = "pip install torch; for a GPU, install PyTorch's CUDA build"
    devices = ("cpu", "cuda")

    @staticmethod
    def owns(x: object) -> bool:
        return bool(is_torch_array(x))

    @classmethod
    def find_device(cls, device_name: str) -> Device:
        kind, number = split_device(device_name)  # its error message is clearer than that of PyTorch
        if kind == "cpu" and number:  # PyTorch would use cpu
            raise InputError(f"torch has no device {device_name!r}, only cpu and cuda:N")
        return import_module("torch").device(device_name)

    @staticmethod
    def name_device(x: Any) -> str:
        return str(x.device)

    @staticmethod
    def explain_unreadable(x: Any) -> str | None:
        if x.is_meta:
            return "is a PyTorch tensor on the device meta, which has no values: pass one on the CPU or a GPU"
        if str(x.layout) != "torch.strided":
            return f"is a sparse PyTorch tensor ({x.layout}), which xpnet does not support: pass x.to_dense()"
        return None

    @property
    def hardware(self) -> str | None:
        return str(import_module("torch").cuda.get_device_name(self.device)) if self.is_on_gpu else None

    def as_current(self) -> AbstractContextManager[object]:
        # Its operations follow the arrays, its streams and graphs the current device.
        if not self.is_on_gpu:
            return super().as_current()
        return cast(AbstractContextManager[object], import_module("torch").cuda.device(self.device))

    def asarray(self, x: ArrayLike, dtype: DType = None) -> Array:
        host = np.asarray(x)
        # PyTorch warns about read-only memory, and rejects negative strides.
        if not host.flags.writeable or min(host.strides, default=0) < 0:
            host = host.copy()
        return super().asarray(host, dtype)

    def to_numpy(self, x: Array) -> NDArray[Any]:
        return np.array(cast(Any, x).detach().cpu().numpy())

    def detach(self, x: Array) -> Array:
        return cast(Array, cast(Any, x).detach())

    def synchronize(self) -> None:
        if self.is_on_gpu:
            import_module("torch").cuda.synchronize(self.device)

    def compile_step(
        self, step: Callable[..., Any], n_steps: int, steps_per_epoch: int
    ) -> Callable[..., Any]:
        if self.device_name == "cpu" and n_steps >= WORTH_RECORDING:
            from xpnet.backends.accelerate.replay import Replay
            from xpnet.backends.accelerate.shared import find_memory, record_shared_step

            return Replay(step, self.xp, record_shared_step, steps_per_epoch, find_memory)
        if self.is_on_gpu and cuda.is_worth_a_graph(n_steps):
            from xpnet.backends.accelerate.capture import TorchCapture
            from xpnet.backends.accelerate.graph import GraphStep

            return GraphStep(step, self, TorchCapture)
        return super().compile_step(step, n_steps, steps_per_epoch)

    def count_free_bytes(self) -> int | None:
        if self.is_on_gpu:
            memory = import_module("torch").cuda
            kept = memory.memory_reserved(self.device) - memory.memory_allocated(self.device)
            return int(memory.mem_get_info(self.device)[0] + kept)
        return super().count_free_bytes()
