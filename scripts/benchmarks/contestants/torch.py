"""PyTorch: a Sequential of Linear and ReLU, trained with cross-entropy and torch.optim.Adam."""

import math
from itertools import count, pairwise

import numpy as np

from benchmarks.contestants.task import BETAS, EPSILON, split
from benchmarks.contestants.xpnet import network
from xpnet.data.batches import shuffle


class Torch:
    """The one training loop of all PyTorch contestants.

    Args:
        sizes: (inputs, hidden ..., outputs).
        X, y: all training rows (float32) and their class indices.
        device: `cpu`, `cuda` or `cuda:<index>`.
        batches: () -> the row numbers of each batch of the next epoch, tensors on the device.
        theta: the initial parameters in xpnet's layout; None: PyTorch draws them.
        schedule: step, counted from 1 -> learning rate; None: constant.
        n_epochs: the number of epochs after which its training ends.
        adam: the arguments of torch.optim.Adam.
    """

    def __init__(
        self,
        sizes,
        X,
        y,
        device,
        batches,
        *,
        theta=None,
        label_smoothing=0.0,
        schedule=None,
        n_epochs=math.inf,
        **adam,
    ):
        import torch

        self.torch, self.sizes, self.device = torch, sizes, device
        self.X, self.y = torch.tensor(X, device=device), torch.tensor(y, device=device)
        self.batches, self.schedule, self.n_epochs = batches, schedule, n_epochs
        self.label_smoothing = label_smoothing
        self.network = make_network(sizes, device)
        if theta is not None:
            set_parameters(self.network, *split(theta, sizes))
        self.optimizer = torch.optim.Adam(self.network.parameters(), **adam)
        self.total = torch.zeros((), device=device)
        self.steps = count(1)

    def loss(self, rows):
        z = self.network(self.X[rows])
        return self.torch.nn.functional.cross_entropy(z, self.y[rows], label_smoothing=self.label_smoothing)

    def step(self, rows):
        self.optimizer.zero_grad()
        loss = self.loss(rows)
        loss.backward()
        self.optimizer.step()
        self.total += loss.detach()

    def epoch(self):
        self.total.zero_()
        batches = self.batches()
        for rows in batches:
            if self.schedule:
                self.set_learning_rate()
            self.step(rows)
        return float(self.total) / len(batches)  # waits for the device

    def set_learning_rate(self):
        lr = self.schedule(next(self.steps))
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def capture(self, theta):
        """Return a step that replays a CUDA graph of `step`; the parameters are theta again."""
        torch, rows = self.torch, self.batches()[0].clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # PyTorch asks for a few steps on a side stream before a capture
            for _ in range(3):
                self.step(rows)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        self.optimizer.zero_grad()
        with torch.cuda.graph(graph):
            self.step(rows)
        set_parameters(self.network, *split(theta, self.sizes))  # in place: the graph holds these addresses
        for state in self.optimizer.state.values():
            for value in state.values():
                value.zero_()

        def step(batch):
            rows.copy_(batch)
            graph.replay()

        return step

    def theta(self):
        linears = self.network[::2]
        weights = [linear.weight.detach().cpu().numpy().T.ravel() for linear in linears]
        return np.concatenate([*weights, *(linear.bias.detach().cpu().numpy() for linear in linears)])

    def classify(self, X):
        with self.torch.no_grad():
            z = self.network(self.torch.tensor(X, device=self.device))
        return z.argmax(dim=1).cpu().numpy()


def make_network(sizes, device="cpu"):
    """Return a Sequential of Linear and ReLU, ending with a Linear."""
    from torch import nn

    linears = [nn.Linear(*shape, device=device) for shape in pairwise(sizes)]
    return nn.Sequential(*[layer for linear in linears for layer in (linear, nn.ReLU())][:-1])


def set_parameters(network, weights, biases):
    """Copy weights (inputs, outputs) and biases from the host into a network of `make_network`."""
    import torch

    with torch.no_grad():
        for linear, W, b in zip(network[::2], weights, biases, strict=True):
            linear.weight.copy_(torch.from_numpy(W.T.copy()))
            linear.bias.copy_(torch.from_numpy(b.copy()))


def on_task(task, mode):
    """Return PyTorch on a task.

    Args:
        mode: `eager`; `fused`, with the fused Adam; `graph`, the same replayed as a CUDA graph; `compile`,
            the same as `fused` with a compiled loss.
    """
    import torch

    adam = {"lr": task.lr, "betas": BETAS, "eps": EPSILON}
    if mode != "eager":
        adam["fused"] = True
    if mode == "graph":
        adam["capturable"] = True
    rows = torch.tensor(task.order, device=task.device)[: task.steps * task.batch]
    batches = rows.split(task.batch)
    found = Torch(task.sizes, task.X, task.y, task.device, lambda: batches, theta=task.theta, **adam)
    if mode == "compile":
        found.loss = torch.compile(found.loss)
    if mode == "graph":
        found.step = found.capture(task.theta)
    return found


def with_defaults(pictures, seed, options, device):
    """Return PyTorch with default layers and Adam, 100 hidden units and batches of 200. Ignores `options`."""
    import torch

    torch.manual_seed(seed)
    n, inputs = pictures.X.shape

    def batches():
        return torch.randperm(n, device=device).split(200)

    return Torch((inputs, 100, 10), pictures.X, pictures.y, device, batches, lr=1e-3)


def with_recipe(pictures, seed, options, device):
    """Return PyTorch with the network, first parameters, batches and schedule of a recipe, and fused Adam."""
    import torch

    mlp, n, epochs = network(pictures, options), len(pictures.X), count()

    def batches():
        rows = shuffle(n, next(epochs), seed=seed)
        return torch.tensor(rows, device=device).split(options.batch_size)

    return Torch(
        mlp.sizes,
        pictures.X,
        pictures.y,
        device,
        batches,
        theta=mlp.init(seed).astype(np.float32),
        label_smoothing=options.label_smoothing,
        schedule=options.make_schedule(options.epochs * math.ceil(n / options.batch_size)),
        n_epochs=options.epochs,
        lr=1e-3,
        fused=True,
    )


def predict_proba(coefs, intercepts):
    """Return PyTorch's counterpart of `predict_proba` with these parameters."""
    import torch

    network = make_network((len(coefs[0]), *(len(b) for b in intercepts)))
    set_parameters(network, coefs, intercepts)
    network.eval()

    def predict_proba(X):
        with torch.no_grad():
            return torch.softmax(network(torch.from_numpy(X)), dim=1).numpy()

    return predict_proba
