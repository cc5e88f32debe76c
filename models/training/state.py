"""What a run needs, beside its spec, to go on bit for bit where it was: one safetensors file a checkpoint.

A checkpoint holds what makes images; this holds what makes the next step: weights as they are trained (under
spectral norm the originals and the estimates), the average, the optimizers, every source of random numbers,
the position in the data, and the means that have not been told yet.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from models import tensor_files
from models.checkpoint_folders import STATE
from models.data import BatchStream
from models.durable import SavedFile
from models.spec import JobSpec
from models.tensor_files import CheckpointError, read_about, read_header
from models.training.means import Means
from models.training.recipe import Recipe


def save(
    folder: Path, *, spec: JobSpec, step: int, recipe: Recipe, stream: BatchStream, means: Means
) -> SavedFile:
    """Write `folder`/state.safetensors, the state after `step` steps."""
    sums, weights, latest = means.state()
    tensors = {
        **dict(_live(recipe)),
        **{f"random.{name}": state for name, state in _random_states(recipe).items()},
        **{f"means.{name}": total for name, total in sums.items()},
    }
    for name, optimizer in _optimizers(recipe).items():
        for index, values in optimizer.state_dict()["state"].items():
            tensors |= {
                f"optimizer.{name}.{index}.{key}": value
                for key, value in values.items()
                if isinstance(value, Tensor)
            }
    about = {
        "spec": spec.model_dump(mode="json"),
        "step": step,
        "images": step * spec.batch_size,
        "data": stream.state_dict(),
        "means": {"weights": weights, "latest": latest},
        "scaler": recipe.scaler.state_dict() if recipe.scaler else None,
    }
    return tensor_files.write(folder / STATE, tensors, about)


def load(path: Path, *, spec: JobSpec, recipe: Recipe, stream: BatchStream, means: Means) -> int:
    """Put a new run of the same spec where the one that wrote the file was, and return its step.

    Raises CheckpointError; the run is then in no state to be used.
    """
    about = read_about(path, read_header(path))
    if about["spec"] != spec.model_dump(mode="json"):
        raise CheckpointError(f"{path}: it is of a run by another spec.")
    with safetensors.safe_open(path, framework="pt") as file:
        stored = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it is no mapping
    try:
        _restore(stored, about, recipe, stream, means)
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{path}: it does not fit the run: {error}") from error
    return int(about["step"])


def _restore(
    stored: dict[str, Tensor], about: Mapping[str, Any], recipe: Recipe, stream: BatchStream, means: Means
) -> None:
    with torch.no_grad():
        for name, tensor in _live(recipe):
            kept = stored[name]
            if kept.shape != tensor.shape:
                raise ValueError(f"{name} is of shape {tuple(kept.shape)}, not {tuple(tensor.shape)}")
            tensor.copy_(kept)
    for name, optimizer in _optimizers(recipe).items():
        _restore_optimizer(optimizer, _below(stored, f"optimizer.{name}."))
    _restore_random(recipe, _below(stored, "random."))
    stream.load_state_dict(about["data"])
    device = _device(recipe)
    sums = {name: total.to(device) for name, total in _below(stored, "means.").items()}
    means.load_state(sums, about["means"]["weights"], about["means"]["latest"])
    if recipe.scaler:
        recipe.scaler.load_state_dict(about["scaler"])


def _live(recipe: Recipe) -> Iterator[tuple[str, Tensor]]:
    """Every tensor that training changes in place, but for the optimizers'."""
    networks: dict[str, nn.Module] = dict(recipe.networks)
    if recipe.ema:
        networks["ema"] = recipe.ema.network
    for name, network in networks.items():
        for key, tensor in network.state_dict().items():
            yield f"{name}.{key}", tensor
    for key, tensor in recipe.state.items():
        yield f"recipe.{key}", tensor


def _optimizers(recipe: Recipe) -> dict[str, Optimizer]:
    """By the name of their first phase; phases of one network share theirs."""
    found: dict[str, Optimizer] = {}
    for phase in recipe.phases:
        if not any(phase.optimizer is optimizer for optimizer in found.values()):
            found[phase.name] = phase.optimizer
    return found


def _restore_optimizer(optimizer: Optimizer, stored: dict[str, Tensor]) -> None:
    parameters = [weights for group in optimizer.param_groups for weights in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in stored.items():
        index, key = name.split(".", 1)
        weights = parameters[int(index)]
        if value.shape == weights.shape and key != "step":
            value = torch.empty_like(weights).copy_(value)  # in its memory format, as the optimizer made it
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _random_states(recipe: Recipe) -> dict[str, Tensor]:
    states = {name: generator.get_state() for name, generator in recipe.generators.items()}
    states["global"] = torch.get_rng_state()
    device = _device(recipe)
    if device.type == "cuda":
        states["device"] = torch.cuda.get_rng_state(device)
    return states


def _restore_random(recipe: Recipe, stored: dict[str, Tensor]) -> None:
    for name, generator in recipe.generators.items():
        generator.set_state(stored[name])
    torch.set_rng_state(stored["global"])
    device = _device(recipe)
    if device.type == "cuda":
        torch.cuda.set_rng_state(stored["device"], device)


def _device(recipe: Recipe) -> torch.device:
    return next(recipe.networks[recipe.sampling].parameters()).device


def _below(stored: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in stored.items() if name.startswith(prefix)}
