"""The array libraries: which are installed here, on which devices they can compute, and what is missing."""

import ctypes
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec

from xpnet._typing import Device
from xpnet.errors import InputError, choose

__all__ = ["LIBRARIES", "Library", "missing_cuda_driver"]


@dataclass(frozen=True)
class Library:
    """An array library: the namespace to import, where it computes, what to install where it is missing."""

    name: str
    namespace: str
    remedy: str
    devices: tuple[str, ...]

    @property
    def version(self) -> str | None:
        """The installed version, or None; nothing is imported."""
        if find_spec(self.name) is None:
            return None
        from importlib.metadata import PackageNotFoundError, version  # as slow to import as all of xpnet

        for distribution in (self.name, "cupy-cuda12x", "cupy-cuda13x"):
            try:
                return version(distribution)
            except PackageNotFoundError:
                continue
        return "unknown version"

    def problem(self, device: str) -> str | None:
        """Why this library cannot compute on `device` here, with the remedy; None if it can."""
        if self.version is None:
            return f"not installed: {self.remedy}"
        if device.startswith("cuda"):
            if "cuda" not in self.devices:
                return "has no CUDA device"
            if no_driver := missing_cuda_driver():
                return no_driver
        try:
            import_module(self.namespace)
        except Exception as error:
            return f"does not import ({_first_line(error)}): {self.remedy}"
        try:
            handle = self.device(device)
        except InputError as error:
            return str(error)
        except Exception as error:
            return f"no such device ({_first_line(error)}): {self.remedy}"
        return _smoke_test(self, handle) if device.startswith("cuda") else None

    def device(self, device: str) -> Device:
        """Return the library's own object for "cpu", "cuda", "cuda:1" or one of its own device names."""
        kind, _, index = device.partition(":")
        if index and not index.isdigit():
            raise InputError(f"device {device!r}: expected a number after the colon, as in cuda:1")
        if self.name in ("numpy", "cupy"):
            if kind not in self.devices or (index and kind == "cpu"):
                raise InputError(f"{self.name} has no device {device!r}, only {self.devices[0]}")
            return _cupy_device(int(index or 0)) if kind == "cuda" else "cpu"
        if self.name == "torch":
            return import_module("torch").device(device)
        if self.name == "jax":
            return import_module("jax").devices(kind)[int(index or 0)]
        known = import_module(self.name).__array_namespace_info__().devices()
        names = {"cpu": known[0], **{str(d).split("'")[1]: d for d in known}}
        return names[choose(f"device of {self.name}", device, names)]


LIBRARIES = {
    library.name: library
    for library in (
        Library("numpy", "numpy", 'pip install "numpy>=2.1"', ("cpu",)),
        # Their [ctk] brings the CUDA headers and cuBLAS, without which CuPy imports but cannot compute.
        Library("cupy", "array_api_compat.cupy", 'pip install "xpnet[cuda12]" or "xpnet[cuda13]"', ("cuda",)),
        Library(
            "torch",
            "array_api_compat.torch",
            'pip install "xpnet[torch]", for a GPU its CUDA build',
            ("cpu", "cuda"),
        ),
        Library("jax", "jax.numpy", 'pip install "xpnet[jax]", for a GPU "jax[cuda13]"', ("cpu", "cuda")),
        Library("array_api_strict", "array_api_strict", "pip install array-api-strict", ("cpu",)),
    )
}


def _cupy_device(index: int) -> Device:
    cupy = import_module("cupy")
    count = cupy.cuda.runtime.getDeviceCount()  # raises, with the reason, where there is none
    if index >= count:
        raise InputError(f"no device cuda:{index}: this machine has {count}, cuda:0 to cuda:{count - 1}")
    return cupy.cuda.Device(index)


@cache
def missing_cuda_driver() -> str | None:
    """Say that this machine has no NVIDIA driver, or return None."""
    # Asking the loader takes 2 ms; importing PyTorch to be told the same takes a second.
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        ctypes.CDLL(name)
    except OSError:
        return f"no NVIDIA driver on this machine ({name} not found)"
    return None


def _smoke_test(library: Library, device: Device) -> str | None:
    # A visible GPU may still fail at the first kernel (CuPy without the CUDA headers) or at the first
    # product.
    xp = import_module(library.namespace)
    try:
        with device if library.name == "cupy" else nullcontext():
            x = xp.ones((2, 2), dtype=xp.float32, device=device)
            if float(xp.sum(x + 1.0)) != 8.0 or float(xp.sum(xp.matmul(x, x))) != 8.0:
                return "the GPU answers, but with wrong results"
    except Exception as error:
        return f"there is a GPU, but kernels do not run ({_first_line(error)}): {library.remedy}"
    return None


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
