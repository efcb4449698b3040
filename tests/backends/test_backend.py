"""Which library and device a user gets, and what is said where there is none."""

import logging
import sys
from contextlib import nullcontext
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from xpnet.backends import LIBRARIES, Backend, cuda, resolve
from xpnet.backends import backend as backend_module
from xpnet.errors import BackendError, InputError


@pytest.fixture
def no_driver(monkeypatch):
    monkeypatch.setattr(cuda, "explain_missing_driver", lambda: "no NVIDIA driver (for this test)")


@pytest.fixture
def driver(monkeypatch):
    """A machine whose NVIDIA driver loads, with CuPy as the only library that could use it."""
    monkeypatch.setattr(cuda, "explain_missing_driver", lambda: None)
    only = {name: LIBRARIES[name] for name in ("numpy", "cupy")}
    monkeypatch.setattr("xpnet.backends.lookup.LIBRARIES", only)


def forget_cupy(monkeypatch):
    """Make xpnet see every library but CuPy as installed; it asks before it imports."""
    monkeypatch.setattr(backend_module, "find_spec", lambda name: None if name == "cupy" else object())


class FakePool:
    """A memory pool that holds nothing and has no limit."""

    @staticmethod
    def free_bytes():
        return 0

    used_bytes = get_limit = free_bytes


class FakeDevice(nullcontext):
    """A GPU that has 1 GiB free."""

    mem_info = (2**30, 2**31)

    def __init__(self, number):
        super().__init__()
        self.id = number


@pytest.fixture
def fake_cupy(driver, monkeypatch):
    """A CuPy that computes with NumPy and claims two GPUs. A test breaks what it is about."""
    cupy, compat = ModuleType("cupy"), ModuleType("array_api_compat.cupy")
    cupy.__spec__ = ModuleSpec("cupy", None)
    cupy.cuda = SimpleNamespace(
        is_available=lambda: True,
        runtime=SimpleNamespace(getDeviceCount=lambda: 2),
        Device=FakeDevice,
    )
    cupy.get_default_memory_pool = FakePool
    compat.asarray = lambda x, dtype, device: np.asarray(x, dtype)
    compat.ones = lambda shape, dtype, device: np.ones(shape, dtype)
    compat.float32, compat.float64, compat.sum, compat.matmul = np.float32, np.float64, np.sum, np.matmul
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setitem(sys.modules, "array_api_compat.cupy", compat)
    return SimpleNamespace(cupy=cupy, compat=compat)


def test_numpy_on_the_cpu_needs_no_choice():
    backend = resolve("cpu")
    assert (backend.name, backend.device_name, backend.dtype_name) == ("numpy", "cpu", "float32")
    assert backend.xp is np


def test_arrays_come_back_as_they_went(backend):
    for host in (np.linspace(-1, 1, 6).reshape(2, 3), np.float32([1.5]), np.zeros(())):
        array = backend.asarray(host)
        assert array.dtype == backend.dtype
        assert array.device == backend.device
        back = backend.to_numpy(array)
        assert (back.dtype, back.shape) == (backend.dtype_name, host.shape)
        assert back == pytest.approx(host, rel=1e-6)
    integers = backend.to_numpy(backend.asarray(np.array([3, 1, 2], dtype=np.int32)))
    assert (integers.dtype, integers.tolist()) == ("int32", [3, 1, 2])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("library", ["numpy", "torch", "jax", "array_api_strict"])
def test_the_precision_is_the_one_asked_for(library, dtype):
    pytest.importorskip(library)
    backend = resolve("cpu", library, dtype)
    assert (backend.name, backend.dtype_name) == (library, dtype)
    back = backend.to_numpy(backend.asarray([1.0 + 1e-12]))
    assert back.dtype == dtype
    assert (float(back[0]) == 1.0 + 1e-12) == (dtype == "float64")


def test_what_is_read_back_belongs_to_the_reader(backend):
    array = backend.asarray(np.ones(3))
    backend.to_numpy(array)[0] = 5.0
    assert backend.to_numpy(array).tolist() == [1.0, 1.0, 1.0]


def test_a_device_answers_how_much_memory_is_free(backend):
    backend.synchronize()
    free = backend.count_free_bytes()
    assert free is None or free > 0


