"""Image i depends on the network, its own seed and the sampler alone."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from models.networks import build_networks
from models.sampling import SamplingError, generate, initial_noise, labels_of
from models.sampling.generate import GAN_CHUNK, to_uint8
from models.spec import JobSpec, SamplerKind, SamplerSpec
from models.spec.sampler_rules import SAMPLERS_OF
from tests.models.sampling.networks import diffusion, gan, spec_of

STOCHASTIC = [SamplerSpec(kind=SamplerKind.DDPM, steps=8), SamplerSpec(steps=5, eta=0.7)]
DETERMINISTIC = SamplerSpec(kind=SamplerKind.DDIM, steps=5)


@pytest.mark.parametrize(("resolution", "channels"), [(16, 1), (32, 3), (64, 1)])
def test_a_gans_bytes_depend_on_the_seed_alone(resolution: int, channels: int) -> None:
    spec, networks = gan(resolution, channels)
    seeds = list(range(100, 164))
    together = generate(networks, spec, seeds)
    assert together.shape == (64, channels, resolution, resolution)
    assert together.dtype == torch.uint8
    assert together.float().std() > 10
    assert torch.equal(generate(networks, spec, seeds[::-1]), together.flip(0))
    assert torch.equal(generate(networks, spec, seeds[3:10]), together[3:10])
    for index in (0, 5, GAN_CHUNK - 1, GAN_CHUNK, 63):
        assert torch.equal(generate(networks, spec, [seeds[index]])[0], together[index])
    assert len({image.numpy().tobytes() for image in together}) == 64


SOLVERS = [SamplerSpec(kind=kind, steps=4) for kind in SamplerKind if kind not in ("ddpm", "ddim")]


@pytest.mark.parametrize("sampler", [*STOCHASTIC, DETERMINISTIC, *SOLVERS], ids=str)
def test_a_diffusion_models_image_is_the_same_alone_and_among_others(sampler: SamplerSpec) -> None:
    """One random stream for a whole batch, the usual way, would give another image to every n."""
    schedule = "edm" if sampler.kind in SAMPLERS_OF[False] else "cosine"
    spec, networks = diffusion(schedule)
    seeds = [7, 3, 11, 5, 2**53 - 1]
    together = generate(networks, spec, seeds, sampler=sampler).int()
    for index in (0, 2, 4):
        alone = generate(networks, spec, [seeds[index]], sampler=sampler)[0].int()
        assert (alone - together[index]).abs().max() <= 1
    backwards = generate(networks, spec, seeds[::-1], sampler=sampler).int().flip(0)
    assert (backwards - together).abs().max() <= 1
    assert (together[0] - together[1]).abs().max() > 1


@pytest.mark.parametrize("schedule", ["cosine", "linear", "sigmoid"])
def test_full_noise_at_each_step_gives_images_whatever_the_number_of_steps(schedule: str) -> None:
    """Breaks when DDIM's root at eta 1 is that of a rounding error below 0: NaN, at 5 steps of `cosine`."""
    spec, networks = diffusion(schedule)
    for steps in (1, 2, 3, 5, 7, 10):
        images = generate(networks, spec, [1, 2], sampler=SamplerSpec(steps=steps, eta=1.0))
        assert (images[0].int() - images[1].int()).abs().max() > 1


def test_more_images_than_one_chunk() -> None:
    spec, networks = diffusion()
    few = SamplerSpec(steps=2)
    together = generate(networks, spec, range(70), sampler=few).int()
    assert together.shape == (70, 1, 16, 16)
    assert (generate(networks, spec, [69], sampler=few)[0].int() - together[69]).abs().max() <= 1


def test_the_sampler_matters_and_the_specs_own_is_the_default() -> None:
    spec, networks = diffusion()
    images = [generate(networks, spec, [1], sampler=sampler) for sampler in [*STOCHASTIC, DETERMINISTIC]]
    assert not torch.equal(images[0], images[1])
    assert not torch.equal(images[1], images[2])
    short = spec.model_copy(update={"sampler": DETERMINISTIC})
    assert torch.equal(generate(networks, short, [1]), images[2])


@pytest.mark.parametrize("make", [gan, diffusion])
def test_sampling_leaves_training_as_it_was(make: Any) -> None:
    """Modes, BatchNorm's statistics or the global generator changed would change what training does next."""
    spec, networks = make()
    network = networks.get("generator", networks.get("network"))
    network.train()
    next(iter(network.children())).eval()
    modes = [module.training for module in network.modules()]
    state = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    random = torch.get_rng_state()
    sampler = None if "generator" in networks else DETERMINISTIC
    first = generate(networks, spec, [1, 2], sampler=sampler)
    assert torch.equal(torch.get_rng_state(), random)
    assert modes == [module.training for module in network.modules()]
    assert all(torch.equal(state[key], tensor) for key, tensor in network.state_dict().items())
    assert torch.equal(generate(networks, spec, [1, 2], sampler=sampler), first)


