"""What each choice of a diffusion model does: prediction, weighting, noise schedule, sampler, guidance."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.losses.denoising import TARGETS, WEIGHTINGS, noised
from models.networks import noise_schedule
from models.networks.noise_schedule import BETA_SCHEDULES, noise_scheduler
from models.sampling import samplers
from models.sampling.noise import draw, generators
from models.sampling.samplers import SAMPLERS, Labels, Predict, Start, denoise
from models.spec import DiffusionSpec, SamplerKind, SamplerSpec
from models.spec.conditional import ConditionalSpec
from models.spec.diffusion import NoiseScheduleKind, Prediction, Weighting
from models.training import diffusion, processes
from models.training.processes import PROCESSES, Process
from tests.models.sampling.ideal import ideal, solution, spec_of
from tests.models.techniques import Technique, row

KINDS = NoiseScheduleKind


def _target(prediction: Prediction) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images, ᾱ (3, 1, 1, 1), the noised images and what the network should say of them."""
    images, noise = torch.randn(2, 3, 1, 4, 4, generator=generators([0])[0]).unbind()
    alphas = torch.tensor([0.1, 0.5, 0.9])
    target = TARGETS[prediction](images, noise, alphas)
    return images, alphas.view(-1, 1, 1, 1), noised(images, noise, alphas), target


def _epsilon_is_the_noise() -> None:
    images, alphas, x, epsilon = _target(Prediction.EPSILON)
    assert torch.allclose((x - (1 - alphas).sqrt() * epsilon) / alphas.sqrt(), images, atol=1e-5)


def _v_is_the_velocity() -> None:
    images, alphas, x, v = _target(Prediction.V)
    assert torch.allclose(alphas.sqrt() * x - (1 - alphas).sqrt() * v, images, atol=1e-5)


def _x0_is_the_image() -> None:
    images, _, _, x0 = _target(Prediction.X0)
    assert torch.equal(x0, images)


def _uniform_weighs_all_times_alike() -> None:
    assert torch.equal(_weights(Weighting.UNIFORM), torch.ones(3))


def _min_snr_bounds_the_weight_of_the_image() -> None:
    """Of ε the error of the image counts SNR times; min-SNR makes that min(SNR, 5)."""
    snr = torch.tensor([0.01, 4.0, 1000.0])
    assert torch.allclose(_weights(Weighting.MIN_SNR) * snr, torch.tensor([0.01, 4.0, 5.0]))


def _weights(weighting: Weighting) -> Tensor:
    return WEIGHTINGS[weighting](torch.tensor([0.01, 4.0, 1000.0]), Prediction.EPSILON, 5.0)


def _linear_betas() -> None:
    assert torch.allclose(_scheduler(KINDS.LINEAR).betas, torch.linspace(1e-4, 0.02, 1000))


def _cosine_keeps_cos_squared_of_the_image() -> None:
    kept = _scheduler(KINDS.COSINE).alphas_cumprod
    assert kept[499].item() == pytest.approx(
        0.4938, abs=1e-3
    )  # cos²(π/2·0.508/1.008) / cos²(π/2·0.008/1.008)


def _sigmoid_betas() -> None:
    """Symmetric about the middle, and steeper there than a line."""
    betas = _scheduler(KINDS.SIGMOID).betas
    assert torch.allclose(betas + betas.flip(0), torch.full((1000,), 0.0201), atol=1e-5)
    assert betas[250] < 0.2 * betas[500]


def _scheduler(kind: NoiseScheduleKind, **fields: Any) -> Any:
    return noise_scheduler(spec_of(kind, Prediction.V, **fields))


def _process(kind: NoiseScheduleKind, **fields: Any) -> Process:
    return PROCESSES[kind](spec_of(kind, **fields), torch.device("cpu"))


def _edm_asks_the_network_for_unit_variance() -> None:
    images, noise = torch.randn(2, 16, 1, 16, 16, generator=generators([0])[0]).unbind()
    process = _process(KINDS.EDM, sigma_data=0.5)
    for sigma in (0.01, 50.0):
        times = torch.full((16,), sigma)
        for values in (
            process.inputs(0.5 * images, noise, times),
            process.target(0.5 * images, noise, times),
        ):
            assert values.std().item() == pytest.approx(1, abs=0.05)


def _plain_edm(spec: DiffusionSpec, device: torch.device) -> Process:
    """σ without its preconditioning: the network sees x0 + σ·ε and returns the image."""

    def inputs(images: Tensor, noise: Tensor, sigmas_B: Tensor) -> Tensor:
        return images + sigmas_B.view(-1, 1, 1, 1) * noise

    return replace(processes._edm(spec, device), inputs=inputs, target=lambda images, noise, sigmas_B: images)


