"""array_api_strict: a strict implementation of the Array API standard on NumPy. It is slow, and for tests."""

from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet._typing import Array, Device
from xpnet.backends.backend import Backend
from xpnet.errors import choose

__all__ = ["ArrayAPIStrict"]


class ArrayAPIStrict(Backend):
    """array_api_strict, including its devices `device1`, `device2`, `no_float64` and `no_x64`."""

    name = "array_api_strict"
    namespace = "array_api_strict"
    remedy = "pip install array-api-strict"

    @staticmethod
    def owns(x: object) -> bool:
        return type(x).__module__.partition(".")[0] == "array_api_strict"

    @classmethod
    def find_device(cls, device_name: str) -> Device:
        known = import_module(cls.namespace).__array_namespace_info__().devices()
        names = {_get_name(device): device for device in known}
        return names[choose(f"device of {cls.name}", device_name, names)]

    @staticmethod
    def name_device(x: Any) -> str:
        return _get_name(x.device)

    def to_numpy(self, x: Array) -> NDArray[Any]:
        xp: Any = self.xp
        return np.array(xp.asarray(x, device=xp.Device("CPU_DEVICE")))


def _get_name(device: Device) -> str:
    name = str(device).split("'")[1]
    return "cpu" if name == "CPU_DEVICE" else name
