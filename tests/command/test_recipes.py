"""Recipes: the five tutorials against the articles' figures and arithmetic, and recipes of a user's own.

What the articles print and compute is copied here, not read from the recipes that are tested.
"""

import json
import re
import signal
import struct
from dataclasses import fields
from itertools import pairwise

import numpy as np
import pytest
from places import NAMED, Place, is_emulated
from sklearn.datasets import load_digits

from xpnet.command.options import Options
from xpnet.command.progress import Progress
from xpnet.command.recipes import load_recipe, recipe_names
from xpnet.data.loading import load
from xpnet.maths.mlp import MLP
from xpnet.training.model import load_model

# The articles' titles, and what `--list-recipes` must say of their figures.
ARTICLES = {
    "softmax-layer": (
        "Neural Network approach to classify handwritten numerals using Softmax layer",
        ["train accuracy at least 100.00 %\n", "test accuracy at least 96.88 %\n"],
    ),
    "digit-classifier": ("Digit Classifier using Neural Networks", ["train accuracy 95.50 % ± 1 %\n"]),
    "step-by-step-tanh": (
        "Building Your First Neural Network From Scratch: A Step-by-Step Guide with the MNIST Dataset",
        ["15 printed lines, to 6 decimals"],
    ),
    "minibatch-sigmoid": (
        "MNIST(hand written digit) Classification Using Neural Network(Step by Step) From Scratch",
        ["train accuracy 95.45 % ± 0.5 %\n", "test accuracy at least 92.30 %\n"],
    ),
    "softmax-part-2": (
        "Implementing Neural Network from scratch-Part 2 (Softmax Classification)",
        ["10 printed lines", "train accuracy 70.215 % ±", "test accuracy 71.81 % ±"],
    ),
}

STEP_BY_STEP = """
Cost after iteration 0: 0.230083 Accuracy: 13.260000
Cost after iteration 10: 0.204155 Accuracy: 40.781667
Cost after iteration 20: 0.153983 Accuracy: 47.766667
Cost after iteration 30: 0.118734 Accuracy: 67.136667
Cost after iteration 40: 0.096660 Accuracy: 73.488333
Cost after iteration 50: 0.083073 Accuracy: 77.815000
Cost after iteration 60: 0.072998 Accuracy: 80.786667
Cost after iteration 70: 0.115302 Accuracy: 60.456667
Cost after iteration 80: 0.061357 Accuracy: 84.006667
Cost after iteration 90: 0.060022 Accuracy: 84.413333
Cost after iteration 100: 0.058777 Accuracy: 84.738333
Cost after iteration 110: 0.057598 Accuracy: 85.070000
Cost after iteration 120: 0.056478 Accuracy: 85.361667
Cost after iteration 130: 0.055412 Accuracy: 85.630000
Cost after iteration 140: 0.054397 Accuracy: 85.903333
"""


@pytest.fixture
def user(here):
    """A function that writes `my.toml`, a user's own recipe on a small table: options, then other tables."""
    y = np.arange(60) % 3
    X = np.random.default_rng(1).standard_normal((3, 4))[y] * 3
    X += np.random.default_rng(0).standard_normal((60, 4))
    np.savez(here / "small.npz", X=X[:40], y=y[:40], X_test=X[40:], y_test=y[40:])

    def user(options="", tables=""):
        (here / "my.toml").write_text(f"{OWN}{options}\n{tables}\n")

    return user


OWN = """
title = "A network of my own"
[options]
data = "small.npz"
validation = 0.0
hidden = [5]
activation = ["tanh"]
batch_size = 7
epochs = 3
dtype = "float64"
"""


def table(out):
    """The printed table: step, cost of the article and here, accuracy of both, cross-entropy here."""
    return [line.split() for line in re.findall(r"^ +\d+(?: +[\d.-]+){5}$", out, flags=re.MULTILINE)]


def printed(folder):
    return [json.loads(line) for line in (folder / "printed.jsonl").read_text().splitlines()]


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# The articles