def _flow_follows_straight_paths() -> None:
    """The target leads from the image to the noise at any time."""
    images, noise = torch.randn(2, 3, 1, 4, 4, generator=generators([0])[0]).unbind()
    process, times = _process(KINDS.FLOW), torch.tensor([0.2, 0.5, 0.9])
    target = process.target(images, noise, times)
    x = process.inputs(images, noise, times)
    assert torch.allclose(x + (1 - times.view(-1, 1, 1, 1)) * target, noise, atol=1e-5)


def _flow_that_predicts_noise(spec: DiffusionSpec, device: torch.device) -> Process:
    return replace(processes._flow(spec, device), target=lambda images, noise, times_B: noise)


def _time_mean_moves_the_times() -> None:
    """Half of the σ are below e to the power of the mean."""
    for mean in (-1.0, 2.0):
        sigmas = _process(KINDS.EDM, time_mean=mean).draw_times(1000, generators([0])[0])
        assert sigmas.log().median().item() == pytest.approx(mean, abs=0.2)


def _zero_terminal_snr_ends_in_pure_noise() -> None:
    assert _scheduler(KINDS.LINEAR, zero_terminal_snr=True).alphas_cumprod[-1] == 0
    assert _scheduler(KINDS.LINEAR).alphas_cumprod[-1] > 1e-5


