"""Those who take part: xpnet on each library, and its peers, each trained in the way that is usual for it.

All train the same network (ReLU, softmax cross-entropy, Adam) from the same parameters on the same batches.
A contestant has `epoch() -> float`, which takes all steps of an epoch, waits for the device and returns the
mean loss over the epoch's steps, and `theta()`, its parameters as xpnet lays them out, on the host.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from benchmarks.hand_written import Floor, HandWritten, split
from xpnet import MLP, Adam, epochs, resolve
from xpnet.backends import LIBRARIES
from xpnet.data.batches import one_hot
from xpnet.errors import BackendError, InputError, choose
from xpnet.training import start

BETAS, EPSILON = (0.9, 0.999), 1e-8


@dataclass(frozen=True)
class Task:
    """What all contestants are given: rows (float32), labels, and the order in which an epoch visits them."""

    sizes: tuple[int, ...]
    batch: int
    X: np.ndarray
    y: np.ndarray
    order: np.ndarray
    device: str = "cpu"
    lr: float = 1e-3

    @cached_property
    def theta(self):
        return MLP(self.sizes).init(0).astype(np.float32)

    @cached_property
    def Y(self):
        return one_hot(self.y, self.sizes[-1]).astype(np.float32)

    @property
    def steps(self):
        return len(self.order) // self.batch

    def batches(self, order=None):
        order = self.order if order is None else order
        return [order[i * self.batch : (i + 1) * self.batch] for i in range(self.steps)]


def make_task(sizes, batch, steps, X, y, device="cpu"):
    """Return the task of `steps` steps an epoch, on as many of the rows as these visit once, shuffled."""
    rows = batch * steps
    if rows > len(X):
        raise InputError(f"{steps} steps of {batch} rows need {rows} rows, there are {len(X)}")
    order = np.random.default_rng(0).permutation(rows)
    return Task(tuple(sizes), batch, X[:rows], y[:rows], order, device)


class XPNet:
    """xpnet's own training loop, one epoch at a time."""

    def __init__(self, task, backend, optimizer=None):
        optimizer, self.backend = optimizer or Adam(*BETAS, EPSILON), backend
        self.state = start(task.theta, optimizer, backend=backend)
        self.records = epochs(
            MLP(task.sizes),
            optimizer,
            self.state,
            backend.asarray(task.X),
            backend.asarray(task.Y),
            backend=backend,
            schedule=lambda t: task.lr,
            n_epochs=2**62,
            batch_size=task.batch,
            order=lambda n, epoch: task.order,
        )

    def epoch(self):
        return next(self.records).train_loss  # read from the device, which has then done all it was given

    def theta(self):
        return self.backend.to_numpy(self.state.theta)


class ByHand:
    """NumPy written by hand."""

    def __init__(self, task):
        self.net = HandWritten(task.sizes, task.theta, task.X, task.Y, task.batch, task.lr, *BETAS, EPSILON)
        self.batches = task.batches()

    def epoch(self):
        net = self.net
        net.total = 0.0
        for rows in self.batches:
            net.step(rows)
        return net.total / len(self.batches)

    def theta(self):
        return self.net.theta.copy()


class Products:
    """The floor. It trains nothing."""

    def __init__(self, task):
        rng = np.random.default_rng(0)
        on_gpu = task.device.startswith("cuda")
        backend = resolve(task.device) if on_gpu else resolve("cpu", "numpy")
        if backend.name not in ("numpy", "cupy", "torch"):
            raise BackendError(f"{backend.name} has no product into an array made beforehand")
        self.floor = Floor(
            task.sizes,
            task.batch,
            __import__(backend.name).matmul,
            lambda *shape: backend.asarray(rng.random(shape, dtype=np.float32)),
        )
        self.steps, self.synchronize = task.steps, backend.synchronize

    def epoch(self):
        for _ in range(self.steps):
            self.floor.step()
        self.synchronize()
        return math.nan

    def theta(self):
        return None


