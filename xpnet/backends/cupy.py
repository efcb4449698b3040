"""CuPy, on CUDA devices."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any, cast

from array_api_compat import is_cupy_array
from numpy.typing import NDArray

from xpnet._typing import Array, Device
from xpnet.backends import cuda
from xpnet.backends.backend import Backend, split_device
from xpnet.errors import InputError

__all__ = ["CuPy"]


class CuPy(Backend):
    """CuPy."""

    name = "cupy"
    namespace = "array_api_compat.cupy"
    # [ctk] installs the CUDA headers and cuBLAS. Without them CuPy can be imported but cannot compute.
    remedy = 'pip install "cupy-cuda13x[ctk]", or "cupy-cuda12x[ctk]" for CUDA 12'
    distributions = ("cupy-cuda12x", "cupy-cuda13x")
    devices = ("cuda",)

    @staticmethod
    def owns(x: object) -> bool:
        return bool(is_cupy_array(x))

    @classmethod
    def find_device(cls, device_name: str) -> Device:
        kind, number = split_device(device_name)
        if kind != "cuda":
            raise InputError(f"cupy has no device {device_name!r}, only cuda")
        cupy = import_module("cupy")
        count = cupy.cuda.runtime.getDeviceCount()  # raises if there is none, and says why
        if number >= count:
            raise InputError(f"no device cuda:{number}: this machine has {count}, cuda:0 to cuda:{count - 1}")
        return cupy.cuda.Device(number)

    @staticmethod
    def name_device(x: Any) -> str:
        return f"cuda:{x.device.id}"

    @property
    def hardware(self) -> str:
        name: bytes = import_module("cupy").cuda.runtime.getDeviceProperties(self.device.id)["name"]
        return name.decode()

    def as_current(self) -> AbstractContextManager[object]:
        # Threads can share this object: CuPy keeps the previous devices of each thread apart.
        return cast(AbstractContextManager[object], self.device)

    def to_numpy(self, x: Array) -> NDArray[Any]:
        with self.as_current():  # `get` waits for the current stream of the current device
            # `get` of an array with gaps would replace a current stream that was set with `Stream.use`.
            return cast(NDArray[Any], cast(Any, self.xp).asarray(x, order="C").get())

    def synchronize(self) -> None:
        self.device.synchronize()

    def compile_step(
        self, step: Callable[..., Any], n_steps: int, steps_per_epoch: int
    ) -> Callable[..., Any]:
        if not cuda.is_worth_a_graph(n_steps):
            return super().compile_step(step, n_steps, steps_per_epoch)
        from xpnet.backends.accelerate.capture import CuPyCapture
        from xpnet.backends.accelerate.graph import GraphStep

        return GraphStep(step, self, CuPyCapture)

    def count_free_bytes(self) -> int:
        pool = import_module("cupy").get_default_memory_pool()
        with self.as_current():
            free = int(self.device.mem_info[0]) + int(pool.free_bytes())
            limit = int(pool.get_limit())
            return min(free, limit - int(pool.used_bytes())) if limit else free
