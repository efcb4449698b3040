"""The places of an estimator."""

from importlib import import_module

import pytest
from places import Place

from xpnet.backends import LIBRARIES, resolve


@pytest.fixture
def backend(place, backend):
    """The place, where class labels need unique_values, whose shape depends on the data."""
    if place is Place.JAX_EAGER:
        pytest.skip("an estimator compiles wherever JAX can: jax-jit shows it")
    if backend.name != "array_api_strict":
        yield backend
    else:
        with import_module("array_api_strict").ArrayAPIStrictFlags(data_dependent_shapes=True):
            yield backend


@pytest.fixture
def there(pytestconfig):
    """A function: "library" or "library:device" -> this place in float64, or a skip where it is missing."""

    def there(name):
        library, _, device = name.partition(":")
        device = device or LIBRARIES[library].devices[0]
        if device.startswith("cuda") and pytestconfig.getoption("device") == "cpu":
            pytest.skip("without the GPU: --device cpu")
        if problem := LIBRARIES[library].find_problem(device):
            pytest.skip(f"{library}: {problem}")
        return resolve(device, library, "float64")

    return there
