"""The places a test of `backend` runs on."""

from enum import Enum
from functools import cache

import pytest

from xpnet.backends import LIBRARIES


class Place(Enum):
    """(test id, backend, device, dtype)"""

    NUMPY = "numpy", "numpy", "cpu", "float64"
    NUMPY_READONLY = "numpy-readonly", "numpy", "cpu", "float64"
    STRICT = "strict", "array_api_strict", "cpu", "float64"
    STRICT_DEVICE1 = "strict-device1", "array_api_strict", "device1", "float64"
    STRICT_NO_FLOAT64 = "strict-no_float64", "array_api_strict", "no_float64", "float32"
    TORCH_CPU = "torch-cpu", "torch", "cpu", "float64"
    TORCH_META = "torch-meta", "torch", "meta", "float64"
    JAX_EAGER = "jax-eager", "jax", "cpu", "float64"
    JAX_JIT = "jax-jit", "jax", "cpu", "float64"
    CUPY = "cupy", "cupy", "cuda", "float64"
    TORCH_CUDA = "torch-cuda", "torch", "cuda", "float64"
    JAX_CUDA = "jax-cuda", "jax", "cuda", "float64"

    def __str__(self):
        return self.value[0]

    @property
    def library(self):
        return LIBRARIES[self.value[1]]

    @property
    def device(self):
        return self.value[2]

    @property
    def options(self):
        """How the command line names this place, if it can."""
        return f"--backend {self.library.name} --device {self.device}"


# Those that the command line can name.
NAMED = [
    *(Place.NUMPY, Place.STRICT, Place.TORCH_CPU, Place.JAX_JIT),
    *(Place.CUPY, Place.TORCH_CUDA, Place.JAX_CUDA),
]


@cache
def find_problem(place):
    """Return why this place cannot be used, or None if it can."""
    return place.library.find_problem(place.device)


def find_places(config):
    """Return the places that pytest's option --device leaves."""
    choice = config.getoption("device")
    if choice == "cuda":
        return list(Place)
    return [p for p in Place if p.device != "cuda" or (choice == "auto" and not find_problem(p))]


def skip_unless_usable(place, config):
    """Skip the test if pytest's option --device leaves this place out, or if it cannot be used."""
    if place not in find_places(config):
        pytest.skip(f"{place}: needs a usable CUDA device")
    if problem := find_problem(place):
        pytest.skip(f"{place.library.name}: {problem}")


def is_emulated(place):
    """Return whether the place is a CUDA device that is emulated in host memory."""
    return place.device == "cuda" and "Emulated" in place.library.bind(place.device, "float32").hardware