@pytest.mark.parametrize(
    "where", [Place.NUMPY, *(place for place in NAMED if place.device == "cuda")], indirect=True, ids=str
)
def test_step_by_step_prints_the_15_lines_of_its_article(train, here, mnist_dir, where):
    # An emulated device would take more than a minute.
    shorter = "--epochs 30" if "cupy" in where and is_emulated(Place.CUPY) else ""
    result = train(f"--recipe step-by-step-tanh --out run {where} {shorter} --data-dir", mnist_dir)
    theirs = re.findall(r"^Cost after iteration (\d+): (\S+) Accuracy: (\S+)$", STEP_BY_STEP, re.MULTILINE)
    assert len(theirs) == 15
    rows, theirs = (lines[: 3 if shorter else 15] for lines in (table(result.out), theirs))
    assert [(step, cost, accuracy) for step, _, cost, _, accuracy, _ in rows] == theirs
    assert [(step, cost, accuracy) for step, cost, _, accuracy, _, _ in rows] == theirs
    if shorter:
        return
    assert result.status == 0, result.err
    assert result.out.endswith("They agree (printed lines to 6 decimals).\n")
    # Their cost is a mean over ten classes, too, with 1e-8 inside the logarithm.
    for _, cost, _, _, _, cross_entropy in rows:
        assert float(cross_entropy) == pytest.approx(10 * float(cost), abs=1e-5)
    assert metrics(here / "run")["sizes"] == [784, 16, 16, 10]


def train_as_the_articles(X, y, layers, seed, scale, rates, hidden, slope):
    """Articles 2 and 4, a column an example: (cost, accuracy in %) before each update, then W and b."""
    rng = np.random.RandomState(seed)
    X, Y, m = X.T, np.eye(10)[y].T, len(y)
    W, b = [], []
    for n_in, n_out in pairwise(layers):
        W.append(rng.randn(n_out, n_in) * scale(n_in))
        b.append(np.zeros((n_out, 1)))

    lines = []
    for rate in rates:
        A = answer_as_the_articles(X, W, b, hidden)
        lines.append((-np.mean(Y * np.log(A[-1] + 1e-8)), (np.argmax(A[-1], axis=0) == y).mean() * 100))
        dZ = A[-1] - Y
        for layer in reversed(range(len(W))):
            dW = 1 / m * dZ.dot(A[layer].T)
            db = 1 / m * np.sum(dZ, axis=1, keepdims=True)
            if layer:
                dZ = W[layer].T.dot(dZ) * slope(A[layer])
            W[layer] = W[layer] - rate * dW
            b[layer] = b[layer] - rate * db
    return lines, W, b


def answer_as_the_articles(X, W, b, hidden):
    A = [X]
    for layer in range(len(W)):
        Z = W[layer].dot(A[-1]) + b[layer]
        A.append(hidden(Z))
    expZ = np.exp(Z - np.max(Z))
    A[-1] = expZ / expZ.sum(axis=0, keepdims=True)
    return A


SAME_CODE = {
    "step-by-step-tanh": {
        "layers": [64, 16, 16, 10],
        "seed": 2,
        "scale": lambda n_in: 0.1,
        # "if i > 75: learning_rate = 0.1"
        "rates": [0.5 if i <= 75 else 0.1 for i in range(150)],
        "hidden": lambda Z: (np.exp(Z) - np.exp(-Z)) / (np.exp(Z) + np.exp(-Z)),
        "slope": lambda A: 1 - np.power(A, 2),
    },
    "softmax-part-2": {
        "layers": [64, 50, 10],
        "seed": 1,
        "scale": lambda n_in: 1 / np.sqrt(n_in),
        "rates": [0.1] * 100,
        "hidden": lambda Z: 1 / (1 + np.exp(-Z)),
        "slope": lambda A: A * (1 - A),
    },
}


