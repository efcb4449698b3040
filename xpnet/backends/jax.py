"""JAX, compiled by XLA, on the CPU and on CUDA devices."""

from collections.abc import Callable
from importlib import import_module
from typing import Any, Self, cast

from array_api_compat import is_jax_array

from xpnet._typing import Device
from xpnet.backends.backend import Backend, F, split_device

__all__ = ["Jax"]


class Jax(Backend):
    """JAX. Binding it to float64 enables its 64-bit mode for the whole process."""

    name = "jax"
    namespace = "jax.numpy"
    remedy = 'pip install jax; for a GPU, pip install "jax[cuda13]"'
    devices = ("cpu", "cuda")
    is_slow_stepwise = True

    @classmethod
    def bind(cls, device_name: str, dtype_name: str) -> Self:
        if dtype_name == "float64":
            import_module("jax").config.update("jax_enable_x64", True)
        return super().bind(device_name, dtype_name)

    @staticmethod
    def owns(x: object) -> bool:
        return bool(is_jax_array(x))

    @classmethod
    def find_device(cls, device_name: str) -> Device:
        kind, number = split_device(device_name)
        return import_module("jax").devices(kind)[number]

    @staticmethod
    def name_device(x: Any) -> str:
        device = min(x.devices(), key=lambda device: device.id)
        if device.platform == "cpu":
            return f"cpu:{device.id}" if device.id else "cpu"
        return f"cuda:{device.id}"

    @staticmethod
    def explain_unreadable(x: Any) -> str | None:
        devices = sorted(str(device) for device in x.devices())
        if len(devices) == 1:
            return None
        return (
            f"is sharded over {', '.join(devices)}, expected an array on one device: gather it with "
            "jax.device_put(array, jax.devices()[0])"
        )

    @property
    def hardware(self) -> str | None:
        return str(self.device.device_kind) if self.is_on_gpu else None

    @property
    def block(self) -> None:
        return None  # XLA splits long vectors itself, and its arrays are read-only

    def synchronize(self) -> None:
        xp: Any = self.xp
        import_module("jax").block_until_ready(xp.zeros(1, device=self.device))

    def compile(self, function: F) -> F:
        return cast(F, import_module("jax").jit(function))

    def compile_step(
        self, step: Callable[..., Any], n_steps: int, steps_per_epoch: int
    ) -> Callable[..., Any]:
        from xpnet.backends.accelerate.loop import CompiledLoop

        return CompiledLoop(step, self)

    def count_free_bytes(self) -> int | None:
        if stats := self.device.memory_stats():
            return int(stats["bytes_limit"] - stats["bytes_in_use"])
        return super().count_free_bytes()
