"""The one entry point: a resolved spec and a dataset in, events out."""

import hashlib
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import torch
from torch import Tensor

from models import checkpoints, out_of_memory
from models.data import BatchStream, PackedDataset, split
from models.metrics.classifier import classifier_key, train_classifier
from models.metrics.extractors import ExtractorError
from models.metrics.scorer import Scorer, open_extractor
from models.metrics.suspects import kept_suspects
from models.spec import GanSpec, JobSpec, total_steps
from models.spec.evaluation import ExtractorKind
from models.training.events import ClassifierTrained, Event, Started, TrainingError
from models.training.gan import gan_recipe
from models.training.loop import Trial, run
from models.training.memory import memory
from models.training.recipe import Recipe
from models.training.settle import place_networks, settle


def train(
    spec: JobSpec,
    dataset: PackedDataset,
    out: Path,
    *,
    device: str = "cpu",
    classifiers: Path | None = None,
    inception: Path | None = None,
    init: Path | None = None,
    resume: Path | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> Iterator[Event]:
    """Train by a resolved `spec`, writing pictures and checkpoints below `out`.

    `classifiers` is a folder of those that are known already, `inception` the file of Inception's weights; a
    classifier that is needed and missing is trained before the first step.
    `init` is the file of the checkpoint that the spec's `init_from` names, which a resumed run does without.
    `resume` is the folder of a checkpoint of a run by this very spec, as that run's first event held it: it
    goes on from there, on a CPU to the same last bit as if it had never ended. Once `stopping` says so,
    the run saves a checkpoint behind the step it is at and ends with the event Stopped.
    The first event holds the spec as settled for this device; on a CPU, training by it again gives the same
    losses to the last bit. Seeds torch's global generator and sets its thread count.
    Raises TrainingError when the run cannot go on, CheckpointError when it cannot resume.
    """
    place = _place(device)
    spec = settle(spec, place, build_recipe)
    if spec.init_from is not None and init is None and resume is None:
        raise ValueError(f"the file of the checkpoint {spec.init_from} is needed")
    recipe = build_recipe(spec, place, init=None if resume else init)
    parameters = {
        name: sum(weights.numel() for weights in network.parameters())
        for name, network in recipe.networks.items()
    }
    yield Started(spec.model_dump(mode="json"), parameters, total_steps(spec), device)

    channels, resolution, _ = spec.data.image_shape
    images = dataset.at(resolution, channels)
    trained, held_out = (_usable(half, spec, dataset) for half in split(images, spec.data.held_out))
    if not len(trained):
        raise _no_images(spec, dataset)
    stream = BatchStream(
        images,
        spec.batch_size,
        seed=derived_seed(spec, "data"),
        device=place,
        indices=trained,
        augmentations=spec.data.augmentations,
        value_range=spec.data.range,
    )
    scores = spec.evaluation is not None and spec.evaluation.extractor is not None
    score = (yield from _scorer(spec, images, out, place, classifiers, inception)) if scores else None
    tried = min(spec.evaluation.samples if spec.evaluation else 0, len(held_out), len(trained))
    trial = Trial(stream.at(held_out[:tried]), stream.at(trained[:tried]))
    try:
        yield from run(spec, recipe, stream, trial, score, out, resume=resume, stopping=stopping)
    except (RuntimeError, MemoryError) as error:
        if out_of_memory.is_out_of_memory(error):
            raise _no_memory(spec, place, error) from error
        raise


def _usable(indices: Tensor, spec: JobSpec, dataset: PackedDataset) -> Tensor:
    """The images of these numbers that the spec takes: a conditional model needs labels."""
    if spec.conditional is not None:
        indices = indices[torch.from_numpy(dataset.labels[indices.numpy()]) >= 0]
    if spec.data.drop_suspects:
        dropped = torch.tensor([suspect.index for suspect in kept_suspects(dataset)], dtype=torch.long)
        indices = indices[~torch.isin(indices, dropped)]
    return indices


def _no_images(spec: JobSpec, dataset: PackedDataset) -> TrainingError:
    conditions = [
        *(["has a label"] if spec.conditional is not None else []),
        *(["is no suspect"] if spec.data.drop_suspects else []),
        *(["is not held out"] if spec.data.held_out else []),
    ]
    message = f"None of the {dataset.count} images of {dataset.name!r} {' and '.join(conditions)}."
    return TrainingError("no_images", message, "Upload more images, or take one of the conditions back.")


def _no_memory(spec: JobSpec, place: torch.device, error: BaseException) -> TrainingError:
    peak = memory(place)["memory/peak_bytes"] / 2**20
    parts = f" in {spec.accumulation} parts" if spec.accumulation > 1 else ""
    message = (
        f"Memory ran out with batches of {spec.batch_size}{parts}; the most that was held before is "
        f"{peak:,.0f} MiB on {place}. {str(error).partition(chr(10))[0]}"
    )
    return TrainingError("out_of_memory", message, out_of_memory.HINT)


def _scorer(
    spec: JobSpec,
    images: PackedDataset,
    out: Path,
    place: torch.device,
    classifiers: Path | None,
    inception: Path | None,
) -> Generator[Event, None, Scorer]:
    if spec.evaluation is None or spec.evaluation.extractor is None:
        raise ValueError("nothing is to be scored")
    kind, classifier = spec.evaluation.extractor, None
    if kind is ExtractorKind.CLASSIFIER:
        name = classifier_key(images)
        classifier = (classifiers or out) / name
        if not classifier.is_file():
            classifier = out / name
            facts = train_classifier(images, classifier)
            yield ClassifierTrained(name, facts.key, facts.sha256, facts.accuracy, facts.images)
    try:
        extractor = open_extractor(kind, classifier=classifier, inception=inception, device=place)
    except ExtractorError as error:
        raise TrainingError(error.code, error.message, error.hint) from None
    return Scorer(spec, images, extractor, ema=spec.ema is not None, device=place)


def _place(device: str) -> torch.device:
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:  # no such device, none of that number, no driver, no CUDA
        reason = str(error).partition("\n")[0]
        hint = "Name one that is there: cpu, cuda or cuda:N."
        raise TrainingError("device_unavailable", f"There is no device {device!r}: {reason}", hint) from None


def build_recipe(spec: JobSpec, device: torch.device, *, init: Path | None = None) -> Recipe:
    """Networks, phases and optimizers; the same spec gives the same initial weights on every device.

    `init` is a checkpoint whose weights they start from.
    """
    torch.manual_seed(derived_seed(spec, "weights"))
    networks = place_networks(spec, device)
    if init is not None:
        checkpoints.load_weights(init, networks)
    noise = torch.Generator(device).manual_seed(derived_seed(spec, "noise"))
    if isinstance(spec, GanSpec):
        return gan_recipe(spec, networks, noise)
    from models.training.diffusion import diffusion_recipe  # here: a GAN does without diffusers

    return diffusion_recipe(spec, networks, noise)


def derived_seed(spec: JobSpec, purpose: str) -> int:
    """A seed for one purpose, independent of the others: 63 bits of a hash of the job's seed and its name."""
    if spec.seed is None:
        raise ValueError("the seed is open: resolve the spec first")
    digest = hashlib.sha256(f"{purpose}/{spec.seed}".encode()).digest()
    return int.from_bytes(digest[:8]) >> 1