@pytest.mark.parametrize("name", SAME_CODE)
@pytest.mark.parametrize("where", NAMED, indirect=True, ids=str)
def test_a_recipe_does_what_the_code_of_its_article_does(train, here, name, where):
    # Few and small pictures, so that every library is soon done; bytes, like MNIST's divided by 255.
    digits = load_digits()
    X, y = (8 * digits.data[:800]).astype(np.uint8), digits.target[:800]
    np.savez("small.npz", X=X[:500], y=y[:500], X_test=X[500:], y_test=y[500:])
    lines, W, b = train_as_the_articles(X[:500] / 255, y[:500], **SAME_CODE[name])

    result = train(f"--recipe {name} --data small.npz --out run {where}")
    assert result.status == 0, result.err
    ours = printed(here / "run")
    assert [line["step"] for line in ours] == list(range(0, len(lines), 10))
    for line, (cost, accuracy) in zip(ours, lines[::10], strict=True):
        assert line["cost"] == pytest.approx(cost, rel=1e-12)
        assert line["accuracy"] == pytest.approx(accuracy, rel=1e-12)
    for part, rows in (("train", slice(500)), ("test", slice(500, None))):
        *_, p = answer_as_the_articles(X[rows].T / 255, W, b, SAME_CODE[name]["hidden"])
        accuracy = (np.argmax(p, axis=0) == y[rows]).mean()
        assert metrics(here / "run")[f"{part}_accuracy"] == pytest.approx(accuracy, rel=1e-12)


def test_softmax_part_2_begins_as_its_article(train, mnist_dir):
    result = train("--recipe softmax-part-2 --epochs 1 --data-dir", mnist_dir)
    # What article 4's own code printed first when it was run on MNIST.
    first, second, *_ = table(result.out)
    assert first[1:5] == ["0.2401428981"] * 2 + ["8.9200000000"] * 2
    assert second[2] == "-"
    # Changed, it is not expected to come out the same; where it does not, it says so.
    assert result.status == 0
    assert "They differ: step 10; step 20;" in result.out


def cost_function(Theta1, Theta2, X, y, Lambda):
    """Article 1's cost and its gradient, the loop over rows turned into matrix products."""

    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    m, num_labels = len(X), len(Theta2)
    X = np.column_stack((np.ones((m, 1)), X))
    a2 = np.hstack((np.ones((m, 1)), sigmoid(X @ Theta1.T)))
    a3 = sigmoid(a2 @ Theta2.T)
    y_matrix = np.where(y[:, np.newaxis] == np.arange(1, num_labels + 1), 1, 0)
    J = 1 / m * np.sum(-y_matrix * np.log(a3) - (1 - y_matrix) * np.log(1 - a3))
    reg_J = J + Lambda / (2 * m) * (np.sum(Theta1[:, 1:] ** 2) + np.sum(Theta2[:, 1:] ** 2))
    d3 = a3 - y_matrix
    d2 = ((d3 @ Theta2) * (a2 * (1 - a2)))[:, 1:]
    grads = 1 / m * d2.T @ X, 1 / m * d3.T @ a2
    for grad, Theta in zip(grads, (Theta1, Theta2), strict=True):
        grad[:, 1:] += Lambda / m * Theta[:, 1:]
    return reg_J, *grads


def test_digit_classifier_has_cost_and_gradient_of_its_article():
    rng = np.random.default_rng(0)
    X, y, Lambda = rng.uniform(0, 1, (60, 400)), rng.permutation(60) % 10 + 1, 1
    Theta1, Theta2 = rng.uniform(-0.12, 0.12, (25, 401)), rng.uniform(-0.4, 0.4, (10, 26))
    J, *grads = cost_function(Theta1, Theta2, X, y, Lambda)

    def flat(Theta1, Theta2):
        weights, biases = zip(*((Theta[:, 1:], Theta[:, 0]) for Theta in (Theta1, Theta2)), strict=True)
        return np.concatenate([*(W.T.ravel() for W in weights), *biases])

    recipe = load_recipe("digit-classifier").options
    assert recipe["l2"] == Lambda / 5000
    mlp = MLP((400, 25, 10), recipe["activation"], recipe["loss"], l2=Lambda / 60)
    cost, g = mlp.loss_and_grad(flat(Theta1, Theta2), X, np.eye(10)[y - 1], xp=np)
    assert float(cost) == pytest.approx(J, rel=1e-12)
    np.testing.assert_allclose(g, flat(*grads), rtol=0, atol=1e-12)


