"""Every sampler against exact solutions, the papers' convergence orders and diffusers' own results."""

from typing import Any

import pytest
import torch
from diffusers import DDPMPipeline, DPMSolverMultistepScheduler, UNet2DModel, UniPCMultistepScheduler
from torch import Tensor, nn

from models.networks import build_networks
from models.networks.noise_schedule import Edm
from models.sampling import SamplingError, generate
from models.sampling.noise import draw, generators
from models.sampling.samplers import ODES, SAMPLERS, Labels, Start, denoise, evaluations, guided
from models.spec import DiffusionSpec, SamplerKind, SamplerSpec
from models.spec.diffusion import IN_TIMESTEPS, NoiseScheduleKind, Prediction
from models.spec.sampler_rules import SAMPLERS_OF
from tests.models.sampling.ideal import MEAN, SPREAD, ideal, sampler, solution, spec_of

KINDS = NoiseScheduleKind


def sampled(
    network: nn.Module, spec: DiffusionSpec, how: SamplerSpec, count: int = 16
) -> tuple[Tensor, Tensor]:
    """Images from seeds 0, 1, …, and the noise they began as."""
    sources = generators(range(count))
    noise = draw(sources, spec.data.image_shape)
    with torch.no_grad():
        images = denoise(network, Start(noise, sources), spec, how, None, lambda: None)
    return images, noise


IDEALS = [
    (KINDS.LINEAR, Prediction.EPSILON, {}),
    *((KINDS.COSINE, prediction, {}) for prediction in Prediction),
    (KINDS.COSINE, Prediction.V, {"zero_terminal_snr": True}),
    (KINDS.COSINE, Prediction.X0, {"zero_terminal_snr": True}),
    (KINDS.SIGMOID, Prediction.V, {}),
    (KINDS.EDM, None, {}),
    (KINDS.FLOW, None, {}),
]
STEPS = {
    SamplerKind.DDPM: 500,
    SamplerKind.DDIM: 250,
    SamplerKind.DPMPP: 100,
    SamplerKind.UNIPC: 100,
    SamplerKind.EULER: 250,
    SamplerKind.HEUN: 50,
}


@pytest.mark.parametrize("how", SamplerKind)
@pytest.mark.parametrize(("kind", "prediction", "fields"), IDEALS)
def test_the_ideal_network_of_gaussian_data_gives_that_data(
    how: SamplerKind, kind: KINDS, prediction: Prediction | None, fields: dict[str, Any]
) -> None:
    """A wrong coefficient anywhere in a sampler shows in the mean or the spread, which are known exactly."""
    if how not in SAMPLERS_OF[kind in IN_TIMESTEPS]:
        return
    spec = spec_of(kind, prediction, **fields)
    images, _ = sampled(ideal(spec), spec, sampler(how, STEPS[how]))
    assert images.mean().item() == pytest.approx(MEAN, abs=0.01)
    assert images.std().item() == pytest.approx(SPREAD, rel=0.04)


@pytest.mark.parametrize("how", [SamplerKind.DDIM, SamplerKind.DPMPP, SamplerKind.UNIPC])
@pytest.mark.parametrize("zero_terminal_snr", [False, True])
@pytest.mark.parametrize("kind", IN_TIMESTEPS)
def test_schedulers_of_other_classes_have_the_models_noise(
    how: SamplerKind, kind: KINDS, zero_terminal_snr: bool
) -> None:
    """Another schedule of β than the model's shows as another end of the probability-flow equation."""
    spec = spec_of(kind, Prediction.V, zero_terminal_snr=zero_terminal_snr)
    images, noise = sampled(ideal(spec), spec, sampler(how, 250), 1)
    torch.testing.assert_close(images, solution(spec, noise), atol=0.03, rtol=0)


@pytest.mark.parametrize(("kind", "order"), [(SamplerKind.EULER, 1), (SamplerKind.HEUN, 2)])
def test_solvers_of_edm_have_their_order(kind: SamplerKind, order: int) -> None:
    """Halved steps halve the error of Euler's method and quarter that of Heun's (Karras et al. 2022, 3)."""
    spec = spec_of(KINDS.EDM)
    errors = []
    for steps in (64, 128):
        images, noise = sampled(ideal(spec), spec, sampler(kind, steps), 4)
        errors.append((images - solution(spec, noise)).abs().mean().item())
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.15)


