"""xpnet's own training loop."""

import math

from benchmarks.contestants.task import BETAS, EPSILON
from xpnet import MLP, Adam, epochs, predict
from xpnet.data.batches import one_hot, shuffle
from xpnet.training import start


class XPNet:
    """`xpnet.epochs` on one backend; `how` are the arguments that `epochs` takes by name."""

    def __init__(self, mlp, optimizer, theta, X, Y, backend, *, n_epochs, **how):
        self.mlp, self.backend, self.n_epochs = mlp, backend, n_epochs
        self.state = start(theta, optimizer, backend=backend)
        self.records = epochs(
            mlp,
            optimizer,
            self.state,
            backend.asarray(X),
            backend.asarray(Y),
            backend=backend,
            n_epochs=n_epochs,
            **how,
        )

    def epoch(self):
        return next(self.records).train_loss  # reading it from the device waits for all steps

    def theta(self):
        return self.backend.to_numpy(self.state.theta)

    def classify(self, X):
        p = predict(self.mlp, self.state.theta, self.backend.asarray(X), backend=self.backend)
        return p.argmax(axis=1)


def on_task(task, backend, optimizer=None):
    """Return xpnet on a task, by default with the settings of Adam that all contestants have."""
    return XPNet(
        MLP(task.sizes),
        optimizer or Adam(*BETAS, EPSILON),
        task.theta,
        task.X,
        task.Y,
        backend,
        n_epochs=2**62,
        schedule=lambda t: task.lr,
        batch_size=task.batch,
        order=lambda n, epoch: task.order,
    )


def with_recipe(pictures, seed, options, backend):
    """Return xpnet with the options of a recipe, as `xpnet train` runs it."""
    mlp, n = network(pictures, options), len(pictures.X)
    return XPNet(
        mlp,
        options.make_optimizer(),
        mlp.init(seed),
        pictures.X,
        one_hot(pictures.y, mlp.sizes[-1]),
        backend,
        n_epochs=options.epochs,
        schedule=options.make_schedule(options.epochs * math.ceil(n / options.batch_size)),
        batch_size=options.batch_size,
        order=lambda n, epoch: shuffle(n, epoch, seed=seed),
        clip_norm=options.clip_norm,
    )


def network(pictures, options):
    """Return the network of a recipe."""
    sizes = (pictures.X.shape[1], *options.hidden, 10)
    return MLP(sizes, options.activations, options.loss, options.l2, options.label_smoothing)