def test_digit_classifier_reaches_its_figure(train, here, mnist_dir):
    result = train("--recipe digit-classifier --out run --data-dir", mnist_dir)
    assert result.status == 0, result.out
    # "It will show the accuracy around 95%."
    assert 0.945 <= metrics(here / "run")["train_accuracy"] <= 0.965
    assert metrics(here / "run")["sizes"] == [400, 25, 10]
    # What it was trained on is not the article's file, and it says so.
    assert "the first 500 MNIST digits of each class" in result.out


def test_digit_classifier_takes_the_file_of_its_article(train, here):
    savemat = pytest.importorskip("scipy.io").savemat
    X, y = np.random.default_rng(0).uniform(0, 1, (50, 400)), np.repeat([10, *range(1, 10)], 5)
    savemat(here / "ex4data1.mat", {"X": X, "y": y[:, np.newaxis].astype(np.uint8)})
    result = train("--recipe digit-classifier --data ex4data1.mat --epochs 2 --out run")
    assert result.status == 0, result.err
    assert "50 training, 0 validation and 0 test rows" in result.out
    assert "test_accuracy" not in metrics(here / "run")
    assert "train accuracy      article 95.00 %" in result.out
    model = load_model(here / "run" / "model.safetensors")
    assert (model.mlp.sizes, model.picture) == ((400, 25, 10), (20, 20))
    assert model.classes.tolist() == list(range(10))
    assert (float(model.scaling.shift[0]), float(model.scaling.factor[0])) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("options", "accuracy"),
    [
        ("--recipe minibatch-sigmoid --epochs 3", 0.89),
        ("--recipe softmax-layer --epochs 1", 0.92),
    ],
)
def test_mini_batch_recipes_learn_quickly(train, here, mnist_dir, options, accuracy):
    result = train(f"{options} --out run --data-dir", mnist_dir)
    assert result.status == 0, result.err
    assert metrics(here / "run")["test_accuracy"] > accuracy
    assert "They differ: train accuracy is " in result.out


@pytest.mark.parametrize(
    ("name", "layers", "seed", "divisor"),
    [
        ("step-by-step-tanh", [784, 16, 16, 10], 2, lambda n_in: 10),
        ("minibatch-sigmoid", [784, 10, 10], 42, np.sqrt),
        ("softmax-part-2", [784, 50, 10], 1, np.sqrt),
    ],
)
def test_initial_weights_are_those_of_numpy_random_seed(name, layers, seed, divisor):
    options = Options(**load_recipe(name).options)
    mlp = MLP((784, *options.hidden, 10))
    before = np.random.get_state()
    np.random.seed(seed)
    theirs = [np.random.randn(n_out, n_in) / divisor(n_in) for n_in, n_out in pairwise(layers)]
    np.random.set_state(before)
    for (W, b), V in zip(mlp.layout.split(mlp.init(options.seed, options.init), xp=np), theirs, strict=True):
        # The same draws: how they are scaled may cost a bit or two at the end of each.
        np.testing.assert_allclose(W, V.T, rtol=1e-15)
        assert not b.any()


def test_mnist_5000_is_the_first_500_of_each_class_in_order(tmp_path):
    rng = np.random.default_rng(0)
    parts = {"train": (7000, rng), "t10k": (30, rng)}
    drawn = {}
    for part, (n, rng) in parts.items():
        pictures, labels = rng.integers(0, 256, (n, 28, 28), np.uint8), rng.integers(0, 10, n, np.uint8)
        header = struct.pack(">4B3I", 0, 0, 8, 3, n, 28, 28)
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(header + pictures.tobytes())
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(
            struct.pack(">4BI", 0, 0, 8, 1, n) + labels.tobytes()
        )
        drawn[part] = pictures, labels

    seen, kept = [0] * 10, []
    for i, label in enumerate(drawn["train"][1]):
        seen[label] += 1
        if seen[label] <= 500:
            kept.append(i)
    assert len(kept) == 5000

    dataset = load("mnist-5000", data_dir=tmp_path)
    pictures, labels = drawn["train"]
    np.testing.assert_array_equal(dataset.X_train.reshape(-1, 20, 20), pictures[kept][:, 4:24, 4:24])
    np.testing.assert_array_equal(dataset.y_train, labels[kept])
    pictures, labels = drawn["t10k"]
    np.testing.assert_array_equal(dataset.X_test.reshape(-1, 20, 20), pictures[:, 4:24, 4:24])
    np.testing.assert_array_equal(dataset.y_test, labels)
    assert dataset.picture == (20, 20)


