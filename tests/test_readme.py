"""What README shows is run, not only read."""

import re
from pathlib import Path

import xpnet
from xpnet.cli import main

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_library_example_trains_a_network(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    namespace = {}
    exec(compile(example, "README.md", "exec"), namespace)
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
        assert hasattr(__import__(f"xpnet.{module}", fromlist=[name]), name), f"{module}.{name}"


def test_each_option_named_is_one_of_train(capsys):
    try:
        main(["train", "--help"])
    except SystemExit:
        known = capsys.readouterr().out
    developing = {"--check", "--device"}
    for option in set(re.findall(r"--[a-z][a-z-]+", README)) - developing:
        if option not in ("--help",):
            assert option in known, option