@pytest.mark.parametrize("kind", [SamplerKind.DPMPP, SamplerKind.UNIPC])
def test_multistep_solvers_need_fewer_steps_than_ddim(kind: SamplerKind) -> None:
    spec = spec_of(KINDS.COSINE, Prediction.EPSILON)
    errors = []
    for how in (kind, SamplerKind.DDIM):
        images, noise = sampled(ideal(spec), spec, sampler(how, 40), 4)
        errors.append((images - solution(spec, noise)).abs().mean().item())
    assert errors[0] < errors[1] / 3


@pytest.mark.parametrize("kind", [SamplerKind.EULER, SamplerKind.HEUN])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_straight_paths_are_followed_exactly(kind: SamplerKind, steps: int) -> None:
    """All data in one point: every path of the flow is straight, and any number of steps ends there."""
    spec = spec_of(KINDS.FLOW)
    images, _ = sampled(ideal(spec, spread=0.0), spec, sampler(kind, steps), 2)
    torch.testing.assert_close(images, torch.full_like(images, MEAN), atol=1e-5, rtol=0)


def test_flow_times_are_told_in_thousandths_in_equal_steps() -> None:
    seen: list[float] = []

    def predict(x: Tensor, time: Tensor) -> Tensor:
        seen.append(time.item())
        return torch.zeros_like(x)

    spec, start = spec_of(KINDS.FLOW), Start(torch.ones(1, 1, 4, 4), generators([0]))
    SAMPLERS[SamplerKind.EULER](predict, start, spec, sampler(SamplerKind.EULER, 4))
    assert seen == [1000, 750, 500, 250]