# Recipes as such


def test_each_article_has_a_recipe_whose_options_exist():
    assert set(recipe_names()) == {*ARTICLES, "mnist-fast"}
    known = {field.name for field in fields(Options)}
    for name in recipe_names():
        recipe = load_recipe(name)
        assert recipe.title
        assert bool(recipe.expected or recipe.printed) == (name in ARTICLES)
        assert set(recipe.options) <= known


def test_list_recipes_names_articles_and_figures(train, here):
    result = train("--list-recipes")
    assert (result.status, result.err) == (0, "")
    names = "|".join(ARTICLES)
    entries = dict(re.findall(rf"^({names})\n((?:    .*\n)+)", result.out, flags=re.MULTILINE))
    assert set(entries) == set(ARTICLES)

    def letters(text):
        return re.sub(r"\W+", "", text.lower())

    for name, (title, figures) in ARTICLES.items():
        assert letters(title) in letters(entries[name])
        for figure in figures:
            assert figure in entries[name]
    assert contents(here) == {}


def test_a_recipe_of_the_users_own(train, here, user):
    user("seed = 3", "[expected]\ntest_accuracy = { article = 0.5, at_least = 0.1 }")
    result = train("--recipe my.toml --out run")
    assert result.status == 0, result.err
    found = metrics(here / "run")
    assert (found["sizes"], found["seed"], found["dtype"]) == ([4, 5, 3], 3, "float64")
    assert (found["epochs"], found["steps"]) == (3, 18)
    assert "A network of my own" in result.out
    here = f"{100 * found['test_accuracy']:.2f} %"  # 20 test rows: whole percents
    assert re.search(f"test accuracy +article 50.00 % +here {here}\n", result.out)
    assert result.out.endswith("They agree (test accuracy at least 10.00 %).\n")


@pytest.mark.parametrize(
    ("option", "name", "value"),
    [
        ("--hidden 6,5", "sizes", [4, 6, 5, 3]),
        ("--epochs 2", "epochs", 2),
        ("--batch-size full", "steps", 3),
        ("--dtype float32", "dtype", "float32"),
        ("--seed 7", "seed", 7),
        ("--data other.npz", "data", "other"),
        ("--validation 0.2", "steps", 15),
    ],
)
def test_any_option_overrides_a_recipe(train, here, user, option, name, value):
    user()
    (here / "other.npz").write_bytes((here / "small.npz").read_bytes())
    plain, changed = (train(f"--recipe my.toml --out {out}") for out in ("plain", f"run {option}"))
    assert plain.status == changed.status == 0, changed.err
    without, with_ = metrics(here / "plain"), metrics(here / "run")
    assert with_[name] == value != without[name]
    implied = {"--validation 0.2": {"validation_accuracy"}, "--epochs 2": {"steps"}}.get(option, set())
    for other in {"data", "dtype", "sizes", "seed", "epochs", "steps"} - {name} - implied:
        assert with_[other] == without[other]


def lines_of(folder, decimals=6):
    """What a run printed, as a recipe's table."""
    lines = [[round(line["cost"], decimals), round(line["accuracy"], decimals)] for line in printed(folder)]
    return lines, f"[printed]\nevery = 5\ndecimals = {decimals}\nlines = "


def test_a_batch_run_prints_every_so_many_steps(train, here, user):
    user(tables="[printed]\nevery = 5\ndecimals = 3\nlines = [[0, 0], [0, 0], [0, 0], [0, 0]]")
    result = train("--recipe my.toml --out run")
    assert [line["step"] for line in printed(here / "run")] == [0, 5, 10, 15]
    rows = table(result.out)
    assert [row[0] for row in rows] == ["0", "5", "10", "15"]
    for row, line in zip(rows, printed(here / "run"), strict=True):
        assert [row[2], row[4], row[5]] == [
            f"{line[name]:.3f}" for name in ("cost", "accuracy", "cross_entropy")
        ]
        assert line["cost"] == pytest.approx(line["cross_entropy"] / 3, rel=1e-6)