def _without_rescaling(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = noise_schedule.DDPMScheduler
    monkeypatch.setattr(
        noise_schedule, "DDPMScheduler", lambda **of: plain(**{**of, "rescale_betas_zero_snr": False})
    )


def _error(spec: DiffusionSpec, how: SamplerSpec) -> float:
    """Mean distance of the images of the ideal network from the exact solution of its equation."""
    noise = _noise(spec)
    images = _images(spec, how, noise, [0, 1])
    return (images - solution(spec, noise)).abs().mean().item()


def _noise(spec: DiffusionSpec) -> Tensor:
    return draw(generators([0, 1]), spec.data.image_shape)


def _images(spec: DiffusionSpec, how: SamplerSpec, noise: Tensor, seeds: list[int]) -> Tensor:
    """Images that begin as `noise`; `seeds` decide what is drawn on the way."""
    with torch.no_grad():
        return denoise(ideal(spec), Start(noise, generators(seeds)), spec, how, None, lambda: None)


def _spread_by_seeds(how: SamplerSpec) -> float:
    """How far the images that begin as the same noise are apart by what is drawn on the way."""
    spec = spec_of(KINDS.COSINE, Prediction.EPSILON)
    noise = _noise(spec)
    return (_images(spec, how, noise, [2, 3]) - _images(spec, how, noise, [4, 5])).abs().mean().item()


def _ddpm_draws_noise_at_each_step() -> None:
    assert _spread_by_seeds(SamplerSpec(kind=SamplerKind.DDPM, steps=20)) > 0.05


def _ddim_draws_none() -> None:
    assert _spread_by_seeds(SamplerSpec(kind=SamplerKind.DDIM, steps=20)) == 0


def _eta_draws_noise() -> None:
    assert _spread_by_seeds(SamplerSpec(kind=SamplerKind.DDIM, steps=20, eta=1.0)) > 0.05


def _ddim_without_eta(predict: Predict, start: Start, spec: DiffusionSpec, sampler: SamplerSpec) -> Tensor:
    return samplers._ddim(predict, start, spec, sampler.model_copy(update={"eta": 0.0}))


def _error_to_ddims(kind: SamplerKind) -> float:
    spec = spec_of(KINDS.COSINE, Prediction.EPSILON)
    own, ddims = (_error(spec, SamplerSpec(kind=each, steps=40)) for each in (kind, SamplerKind.DDIM))
    return own / ddims


def _dpmpp_needs_fewer_steps() -> None:
    assert _error_to_ddims(SamplerKind.DPMPP) < 1 / 3


def _unipc_needs_fewer_steps() -> None:
    assert _error_to_ddims(SamplerKind.UNIPC) < 1 / 3


def _euler_follows_a_straight_path_in_one_step() -> None:
    spec = spec_of(KINDS.FLOW)
    network, sources = ideal(spec, spread=0.0), generators([0])
    start = Start(draw(sources, spec.data.image_shape), sources)
    with torch.no_grad():
        how = SamplerSpec(kind=SamplerKind.EULER, steps=1)
        images = denoise(network, start, spec, how, None, lambda: None)
    assert torch.allclose(images, solution(spec, start.noise, spread=0.0), atol=1e-5)


def _unsolved(predict: Predict, start: Start, spec: DiffusionSpec, sampler: SamplerSpec) -> Tensor:
    return start.noise


def _heun_is_of_second_order() -> None:
    """Twice the steps, a quarter of the error."""
    spec = spec_of(KINDS.EDM)
    coarse, fine = (_error(spec, SamplerSpec(kind=SamplerKind.HEUN, steps=steps)) for steps in (50, 100))
    assert coarse / fine > 3


class _LabelAsPrediction(nn.Module):
    def forward(self, x: Tensor, times: Tensor, labels: Tensor) -> Tensor:
        return labels.float().view(-1, 1, 1, 1).expand_as(x)


def _guidance_draws_away_from_no_label() -> None:
    labels = Labels(torch.tensor([3]), none=4)
    predict = samplers.guided(_LabelAsPrediction(), labels, 3.0)
    assert predict(torch.zeros(1, 1, 1, 1), torch.tensor(0)).item() == 1  # 4 + 3·(3 - 4)


def _label_dropout_hides_labels() -> None:
    spec = spec_of(KINDS.COSINE).model_copy(
        update={"conditional": ConditionalSpec(classes=10, label_dropout=0.5)}
    )
    told = diffusion.some_dropped(torch.zeros(1000, dtype=torch.long), spec, generators([0])[0])
    assert 400 < (told == 10).sum() < 600


def _unguided(network: nn.Module, labels: Labels | None, scale: float) -> Predict:
    assert labels is not None
    return lambda images, time: network(images, time, labels.of_images)


TECHNIQUES: list[Technique] = [
    row(TARGETS, Prediction.EPSILON, TARGETS[Prediction.X0], _epsilon_is_the_noise),
    row(TARGETS, Prediction.V, TARGETS[Prediction.EPSILON], _v_is_the_velocity),
    row(TARGETS, Prediction.X0, TARGETS[Prediction.EPSILON], _x0_is_the_image),
    row(WEIGHTINGS, Weighting.UNIFORM, WEIGHTINGS[Weighting.MIN_SNR], _uniform_weighs_all_times_alike),
    row(
        WEIGHTINGS, Weighting.MIN_SNR, WEIGHTINGS[Weighting.UNIFORM], _min_snr_bounds_the_weight_of_the_image
    ),
    row(BETA_SCHEDULES, KINDS.LINEAR, "scaled_linear", _linear_betas),
    row(BETA_SCHEDULES, KINDS.COSINE, "linear", _cosine_keeps_cos_squared_of_the_image),
    row(BETA_SCHEDULES, KINDS.SIGMOID, "linear", _sigmoid_betas),
    row(PROCESSES, KINDS.EDM, _plain_edm, _edm_asks_the_network_for_unit_variance),
    row(PROCESSES, KINDS.FLOW, _flow_that_predicts_noise, _flow_follows_straight_paths),
    row(SAMPLERS, SamplerKind.DDPM, SAMPLERS[SamplerKind.DDIM], _ddpm_draws_noise_at_each_step),
    row(SAMPLERS, SamplerKind.DDIM, SAMPLERS[SamplerKind.DDPM], _ddim_draws_none),
    row(SAMPLERS, SamplerKind.DPMPP, SAMPLERS[SamplerKind.DDIM], _dpmpp_needs_fewer_steps),
    row(SAMPLERS, SamplerKind.UNIPC, SAMPLERS[SamplerKind.DDIM], _unipc_needs_fewer_steps),
    row(SAMPLERS, SamplerKind.EULER, _unsolved, _euler_follows_a_straight_path_in_one_step),
    row(SAMPLERS, SamplerKind.HEUN, SAMPLERS[SamplerKind.EULER], _heun_is_of_second_order),
    Technique(
        "sampler.eta",
        lambda monkeypatch: monkeypatch.setitem(SAMPLERS, SamplerKind.DDIM, _ddim_without_eta),
        _eta_draws_noise,
    ),
    Technique(
        "sampler.guidance_scale",
        lambda monkeypatch: monkeypatch.setattr(samplers, "guided", _unguided),
        _guidance_draws_away_from_no_label,
    ),
    Technique(
        "conditional.label_dropout",
        lambda monkeypatch: monkeypatch.setattr(diffusion, "some_dropped", lambda labels, *_: labels),
        _label_dropout_hides_labels,
    ),
    Technique("noise_schedule.zero_terminal_snr", _without_rescaling, _zero_terminal_snr_ends_in_pure_noise),
    Technique(
        "noise_schedule.time_mean",
        lambda monkeypatch: monkeypatch.setattr(
            processes, "_normal", lambda mean, std, count, source: std * torch.randn(count, generator=source)
        ),
        _time_mean_moves_the_times,
    ),
]
