"""The contestants of a run: the backends of xpnet, and the libraries to compare with."""

import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import NamedTuple

from xpnet import resolve
from xpnet.backends import LIBRARIES
from xpnet.errors import choose


class Peer(NamedTuple):
    """A contestant other than xpnet.

    Attributes:
        package: the package it needs.
        devices: the kinds of device it runs on.
        make: makes one. Its arguments depend on the subcommand.
        epsilon_hat: whether its Adam adds ε before bias correction; its loss is then compared with that of an
            xpnet that does the same.
    """

    package: str
    devices: tuple[str, ...]
    make: Callable[..., object] | None
    epsilon_hat: bool = False


def find_backends(device, names):
    """Return ([the backends to measure], {skipped: reason}). Ratios are those of the first backend.

    Args:
        device: `cpu`, `cuda`, `cuda:<index>` or `auto`.
        names: libraries to use; empty: all usable ones.

    Raises:
        BackendError, InputError: the device or one of the libraries is unknown or not usable.
    """
    first = resolve(device)  # raises if there is no such device
    kind = "cuda" if first.device_name.startswith("cuda") else "cpu"
    if kind == "cuda" and find_spec("jax"):
        # By default JAX takes three quarters of the GPU's memory and multiplies in TF32; the others do not.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        import jax

        jax.config.update("jax_default_matmul_precision", "highest")
    if names:
        return [resolve(device if device != "auto" else kind, name) for name in dict.fromkeys(names)], {}
    found, skipped = [], {}
    for name, library in LIBRARIES.items():
        if name == "array_api_strict":
            continue  # made for checking, and slow; `--backend array_api_strict` measures it
        if kind not in library.devices:
            continue
        if problem := library.find_problem(first.device_name):
            skipped[f"xpnet ({name})"] = problem
        else:
            found.append(resolve(first.device_name, name))
    return found, skipped


def choose_peers(wanted, device, peers):
    """Return ({name: Peer}, {skipped: reason}) for this device.

    Args:
        wanted: names, where `torch` stands for all that begin with `torch-`; or ["all"] or ["none"].
        peers: {name: Peer}, those of the subcommand.

    Raises:
        InputError: a name is unknown.
    """
    names = list(peers) if wanted == ["all"] else []
    if wanted not in (["all"], ["none"]):
        families = {name.partition("-")[0] for name in peers if name.startswith(("torch-", "jax-"))}
        for name in wanted:
            choose("peer", name, [*peers, *sorted(families), "all", "none"])
        names = [n for n in peers if n in wanted or n.partition("-")[0] in families.intersection(wanted)]
    found, skipped = {}, {}
    kind = device.partition(":")[0]
    for name in names:
        if find_spec(peers[name].package) is None:
            skipped[name] = f"{peers[name].package} is not installed"
        elif kind not in peers[name].devices:
            skipped[name] = f"runs on {' and '.join(peers[name].devices)} only"
        else:
            found[name] = peers[name]
    return found, skipped


def label(backend):
    """Return the name of xpnet on this backend in tables."""
    return f"xpnet ({backend.name})"


def list_disqualified(network, contestants):
    """Return a line for each contestant that is disqualified on this network."""
    return [
        f"{each['name']} on {network} ({each['disqualified']})"
        for each in contestants
        if each["disqualified"]
    ]