def test_two_classes_with_one_output_cost_as_two_with_two(train, here, user):
    y = np.arange(60) % 2
    np.savez(here / "two.npz", X=np.random.default_rng(0).standard_normal((60, 4)), y=y)
    user("loss = 'logistic_cross_entropy'", "[printed]\nevery = 1\ndecimals = 3\nlines = [[0, 0]]")
    train("--recipe my.toml --data two.npz --out run")
    assert metrics(here / "run")["sizes"] == [4, 5, 1]
    (line,) = printed(here / "run")
    assert line["cost"] == pytest.approx(line["cross_entropy"] / 2, rel=1e-6)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda lines: lines[1].__setitem__(0, lines[1][0] + 1e-6), "step 5"),
        (lambda lines: lines[2].__setitem__(1, lines[2][1] - 1), "step 10"),
        (lambda lines: lines.append([0.1, 99]), "step 20"),
    ],
    ids=["cost", "accuracy", "a line too many"],
)
@pytest.mark.parametrize("changed", [False, True])
def test_a_printed_line_that_is_not_met(train, here, user, wrong, words, changed):
    user(tables="[printed]\nevery = 5\ndecimals = 6\nlines = [[0, 0], [0, 0], [0, 0], [0, 0]]")
    train("--recipe my.toml --out first")
    lines, head = lines_of(here / "first")
    user(tables=f"{head}{lines}")
    same = train("--recipe my.toml --out same")
    assert same.status == 0
    assert same.out.endswith("They agree (printed lines to 6 decimals).\n")
    wrong(lines)
    user(tables=f"{head}{lines}")
    result = train("--recipe my.toml --out run" + " --clip-norm 1e6" * changed)
    assert result.status == (0 if changed else 1)
    assert result.out.endswith(f"They differ: {words}.\n")


@pytest.mark.parametrize(
    ("expected", "words"),
    [
        ("at_least = 1.5", "expected at least 150.00 %"),
        ("near = 2.0, within = 0.25", "expected 200.00 % ± 25 %"),
    ],
)
def test_a_figure_that_is_not_reached(train, here, user, expected, words):
    # What has nothing to be compared with agrees.
    figures = f"test_accuracy = {{ article = 2.0, {expected} }}\ntrain_loss = {{ article = 1.0 }}"
    user(tables=f"[expected]\n{figures}")
    result = train("--recipe my.toml --out run")
    assert result.status == 1
    accuracy = metrics(here / "run")["test_accuracy"]
    assert result.out.endswith(f"They differ: test accuracy is {100 * accuracy:.2f} %, {words}.\n")


@pytest.mark.parametrize(
    ("option", "status"),
    [
        ("--quiet", 1),
        ("--backend torch", 1),
        ("--checkpoint-every 2", 1),
        ("--data-dir .", 1),
        ("--epochs 2", 0),
        ("--hidden 6", 0),
        ("--lr 0.01 --quiet", 0),
    ],
)
def test_only_a_recipe_as_it_stands_has_to_reach_its_figures(train, user, option, status):
    if "torch" in option:
        pytest.importorskip("torch")
    user(tables="[expected]\ntest_accuracy = { article = 2.0, at_least = 2.0 }")
    result = train(f"--recipe my.toml {option}")
    assert result.status == status, result.err
    assert (result.out == "") == ("--quiet" in option)


# Stopped and resumed


class Stop(BaseException):
    """The plug is pulled."""


