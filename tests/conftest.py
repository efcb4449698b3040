"""What the tests share: the places a test runs on, one after the other, and `xpnet train`."""

import signal
import sys
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from places import Place, find_places, find_problem, skip_unless_usable

from xpnet.backends import Backend, resolve
from xpnet.backends.jax import Jax
from xpnet.command.cli import main

collect_ignore_glob = ["*conftest.py"]  # --doctest-modules would import each as the one module `conftest`
pytest.register_assert_rewrite("problems")  # tests/estimator/problems.py has assertions, too


class Eager(Jax):
    """A backend that compiles nothing."""

    is_slow_stepwise = False
    compile = Backend.compile
    compile_step = Backend.compile_step


def pytest_addoption(parser):
    parser.addoption(
        "--device",
        choices=["auto", "cpu", "cuda"],
        default="auto",
        help="cpu: without the GPU; cuda: skip, and say why, where a library cannot use it (default: auto)",
    )
    parser.addoption(
        "--kill",
        type=int,
        default=30,
        metavar="N",
        help="kill a run at N random moments, besides once at each write (default: 30)",
    )
    parser.addoption(
        "--fuzz", type=int, default=300, help="number of damaged files in test_fuzz.py (default: 300)"
    )


def pytest_configure(config):
    # A job in the background of a shell script ignores Ctrl-C, and so would the commands that it starts.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "reads_nothing: looks at no value, so it runs on torch-meta, too")
    config.addinivalue_line("markers", "cuda: computes on a CUDA device; set where the place is one")


def pytest_report_header(config):
    usable = [place for place in find_places(config) if place.device == "cuda" and not find_problem(place)]
    gpus = [f", {place} on {place.library.bind('cuda', 'float32').hardware}" for place in usable]
    return f"devices: cpu{''.join(gpus)}"


def pytest_generate_tests(metafunc):
    if "place" in metafunc.fixturenames:
        left_out = set() if metafunc.definition.get_closest_marker("reads_nothing") else {Place.TORCH_META}
        places = [place for place in find_places(metafunc.config) if place not in left_out]
        metafunc.parametrize("place", places, ids=str)


def pytest_collection_modifyitems(items):
    for item in items:
        parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
        fixtures = getattr(item, "fixturenames", ())
        is_on_cuda = any(isinstance(place, Place) and place.device == "cuda" for place in parameters)
        if "there" in fixtures:  # it takes the names of places
            is_on_cuda |= any(name in str(place) for place in parameters for name in ("cupy", "cuda"))
        if is_on_cuda or "cupy_backend" in fixtures:
            item.add_marker("cuda")


@pytest.fixture
def backend(place, pytestconfig):
    """An xpnet backend on this place, float64 where the place has it."""
    skip_unless_usable(place, pytestconfig)
    _, library, device, dtype = place.value
    backend = resolve(device, library, dtype)
    if place is Place.JAX_EAGER:
        backend = Eager(*(getattr(backend, field.name) for field in fields(backend)))
    with strictest() if library == "array_api_strict" else nullcontext():
        yield backend


@pytest.fixture
def lend(place, backend):
    """A function that places the caller's data on the backend, locked against writing where that can be."""

    def lend(x):
        array = backend.asarray(np.array(x))
        if place is Place.NUMPY_READONLY:
            array.flags.writeable = False
        return array

    return lend


@pytest.fixture
def cupy_backend(pytestconfig):
    """CuPy in float64, for tests that no other library can run."""
    skip_unless_usable(Place.CUPY, pytestconfig)
    return resolve("cuda", "cupy", "float64")


@pytest.fixture
def numpy64():
    """The reference: NumPy in float64."""
    return resolve("cpu", "numpy", "float64")


@pytest.fixture
def where(request):
    """The options of the command line for a place, the indirect parameter."""
    skip_unless_usable(request.param, request.config)
    return request.param.options


class Result(NamedTuple):
    """What came of a command."""

    status: int
    out: str
    err: str


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def train(here, monkeypatch, capsys):
    """`xpnet train` in this process, on the CPU if nothing else is said, as if matplotlib were missing."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    def train(options="", *more):
        try:
            status = main(["train", "--device", "cpu", *options.split(), *map(str, more)])
        except SystemExit as end:
            status = end.code
        return Result(status, *capsys.readouterr())

    return train


@pytest.fixture(scope="session")
def mnist_dir():
    """The four original MNIST files."""
    folder = Path(__file__).parents[2] / "shared" / "data" / "mnist"
    if not folder.is_dir():
        pytest.skip(f"needs the MNIST files in {folder.parent.name}/{folder.name} beside the repository")
    return folder


def strictest():
    from array_api_strict import ArrayAPIStrictFlags

    return ArrayAPIStrictFlags(boolean_indexing=False, data_dependent_shapes=False)
