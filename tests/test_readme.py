"""What README shows is run, not only read."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import xpnet
from xpnet.command.cli import main

README = (Path(__file__).parent.parent / "README.md").read_text()


def run_example(words, **replacements):
    """Run the one example that has these words in it, with modules replaced, and return its variables."""
    (example,) = (
        code for code in re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL) if words in code
    )
    for name in replacements:
        example = example.replace(f"import {name}\n", "")
    namespace = dict(replacements)
    exec(compile(example, "README.md", "exec"), namespace)
    return namespace


def test_the_example_with_torch_answers_in_torch(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    model, X, y = (run_example("import torch")[name] for name in ("model", "X", "y"))
    X, y = X[1500:], y[1500:]
    predicted = model.predict(X)
    assert predicted.tolist() == xpnet.MLPClassifier.load("digits.safetensors").predict(X.numpy()).tolist()
    shown = re.search(r"tensor\(\[(.*?), \.\.\., (.*?)\]\), where X is\n.*# (.*)", README).groups()
    assert (predicted[:3].tolist(), predicted[-3:].tolist()) == tuple(eval(f"[{part}]") for part in shown[:2])
    assert model.score(X, y) == pytest.approx(float(shown[2]), abs=0.005)
    assert model.coefs_[0].dtype == torch.float32


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_example_with_cupy_runs_with_numpy_in_its_place():
    stand_in = SimpleNamespace(random=np.random, float32=np.float32, asnumpy=np.asarray)
    found = run_example("import cupy", cupy=stand_in)
    assert found["model"].predict(found["X"]).shape == (10_000,)
    assert found["model"].coefs_[0].dtype == np.float32


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_example_with_cupy_answers_in_cupy(cupy_backend):
    model = run_example("import cupy")["model"]
    assert isinstance(model.coefs_[0], np.ndarray)


def test_the_example_that_loads_a_run(train, here):
    name = re.search(r'load\("(runs/[^"]*)"\)', README)[1]
    assert train(f"--out {name} --quiet").status == 0
    found = run_example("a folder, or its model.safetensors")
    assert found["model"].predict(found["X"][:3]).tolist() == [0, 1, 2]
    assert found["model"].score(found["X"], found["y"]) > 0.98


def test_every_python_example_is_run_here():
    examples = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(examples) == 4  # with torch, with cupy, a run loaded, and the library


def test_the_library_example_trains_a_network(capsys):
    namespace = run_example("n_epochs=30")
    *_, last_epoch, _ = capsys.readouterr().out.splitlines()
    assert last_epoch.startswith("30 ")
    result = xpnet.evaluate(
        namespace["mlp"],
        namespace["state"].theta,
        namespace["X_test"],
        namespace["Y_test"],
        backend=namespace["backend"],
    )
    assert result.score > 0.96


def test_each_equation_names_a_function_that_exists():
    for module, name in re.findall(r"`(ops|losses|optimizers|mlp|layout)\.((?!py)\w+)", README):
        assert hasattr(__import__(f"xpnet.maths.{module}", fromlist=[name]), name), f"{module}.{name}"


def test_each_option_named_exists(capsys):
    known = ""
    for command in ("train", "predict"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        known += capsys.readouterr().out
    developing = {"--check", "--device", "--help"}
    for option in set(re.findall(r"--[a-z][a-z-]+", README)) - developing:
        assert option in known, option


def test_what_is_to_be_found_is_there():
    package = Path(xpnet.__file__).parent
    rows = re.search(r"\| to find \| open \|\n\|---\|---\|\n((?:\|.*\n)+)", README)[1].splitlines()
    assert len(rows) == 13
    for row in rows:
        named = re.findall(r"`([^`]+)`", row.split("|")[2])
        files = [package / name for name in named if "/" in name]
        assert files, row
        assert all(file.exists() for file in files), row
        text = "".join(file.read_text("utf-8") for file in files if file.is_file())
        for name in named:
            if "/" not in name:
                assert name.rpartition(".")[2].removeprefix("f_") in text, (name, row)