def test_what_cupy_keeps_for_later_is_free(cupy_backend):
    import cupy

    pool, size = cupy.get_default_memory_pool(), 2**24
    pool.free_all_blocks()
    free = cupy_backend.count_free_bytes()
    x = cupy.empty(size, dtype=cupy.uint8)
    assert cupy_backend.count_free_bytes() == free - size
    del x
    assert pool.total_bytes() >= size
    assert cupy_backend.count_free_bytes() == free
    pool.set_limit(size=pool.used_bytes() + size)
    try:
        assert cupy_backend.count_free_bytes() == size
    finally:
        pool.set_limit(size=0)


def test_only_a_lack_of_memory_is_called_out_of_memory():
    backend = resolve("cpu")
    assert backend.is_out_of_memory(MemoryError())
    assert backend.is_out_of_memory(np._core._exceptions._ArrayMemoryError((2**40,), np.dtype("f4")))
    assert backend.is_out_of_memory(RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert backend.is_out_of_memory(RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes"))
    assert backend.is_out_of_memory(RuntimeError("CUBLAS_STATUS_ALLOC_FAILED"))
    assert not backend.is_out_of_memory(RuntimeError("shapes do not match"))
    assert not backend.is_out_of_memory(ValueError("out of memory"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"backend": "nump"}, r"unknown backend 'nump'. Did you mean 'numpy'\? Choose from numpy, cupy"),
        ({"dtype": "float16"}, "unknown dtype 'float16'. Did you mean .* Choose from float32, float64"),
        ({"device": "gpu"}, "unknown device 'gpu'. Did you mean 'cuda'.*Choose from auto, cpu, cuda, cuda:N"),
    ],
)
def test_an_unknown_name_is_refused_with_the_valid_ones(arguments, words):
    with pytest.raises(InputError, match=words):
        resolve(**arguments)


@pytest.mark.parametrize(
    ("device", "library", "words"),
    [
        ("cpu:1", "numpy", "numpy has no device 'cpu:1', only cpu"),
        ("device9", "array_api_strict", "Did you mean 'device[12]'.*Choose from cpu"),
        ("cpu:1", "torch", "torch has no device 'cpu:1', only cpu"),
        ("cpu:x", "torch", "expected a number after the colon"),
        ("nowhere", "torch", "torch: no such device"),
        ("cpu:7", "jax", "jax: no such device"),
    ],
)
def test_a_device_that_a_library_lacks(device, library, words, request):
    if library == "cupy":
        request.getfixturevalue("fake_cupy")
    elif library != "numpy":
        pytest.importorskip(library)
    with pytest.raises(BackendError, match=words):
        resolve(device, library)


@pytest.mark.usefixtures("no_driver")
def test_cuda_is_never_the_cpu_in_silence(monkeypatch):
    forget_cupy(monkeypatch)
    with pytest.raises(BackendError) as raised:
        resolve("cuda")
    first, *listed, last = str(raised.value).splitlines()
    assert first == "device 'cuda' is not usable:"
    assert listed == [
        '  cupy: not installed: pip install "cupy-cuda13x[ctk]", or "cupy-cuda12x[ctk]" for CUDA 12',
        "  torch: no NVIDIA driver (for this test)",
        "  jax: no NVIDIA driver (for this test)",
    ]
    assert last == "To compute on the CPU, choose the device cpu (--device cpu)"


@pytest.mark.usefixtures("no_driver")
def test_auto_says_why_it_is_on_the_cpu(caplog):
    with caplog.at_level(logging.INFO, "xpnet"):
        assert resolve("auto").name == "numpy"
    (record,) = caplog.records
    assert record.levelno == logging.INFO  # news, and nothing to worry about
    assert record.getMessage() == "computing on the CPU: no NVIDIA driver (for this test)"


def test_auto_says_what_keeps_the_libraries_from_the_gpu(driver, monkeypatch, caplog):
    forget_cupy(monkeypatch)
    with caplog.at_level(logging.INFO, "xpnet"):
        assert resolve("auto").device_name == "cpu"
    assert "there is an NVIDIA driver, but no library can use it:\n  cupy: not installed" in caplog.text