def test_progress_counts_evaluations_to_the_end() -> None:
    spec, networks = diffusion()
    seen: list[tuple[int, int]] = []
    generate(
        networks,
        spec,
        range(3),
        sampler=DETERMINISTIC,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(done, 5) for done in range(1, 6)]
    spec, networks = gan()
    seen.clear()
    generate(networks, spec, range(GAN_CHUNK + 1), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]
    spec, networks = diffusion("edm")
    seen.clear()
    heun = SamplerSpec(kind=SamplerKind.HEUN, steps=2)
    generate(networks, spec, [1], sampler=heun, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("make", [gan, diffusion])
def test_no_seeds_are_no_images(make: Any) -> None:
    spec, networks = make()
    assert generate(networks, spec, []).shape == (0, *spec.data.image_shape)


def test_what_cannot_be_sampled_is_refused_with_the_reason() -> None:
    spec, networks = gan()
    with pytest.raises(SamplingError, match="takes no sampler"):
        generate(networks, spec, [1], sampler=DETERMINISTIC)
    with pytest.raises(SamplingError, match="without labels"):
        generate(networks, spec, [1], labels=[3])
    spec, networks = diffusion()
    with pytest.raises(SamplingError, match="more than the noise_schedule"):
        generate(networks, spec, [1], sampler=SamplerSpec(steps=1001))


def test_a_diverged_network_is_an_error_not_a_black_picture() -> None:
    spec, networks = gan()
    nn.init.constant_(networks["generator"].main[0].weight, math.nan)
    with pytest.raises(SamplingError, match="diverged"):
        generate(networks, spec, [1])


def test_bytes_are_rounded_and_clipped() -> None:
    values = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0, 1 / 255])
    assert to_uint8(values).tolist() == [0, 0, 128, 255, 255, 128]
    assert to_uint8(values, (0, 1)).tolist() == [0, 0, 0, 255, 255, 1]


def test_a_gan_of_images_from_0_to_1_uses_all_bytes() -> None:
    """Read as [-1, 1], its black would be grey."""
    spec = spec_of({"preset": "dcgan", "data": {"range": [0, 1]}, "generator": {"ngf": 4}})
    networks = build_networks(spec)
    with torch.no_grad():
        images = networks["generator"].eval()(initial_noise([3], (100,)))
    assert torch.equal(generate(networks, spec, [3])[0], (images[0] * 255).round().to(torch.uint8))


CONDITIONAL = {"conditional": {"classes": 10}}


def _conditional(family: str) -> tuple[JobSpec, dict[str, nn.Module]]:
    if family == "diffusion":
        return diffusion(sampler={"kind": "ddim", "steps": 2}, **CONDITIONAL)
    spec = spec_of({"preset": "dcgan", "generator": {"ngf": 8, "init": "kaiming"}, **CONDITIONAL})
    torch.manual_seed(0)
    networks = build_networks(spec)
    for module in networks["generator"].modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight)  # at first all labels are alike; training sets them apart
    networks["generator"](torch.randn(64, 100), torch.arange(64) % 10)
    return spec, networks


@pytest.mark.parametrize("family", ["gan", "diffusion"])
def test_a_conditional_models_image_depends_on_its_seed_and_label_alone(family: str) -> None:
    spec, networks = _conditional(family)
    together = generate(networks, spec, [5, 6, 5], labels=[1, 1, 2]).int()
    for index, (seed, label) in enumerate([(5, 1), (6, 1), (5, 2)]):
        alone = generate(networks, spec, [seed], labels=[label])[0].int()
        assert (alone - together[index]).abs().max() <= (0 if family == "gan" else 1)
    own = labels_of(spec, [5, 6, 5])
    assert torch.equal(generate(networks, spec, [5, 6, 5]), generate(networks, spec, [5, 6, 5], labels=own))
    assert own is not None
    assert own[0] == own[2]


def test_the_label_is_seen_by_the_generator() -> None:
    spec, networks = _conditional("gan")
    assert not torch.equal(*generate(networks, spec, [5, 5], labels=[1, 2]))


def test_labels_of_seeds_are_even_over_the_classes() -> None:
    spec, _ = _conditional("gan")
    labels = labels_of(spec, range(1000, 1100))
    assert labels is not None
    for start in range(0, 100, 10):
        assert sorted(labels[start : start + 10]) == list(range(10))
    tens = labels_of(spec, range(0, 10_000, 10))  # seed % 10 would make one class of them
    assert tens is not None
    assert min(tens.count(label) for label in range(10)) > 60  # 100 expected, 9.5 a standard deviation
    assert labels_of(gan()[0], [1, 2]) is None


@pytest.mark.parametrize("family", ["gan", "diffusion"])
@pytest.mark.parametrize(
    ("labels", "why"),
    [([10, 0], "has 10 classes, 0 to 9"), ([0, -1], "Label -1"), ([0], "1 labels for 2 images")],
)
def test_labels_that_the_model_has_not_are_refused(family: str, labels: list[int], why: str) -> None:
    spec, networks = _conditional(family)
    with pytest.raises(SamplingError, match=why):
        generate(networks, spec, [1, 2], labels=labels)


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_guidance_keeps_the_number_of_images_at_once(scale: float) -> None:
    """A doubled batch of full size would need twice the memory that a service was sized for."""
    spec, networks = _conditional("diffusion")
    seen: list[int] = []
    networks["network"].register_forward_pre_hook(lambda _, arguments: seen.append(len(arguments[0])))
    sampler = SamplerSpec(kind=SamplerKind.DDIM, steps=1, guidance_scale=scale)
    progress: list[tuple[int, int]] = []
    made = generate(
        networks, spec, range(70), sampler=sampler, progress=lambda done, of: progress.append((done, of))
    )
    assert len(made) == 70
    assert seen == ([64, 6] if scale == 1 else [64, 64, 12])
    assert progress[-1] == (len(seen), len(seen))