class ScikitLearn:
    """MLPClassifier.partial_fit, an epoch a call."""

    def __init__(self, task):
        from sklearn.neural_network import MLPClassifier

        self.X, self.y = task.X, task.y
        self.model = model = MLPClassifier(
            task.sizes[1:-1],
            alpha=0.0,
            batch_size=task.batch,
            learning_rate_init=task.lr,
            random_state=InOrder(task.order),
            beta_1=BETAS[0],
            beta_2=BETAS[1],
            epsilon=EPSILON,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.partial_fit(self.X, self.y, classes=np.arange(task.sizes[-1]))
        weights, biases = split(task.theta, task.sizes)
        model.coefs_ = [W.copy() for W in weights]
        model.intercepts_ = [b.copy() for b in biases]
        model.t_, model.loss_curve_ = 0, []
        del model._optimizer  # the one that has seen the epoch above

    def epoch(self):
        self.model.partial_fit(self.X, self.y)
        return self.model.loss_

    def theta(self):
        return np.concatenate([*(W.ravel() for W in self.model.coefs_), *self.model.intercepts_])


class InOrder(np.random.RandomState):
    """A random state that shuffles into this order, so that scikit-learn sees the batches of the others."""

    def __init__(self, order):
        super().__init__(0)
        self.order = order

    def shuffle(self, x):
        x[:] = np.asarray(x)[self.order]


class Torch:
    """PyTorch: a Sequential and torch.optim.Adam, in one of four modes."""

    def __init__(self, task, mode):
        import torch

        if mode == "compile" and not task.device.startswith("cuda"):
            raise BackendError("measured on a GPU only")
        self.torch, self.device, self.mode = torch, torch.device(task.device), mode
        self.X = torch.tensor(task.X, device=self.device)
        self.y = torch.tensor(task.y, device=self.device)
        self.batches = torch.tensor(task.order, device=self.device)[: task.steps * task.batch].split(
            task.batch
        )
        self.linears = [torch.nn.Linear(*shape, device=self.device) for shape in pairwise(task.sizes)]
        layers = [layer for linear in self.linears for layer in (linear, torch.nn.ReLU())][:-1]
        self.network = torch.nn.Sequential(*layers)
        self.set_parameters(task)
        how = {"fused": True} if mode != "eager" else {}
        if mode == "graph":
            how["capturable"] = True
        self.optimizer = torch.optim.Adam(
            self.network.parameters(), lr=task.lr, betas=BETAS, eps=EPSILON, **how
        )
        self.total = torch.zeros((), device=self.device)
        self.loss = torch.compile(self._loss) if mode == "compile" else self._loss
        self.step = self.captured(task) if mode == "graph" else self._step

    def set_parameters(self, task):
        weights, biases = split(task.theta, task.sizes)
        with self.torch.no_grad():
            for linear, W, b in zip(self.linears, weights, biases, strict=True):
                linear.weight.copy_(self.torch.from_numpy(W.T.copy()))
                linear.bias.copy_(self.torch.from_numpy(b.copy()))

    def _loss(self, rows):
        return self.torch.nn.functional.cross_entropy(self.network(self.X[rows]), self.y[rows])

    def _step(self, rows):
        self.optimizer.zero_grad()
        loss = self.loss(rows)
        loss.backward()
        self.optimizer.step()
        self.total += loss.detach()

    def captured(self, task):
        """Return a step that replays a CUDA graph of `_step`."""
        torch = self.torch
        rows = self.batches[0].clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # a capture wants some steps made before, beside the main stream
            for _ in range(3):
                self._step(rows)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        self.optimizer.zero_grad()
        with torch.cuda.graph(graph):
            self._step(rows)
        self.set_parameters(task)  # in place: the graph knows these addresses
        for state in self.optimizer.state.values():
            for value in state.values():
                value.zero_()

        def step(batch):
            rows.copy_(batch)
            graph.replay()

        return step

    def epoch(self):
        self.total.zero_()
        for rows in self.batches:
            self.step(rows)
        return float(self.total) / len(self.batches)

    def theta(self):
        weights = [linear.weight.detach().cpu().numpy().T.ravel() for linear in self.linears]
        return np.concatenate([*weights, *(linear.bias.detach().cpu().numpy() for linear in self.linears)])


class Jax:
    """JAX: value_and_grad over a list of (W, b), Adam by tree.map, the whole step jitted and donated."""

    def __init__(self, task):
        import jax
        import jax.numpy as jnp

        self.device = device = jax.devices("gpu" if task.device.startswith("cuda") else "cpu")[0]
        weights, biases = split(task.theta, task.sizes)
        # A copy first: JAX may take NumPy's memory as its own, and this step gives its memory away.
        parameters = jax.device_put(
            [(W.copy(), b.copy()) for W, b in zip(weights, biases, strict=True)], device
        )
        zeros = [jax.tree.map(jnp.zeros_like, parameters) for _ in range(2)]
        self.zero = jax.device_put(np.zeros((), np.float32), device)
        self.state = parameters, *zeros, self.zero.copy()
        self.data = jax.device_put((task.X, task.y), device)
        self.batches = [jax.device_put(rows, device) for rows in task.batches()]
        self.step = jax.jit(self.step_of(jax, jnp, task.lr), donate_argnums=(0, 1))

    @staticmethod
    def step_of(jax, jnp, lr):
        (beta_1, beta_2), tree_map = BETAS, jax.tree.map

        def loss_of(parameters, X, y):
            h = X
            for W, b in parameters[:-1]:
                h = jax.nn.relu(h @ W + b)
            W, b = parameters[-1]
            log_p = jax.nn.log_softmax(h @ W + b)
            return -jnp.take_along_axis(log_p, y[:, None], axis=1).mean()

        def step(state, total, data, rows):
            parameters, m, v, t = state
            X, y = data
            loss, g = jax.value_and_grad(loss_of)(parameters, X[rows], y[rows])
            t = t + 1
            m = tree_map(lambda m, g: beta_1 * m + (1 - beta_1) * g, m, g)
            v = tree_map(lambda v, g: beta_2 * v + (1 - beta_2) * g * g, v, g)
            m_scale, v_scale = 1 / (1 - beta_1**t), 1 / (1 - beta_2**t)
            parameters = tree_map(
                lambda p, m, v: p - lr * m * m_scale / (jnp.sqrt(v * v_scale) + EPSILON), parameters, m, v
            )
            return (parameters, m, v, t), total + loss

        return step

    def epoch(self):
        total = self.zero.copy()
        for rows in self.batches:
            self.state, total = self.step(self.state, total, self.data, rows)
        return float(total) / len(self.batches)

    def theta(self):
        parameters = self.state[0]
        weights = [np.asarray(W).ravel() for W, _ in parameters]
        return np.concatenate([*weights, *(np.asarray(b) for _, b in parameters)])


class Peer(NamedTuple):
    """A contestant that is not xpnet.

    Attributes:
        package: what it needs.
        devices: where it computes.
        make: makes one of a task.
        epsilon_hat: its Adam has ε outside the bias correction; so has then the xpnet it must agree with.
    """

    package: str
    devices: tuple[str, ...]
    make: Callable[[Task], object]
    epsilon_hat: bool = False


PEERS = {
    "hand-written": Peer("numpy", ("cpu",), ByHand),
    "scikit-learn": Peer("sklearn", ("cpu",), ScikitLearn, epsilon_hat=True),
    "torch-eager": Peer("torch", ("cpu", "cuda"), lambda task: Torch(task, "eager")),
    "torch-fused": Peer("torch", ("cpu", "cuda"), lambda task: Torch(task, "fused")),
    "torch-graph": Peer("torch", ("cuda",), lambda task: Torch(task, "graph")),
    "torch-compile": Peer("torch", ("cuda",), lambda task: Torch(task, "compile")),
    "jax-jit": Peer("jax", ("cpu", "cuda"), Jax),
    "floor": Peer("numpy", ("cpu", "cuda"), Products),
}


def usable_backends(device, names):
    """Return (the xpnet backends to compare, the first of which is "xpnet" in ratios; {left out: why}).

    Args:
        device: `cpu`, `cuda` or `auto`.
        names: libraries that must be there, or nothing for all that are.

    Raises:
        BackendError, InputError: xpnet's own words on what is missing, or is no such name.
    """
    first = resolve(device)  # refuses a GPU that is not there, and says why
    kind = "cuda" if first.device_name.startswith("cuda") else "cpu"
    if kind == "cuda" and find_spec("jax"):
        import jax  # which on a GPU multiplies in TF32 unless told otherwise; the others do not

        jax.config.update("jax_default_matmul_precision", "highest")
    if names:
        return [resolve(device if device != "auto" else kind, name) for name in dict.fromkeys(names)], {}
    found, left_out = [], {}
    for name, library in LIBRARIES.items():
        if name == "array_api_strict":
            continue  # it checks arithmetic, slowly; `--backend array_api_strict` has it
        if kind not in library.devices:
            continue
        if problem := library.problem(first.device_name):
            left_out[f"xpnet on {name}"] = problem
        else:
            found.append(resolve(first.device_name, name))
    return found, left_out


def chosen_peers(wanted, device, peers=PEERS):
    """Return ({name: Peer}, {left out: why}) for this device.

    Args:
        wanted: names, of which `torch` stands for all that begin with `torch-`; None: all; ["none"]: none.

    Raises:
        InputError: no such peer.
    """
    if wanted == ["none"]:
        return {}, {}
    names = list(peers)
    if wanted is not None:
        families = {name.partition("-")[0] for name in peers if name.startswith(("torch-", "jax-"))}
        for name in wanted:
            choose("peer", name, [*peers, *sorted(families), "none"])
        names = [n for n in peers if n in wanted or n.partition("-")[0] in families.intersection(wanted)]
    found, left_out = {}, {}
    kind = device.partition(":")[0]
    for name in names:
        if find_spec(peers[name].package) is None:
            left_out[name] = f"{peers[name].package} is not installed"
        elif kind not in peers[name].devices:
            left_out[name] = f"computes on {' and '.join(peers[name].devices)} only"
        else:
            found[name] = peers[name]
    return found, left_out


def label(backend):
    """Return the name of xpnet on this backend in tables."""
    return f"xpnet ({backend.name})"