def test_auto_takes_the_first_library_that_can_use_the_gpu(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(cuda, "explain_missing_driver", lambda: None)
    find_problem = classmethod(lambda library, device: None if library.name == "torch" else "broken")
    monkeypatch.setattr(Backend, "find_problem", find_problem)
    backend = resolve("auto")
    assert (backend.name, backend.device_name) == ("torch", "cuda:0")


@pytest.mark.usefixtures("no_driver")
@pytest.mark.parametrize("library", ["array_api_strict", "numpy"])
def test_auto_has_nothing_to_say_about_a_library_without_gpu(library, caplog):
    pytest.importorskip(library)
    assert resolve("auto", library).name == library
    assert not caplog.records


@pytest.mark.parametrize("device", ["auto", "cuda", "cuda:1"])
def test_a_working_cupy_is_taken_first(device, fake_cupy):
    backend = resolve(device, dtype="float64")
    assert (backend.name, backend.xp) == ("cupy", fake_cupy.compat)
    assert backend.device.id == (device == "cuda:1")
    assert backend.block is None
    assert backend.count_free_bytes() == 2**30
    assert backend.asarray([1.0]).dtype == np.float64


def fail(error):
    def fail(*args, **options):
        raise error

    return fail


def break_import(fake, monkeypatch):
    monkeypatch.delitem(sys.modules, "array_api_compat.cupy")
    broken = ImportError("libnvrtc.so.12: cannot open shared object file\nmore lines")
    real = backend_module.import_module
    monkeypatch.setattr(
        backend_module, "import_module", lambda name: fail(broken)() if "cupy" in name else real(name)
    )


def take_devices_away(fake, monkeypatch):
    fake.cupy.cuda.is_available = lambda: False
    fake.cupy.cuda.runtime.getDeviceCount = fail(RuntimeError("cudaErrorNoDevice: no CUDA-capable device"))


def break_kernels(fake, monkeypatch):
    fake.compat.sum = fail(RuntimeError("NVRTC_ERROR_COMPILATION (6)"))


def break_products(fake, monkeypatch):
    fake.compat.matmul = fail(ImportError("libcublas.so.12"))


def miscalculate(fake, monkeypatch):
    fake.compat.matmul = lambda a, b: a * 0.0


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (break_import, r"cupy: cannot be imported \(ImportError: libnvrtc.so.12: .*file\): pip install"),
        (take_devices_away, r"cupy: no such device \(RuntimeError: cudaErrorNoDevice"),
        (
            break_kernels,
            r"cupy: there is a GPU, but it cannot run kernels \(RuntimeError: NVRTC.*pip install",
        ),
        (break_products, r"cannot run kernels \(ImportError: libcublas.so.12\): pip install"),
        (miscalculate, "cupy: the GPU computes wrong results"),
    ],
)
def test_a_cupy_that_cannot_compute_is_refused_with_the_reason(damage, words, fake_cupy, monkeypatch):
    damage(fake_cupy, monkeypatch)
    with pytest.raises(BackendError, match=words) as raised:
        resolve("cuda")
    assert "more lines" not in str(raised.value)


def test_a_gpu_that_is_not_there_is_counted(fake_cupy):
    with pytest.raises(BackendError, match="no device cuda:2: this machine has 2, cuda:0 to cuda:1"):
        resolve("cuda:2", "cupy")


def test_cupy_has_nothing_to_offer_on_a_machine_without_gpu(no_driver, monkeypatch):
    forget_cupy(monkeypatch)
    with pytest.raises(BackendError, match="device 'cuda' is not usable:\n  cupy: not installed"):
        resolve("auto", "cupy")


def test_a_pytorch_without_cuda_is_refused(monkeypatch):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this PyTorch has a GPU")
    monkeypatch.setattr(cuda, "explain_missing_driver", lambda: None)
    with pytest.raises(BackendError, match=r"torch: there is a GPU, but it cannot run kernels .*pip install"):
        resolve("cuda", "torch")


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_library_knows_its_version_or_its_remedy(name):
    library = LIBRARIES[name]
    if library.find_version() is None:
        assert library.find_problem("cpu") == f"not installed: {library.remedy}"
    else:
        assert library.find_version() == pytest.importorskip(name).__version__


@pytest.mark.parametrize(("device", "library", "only"), [("cuda", "numpy", "cpu"), ("cpu", "cupy", "cuda")])
def test_a_device_that_no_installation_brings(device, library, only):
    # Not "pip install ...": that would not help.
    words = f"backend {library} and device {device} contradict each other: {library} computes only on {only}"
    with pytest.raises(InputError, match=words):
        resolve(device, library)


def test_only_cupy_is_distributed_under_other_names(monkeypatch):
    def version(name):
        if name == "cupy-cuda13x":
            return "14.2.0"
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", version)
    monkeypatch.setattr(backend_module, "find_spec", lambda name: object())
    assert LIBRARIES["cupy"].find_version() == "14.2.0"
    assert LIBRARIES["torch"].find_version() == "unknown version"