@pytest.mark.parametrize("every", [None, 1, 4])
@pytest.mark.parametrize("step", [4, 5, 6, 10, 13])
@pytest.mark.parametrize("how", ["plug", "ctrl-c"])
def test_a_stopped_recipe_ends_with_the_same_table(train, here, user, monkeypatch, how, step, every):
    # Six steps an epoch; lines at 0, 5, 10 and 15, of which the last figure is not reached.
    user(tables="[printed]\nevery = 5\ndecimals = 6\nlines = [[0, 0], [0, 0], [0, 0], [0, 0]]")
    whole = train("--recipe my.toml --out whole")

    advance = Progress.advance

    def stop(self, state):
        if state.step == step:
            if how == "plug":
                raise Stop
            signal.raise_signal(signal.SIGINT)
        advance(self, state)

    options = "--recipe my.toml --out run" + (f" --checkpoint-every {every}" if every else "")
    with monkeypatch.context() as patch:
        patch.setattr(Progress, "advance", stop)
        if how == "plug":
            with pytest.raises(Stop):
                train(options)
        else:
            assert train(options).status == 130
    assert not (here / "run" / "model.safetensors").exists()

    resumed = train("--resume run")
    assert resumed.status == whole.status == 1
    assert printed(here / "run") == printed(here / "whole")
    assert table(resumed.out) == table(whole.out)
    article = 'The article: "A network of my own"'
    assert resumed.out.partition(article)[2] == whole.out.partition(article)[2] != ""


def test_another_schedule_takes_the_settings_of_the_old_one_away(train, here):
    (here / "step.toml").write_text(
        "[options]\ndata = 'digits'\nepochs = 1\nschedule = 'step'\ndrop_after = [20]\ndrop_factor = 0.5\n"
    )
    assert train("--recipe step.toml --out run").status == 0
    assert train("--recipe step.toml --schedule cosine --out other").status == 0
    assert train("--recipe step.toml --schedule cosine --drop-after 3 --out third").status == 2


def test_a_changed_recipe_is_still_a_changed_one_when_resumed(train, here, user):
    user(tables="[expected]\ntest_accuracy = { article = 2, at_least = 2 }")
    assert train("--recipe my.toml --epochs 1 --out run").status == 0
    assert train("--resume run").status == 0


def test_a_recipe_and_a_run_to_resume_exclude_each_other(train, user):
    user()
    assert train("--recipe my.toml --out run").status == 0
    result = train("--recipe my.toml --resume run")
    assert result.status == 2
    assert "--resume: not allowed with argument --recipe" in result.err


# Bad input: (what my.toml says, what has to be said)

