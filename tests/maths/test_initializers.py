"""Initial weights against those that PyTorch draws."""

import numpy as np
import pytest
from scipy.stats import ks_2samp

from xpnet.errors import InputError
from xpnet.maths.initializers import INITIALIZERS, draw
from xpnet.maths.mlp import MLP

FAN_IN, FAN_OUT = 400, 150

# torch.nn.init's function and options. What LeCun proposed is Kaiming's with the gain of a linear layer, 1.
THEIRS = {
    "he_normal": ("kaiming_normal_", {"nonlinearity": "relu"}),
    "he_uniform": ("kaiming_uniform_", {"nonlinearity": "relu"}),
    "glorot_normal": ("xavier_normal_", {}),
    "glorot_uniform": ("xavier_uniform_", {}),
    "lecun_normal": ("kaiming_normal_", {"nonlinearity": "linear"}),
    "lecun_uniform": ("kaiming_uniform_", {"nonlinearity": "linear"}),
    "normal": ("normal_", {"std": 0.05}),
    "normal:0.2": ("normal_", {"std": 0.2}),
    "uniform": ("uniform_", {"a": -0.05, "b": 0.05}),
    "uniform:0.2": ("uniform_", {"a": -0.2, "b": 0.2}),
    "zeros": ("zeros_", {}),
}


def draw_one(name, seed=0):
    return draw(name, np.random.default_rng(seed), FAN_IN, FAN_OUT)


@pytest.mark.parametrize("name", THEIRS)
def test_weights_follow_the_distribution_that_pytorch_draws_from(name):
    torch = pytest.importorskip("torch")
    function, options = THEIRS[name]
    theirs = torch.empty(FAN_OUT, FAN_IN, dtype=torch.float64)  # PyTorch keeps its weights transposed
    generator = torch.Generator().manual_seed(0)
    getattr(torch.nn.init, function)(theirs, **options, **{"generator": generator} if name != "zeros" else {})
    theirs, W = theirs.numpy().ravel(), draw_one(name)
    assert W.shape == (FAN_IN, FAN_OUT)
    assert ks_2samp(W.ravel(), theirs).pvalue > 0.01
    # Of 60,000 draws, the standard deviation is known to within 0.3 %, the largest of a uniform one better.
    assert W.std() == pytest.approx(theirs.std(), rel=0.015)
    if "uniform" in name:
        assert np.abs(W).max() == pytest.approx(np.abs(theirs).max(), rel=1e-3)


def test_each_name_that_is_offered_is_compared_with_pytorch():
    assert set(INITIALIZERS) <= set(THEIRS)


def test_a_seed_fixes_the_weights():
    mlp = MLP((30, 20, 10))
    assert mlp.init(3).tobytes() == mlp.init(3).tobytes()
    assert mlp.init(3).tobytes() != mlp.init(4).tobytes()


@pytest.mark.parametrize(
    ("activation", "family"), [("relu", "he"), ("tanh", "glorot"), ("identity", "lecun")]
)
def test_a_hidden_layer_starts_as_suits_its_activation(activation, family):
    mlp = MLP((FAN_IN, FAN_OUT, 90), activation)
    (W, b), (W_last, b_last) = mlp.layout.split(mlp.init(0), xp=np)
    variance = {"he": 2 / FAN_IN, "glorot": 2 / (FAN_IN + FAN_OUT), "lecun": 1 / FAN_IN}[family]
    assert W.var() == pytest.approx(variance, rel=0.03)
    assert W_last.var() == pytest.approx(2 / (FAN_OUT + 90), rel=0.03)
    assert not b.any()
    assert not b_last.any()


def test_one_initializer_for_all_layers():
    mlp = MLP((3, 4, 2))
    assert not mlp.init(0, "zeros").any()
    largest = np.abs(mlp.init(0, "uniform:7"))[: mlp.layout.n_weights].max()
    assert 3.5 < largest <= 7.0


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("he_norml", "unknown initial distribution 'he_norml'. Did you mean 'he_normal'"),
        ("normal:wide", "expected a positive number after the colon, got 'wide'"),
        ("normal:0", "positive"),
        ("uniform:-1", "positive"),
        ("uniform:nan", "positive"),
        ("normal:inf", "positive"),
        ("he_normal:2", "takes no scale, got 'he_normal:2'"),
        ("zeros:2", "takes no scale, got 'zeros:2'"),
    ],
)
def test_an_impossible_name_or_scale_is_refused(name, words):
    with pytest.raises(InputError, match=words):
        draw_one(name)