def test_noise_levels_of_edm_are_the_papers() -> None:
    """Equation 5, and its table 1: 18 steps from 80 to 0.002 with ρ 7."""
    edm = Edm.of(spec_of(KINDS.EDM))
    levels = edm.levels(18)
    expected = [(80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(18)]
    assert levels == pytest.approx([*expected, 0])
    assert edm.levels(1) == pytest.approx([80, 0])


def untrained(prediction: Prediction) -> tuple[DiffusionSpec, nn.Module]:
    spec = spec_of(KINDS.COSINE, prediction)
    torch.manual_seed(0)
    return spec, build_networks(spec)["network"].eval()


@pytest.mark.parametrize("prediction", Prediction)
def test_dpmpp_is_the_result_of_diffusers_pipeline(prediction: Prediction) -> None:
    spec, network = untrained(prediction)
    scheduler = DPMSolverMultistepScheduler(**_settings(prediction))
    unet = UNet2DModel.from_config(network.config)
    unet.load_state_dict(network.state_dict())
    pipeline = DDPMPipeline(unet=unet.eval(), scheduler=scheduler)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(3, generators(range(3)), num_inference_steps=10, output_type="np").images
    images, _ = sampled(network, spec, sampler(SamplerKind.DPMPP, 10), 3)
    ours = (images / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
    torch.testing.assert_close(ours, torch.from_numpy(theirs), atol=1e-5, rtol=0)


@pytest.mark.parametrize("prediction", Prediction)
def test_unipc_is_the_result_of_diffusers_scheduler(prediction: Prediction) -> None:
    """diffusers' unconditional pipelines cannot run it: it draws nothing, and takes no generator."""
    spec, network = untrained(prediction)
    scheduler = UniPCMultistepScheduler(**_settings(prediction))
    scheduler.set_timesteps(10)
    images, noise = sampled(network, spec, sampler(SamplerKind.UNIPC, 10), 3)
    theirs = noise
    with torch.no_grad():
        for timestep in scheduler.timesteps:
            theirs = scheduler.step(network(theirs, timestep), timestep, theirs).prev_sample
    torch.testing.assert_close(images, theirs, atol=1e-5, rtol=0)


def _settings(prediction: Prediction) -> dict[str, Any]:
    return {
        "beta_schedule": "squaredcos_cap_v2",
        "prediction_type": {"epsilon": "epsilon", "v": "v_prediction", "x0": "sample"}[prediction],
        "solver_order": 2,
        "timestep_spacing": "trailing",
        "thresholding": True,
        "sample_max_value": 1.0,
    }


@pytest.mark.parametrize("zero_terminal_snr", [False, True])
@pytest.mark.parametrize("how", [SamplerKind.DDPM, SamplerKind.DDIM, SamplerKind.DPMPP, SamplerKind.UNIPC])
def test_any_number_of_steps_gives_finite_images(how: SamplerKind, zero_terminal_snr: bool) -> None:
    """A solver that visits a timestep twice divides by zero."""
    for timesteps in (2, 3, 11):
        spec = spec_of(KINDS.COSINE, Prediction.V, timesteps=timesteps, zero_terminal_snr=zero_terminal_snr)
        for steps in range(1, timesteps + 1):
            images, _ = sampled(ideal(spec), spec, sampler(how, steps), 1)
            assert images.isfinite().all(), (timesteps, steps)


@pytest.mark.parametrize("steps", [1, 7, 20, 600])
@pytest.mark.parametrize("zero_terminal_snr", [False, True])
@pytest.mark.parametrize("how", [SamplerKind.DDPM, SamplerKind.DDIM, SamplerKind.DPMPP, SamplerKind.UNIPC])
def test_sampling_begins_with_pure_noise(how: SamplerKind, zero_terminal_snr: bool, steps: int) -> None:
    """The first timestep asked is the last of training, however few follow (Lin et al. 2024, section 3.3)."""
    spec, seen = spec_of(KINDS.LINEAR, Prediction.V, zero_terminal_snr=zero_terminal_snr), []

    def predict(x: Tensor, timestep: Tensor) -> Tensor:
        seen.append(int(timestep))
        return torch.zeros_like(x)

    sources = generators([0])
    SAMPLERS[how](predict, Start(draw(sources, (1, 4, 4)), sources), spec, sampler(how, steps))
    assert seen[0] == 999
    assert len(set(seen)) == steps


def test_epsilon_at_zero_terminal_snr_makes_no_image() -> None:
    """What the spec's rule prevents: of pure noise the best ε is the input, and the image is 0 / 0."""
    spec = spec_of(KINDS.COSINE, Prediction.V, zero_terminal_snr=True)
    broken = spec.model_copy(update={"loss": spec.loss.model_copy(update={"prediction": Prediction.EPSILON})})
    how = sampler(SamplerKind.DDIM, 10)
    assert generate({"network": ideal(spec)}, spec, [0], sampler=how).float().mean() > 100
    with pytest.raises(SamplingError, match="NaN"):
        generate({"network": ideal(broken)}, broken, [0], sampler=how)


class _ByLabel(nn.Module):
    """Returns its label plus one everywhere, or 0 without one (label 9); remembers how many it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []

    def forward(self, x: Tensor, times: Tensor, labels: Tensor) -> Tensor:
        self.asked.append(len(x))
        return torch.where(labels == 9, 0.0, labels + 1.0).view(-1, 1, 1, 1).expand_as(x)


@pytest.mark.parametrize(("scale", "expected"), [(0, [0, 0]), (1, [3, 5]), (2.5, [7.5, 12.5])])
def test_guidance_draws_away_from_the_prediction_without_a_label(scale: float, expected: list[float]) -> None:
    network = _ByLabel()
    predict = guided(network, Labels(torch.tensor([2, 4]), 9), scale)
    prediction = predict(torch.zeros(2, 1, 1, 1), torch.tensor(0))
    assert prediction.flatten().tolist() == expected
    assert network.asked == [2 if scale == 1 else 4]  # one doubled batch; nothing extra without guidance


@pytest.mark.parametrize("kind", SamplerKind)
def test_evaluations_are_counted_as_they_are_made(kind: SamplerKind) -> None:
    schedule = KINDS.EDM if kind in SAMPLERS_OF[False] else KINDS.COSINE
    spec, seen = spec_of(schedule), []
    how, sources = sampler(kind, 5), generators([0])
    start = Start(draw(sources, spec.data.image_shape), sources)
    with torch.no_grad():
        denoise(ideal(spec), start, spec, how, None, lambda: seen.append(1))
    assert len(seen) == evaluations(how) == (9 if kind is SamplerKind.HEUN else 5)


def test_every_sampler_and_every_equation_is_in_its_table() -> None:
    assert set(SAMPLERS) == set(SamplerKind)
    assert set(ODES) == set(KINDS) - set(IN_TIMESTEPS)