BAD = {
    "broken": ("x = ", ["not a TOML file", "Invalid value"]),
    "key": (
        "titel = 'x'",
        ["unknown key 'titel'", "mean 'title'", "title, note, options, printed, expected"],
    ),
    "title": ("title = 3", ["title: expected a text, found 3"]),
    "options": ("options = 3", ["options: expected a table, found 3"]),
    "option": (
        "[options]\nbatchsize = 3",
        ["options: unknown key 'batchsize'", "mean 'batch_size'", "data, target, data_dir, test", "quiet"],
    ),
    "text for a number": ("[options]\nepochs = '3'", ["options: epochs: expected a whole number, found '3'"]),
    "number for a text": ("[options]\ndata = 3", ["options: data: expected a text, found 3"]),
    "fraction": ("[options]\nepochs = 1.5", ["options: epochs: expected a whole number, found 1.5"]),
    "true for a number": ("[options]\nlr = true", ["options: lr: expected a number, found True"]),
    "number for true": ("[options]\nquiet = 1", ["options: quiet: expected true or false, found 1"]),
    "no list": ("[options]\nhidden = 5", ["hidden: expected a list of whole numbers, found 5"]),
    "item": ("[options]\nhidden = [5, '6']", ["hidden: expected a list of whole numbers, found [5, '6']"]),
    "texts": ("[options]\nactivation = 'relu'", ["activation: expected a list of texts, found 'relu'"]),
    "activation": ("[options]\nactivation = ['rellu']", ["options: ", "'rellu'", "mean 'relu'", "tanh"]),
    "penalty": ("[options]\nl2 = -1.0", ["options: ", "l2: expected a number of at least 0, got -1"]),
    "no units": ("[options]\nhidden = [0]", ["options: ", "each at least 1"]),
    "no rows": ("[options]\nbatch_size = 0", ["options: --batch-size: expected at least 1, got 0"]),
    "no file": ("[options]\ndata = 'nope.csv'", ["options: data: nope.csv: no such file", "digits, mnist"]),
    "cost of numbers": (
        "[options]\nloss = 'squared_error'\n[printed]\nevery = 1\ndecimals = 3\nlines = []",
        ["printed: expected a classification loss"],
    ),
    "optimizer": ("[options]\noptimizer = 'adm'", ["options: ", "'adm'", "mean 'adam'", "nesterov"]),
    "rate": ("[options]\nlr = -1", ["options: --lr: expected a number above 0, got -1"]),
    "owner": ("[options]\nmomentum = 0.5", ["options: --momentum belongs to --optimizer momentum"]),
    "printed key": (
        "[printed]\nevry = 2",
        ["printed: unknown key 'evry'", "mean 'every'", "every, decimals, lines"],
    ),
    "printed lacks": ("[printed]\nevery = 2\nlines = []", ["printed: the key decimals is missing"]),
    "printed type": ("[printed]\nevery = true", ["printed: every: expected a whole number, found True"]),
    "printed width": (
        "[printed]\nevery = 2\ndecimals = 3\nlines = [[1, 2], [1, 2, 3]]",
        ["printed: expected", "a cost and an accuracy in each line"],
    ),
    "printed item": (
        "[printed]\nlines = [1, 2]",
        ["printed: lines: expected a list of lists of numbers, found [1, 2]"],
    ),
    "printed never": ("[printed]\nevery = 0\ndecimals = 3\nlines = []", ["printed: ", "every of at least 1"]),
    "printed decimals": (
        "[printed]\nevery = 1\ndecimals = -1\nlines = []",
        ["printed: ", "decimals from 0 to 17"],
    ),
    "figure": (
        "[expected]\ntest_acuracy = { article = 1.0 }",
        ["expected: unknown key 'test_acuracy'", "mean 'test_accuracy'", "train_loss, train_accuracy"],
    ),
    "figure type": (
        "[expected]\ntest_accuracy = 1.0",
        ["expected: test_accuracy: expected a table, found 1.0"],
    ),
    "figure key": (
        "[expected]\ntest_accuracy = { artcle = 1.0 }",
        ["expected.test_accuracy: unknown key 'artcle'", "mean 'article'", "at_least, near, within"],
    ),
    "figure value": (
        "[expected]\ntest_accuracy = { article = '1' }",
        ["expected.test_accuracy: article: expected a number, found '1'"],
    ),
    "figure lacks": (
        "[expected]\ntest_accuracy = { at_least = 1.0 }",
        ["expected.test_accuracy: the key article is missing"],
    ),
    "within what": (
        "[expected]\ntest_accuracy = { article = 1.0, within = 0.1 }",
        ["expected.test_accuracy: within belongs to near"],
    ),
}


def assert_refused(result, *words):
    assert result.status == 2, result
    assert result.err.startswith("error: ")
    for word in words:
        assert word in result.err
    assert "Traceback" not in result.err
    assert result.out == ""


@pytest.mark.parametrize("what", BAD)
def test_a_bad_recipe_is_refused_and_leaves_nothing(train, here, what):
    text, words = BAD[what]
    (here / "my.toml").write_text(text)
    before = contents(here)
    assert_refused(train("--recipe my.toml"), "my.toml: ", *words)
    assert contents(here) == before
    assert not (here / "runs").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--recipe softmax-layr", ["'softmax-layr'", "mean 'softmax-layer'", *ARTICLES]),
        ("--recipe nowhere.toml", ["nowhere.toml: no such file"]),
        ("--recipe folder.toml", ["folder.toml: no such file"]),
        ("--recipe latin.toml", ["latin.toml: not a TOML file", "utf-8"]),
        ("--recipe my.toml", ["nowhere.npz: no such file"]),
        ("--recipe softmax-layer --data-dir nowhere", ["nowhere: expected the four files of mnist"]),
        ("--recipe digit-classifier --data ex4data1.mat", ["ex4data1.mat: no such file"]),
    ],
)
def test_a_missing_file_is_named(train, here, options, words):
    (here / "my.toml").write_text("[options]\ndata = 'nowhere.npz'")
    (here / "latin.toml").write_bytes("title = 'Übung'".encode("latin-1"))
    (here / "folder.toml").mkdir()
    before = contents(here)
    assert_refused(train(options), *words)
    assert contents(here) == before
    assert not (here / "runs").exists()
