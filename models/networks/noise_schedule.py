"""How noise grows with time in a diffusion model, as diffusers' scheduler: training and sampling share it."""

from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

from models.spec.diffusion import DiffusionSpec, NoiseScheduleKind, Prediction

BETA_SCHEDULES = {
    NoiseScheduleKind.LINEAR: "linear",  # β from 1e-4 to 0.02: Ho et al. 2020, section 4
    NoiseScheduleKind.COSINE: "squaredcos_cap_v2",  # ᾱ = cos²: Nichol & Dhariwal 2021, equation 17
    NoiseScheduleKind.SIGMOID: "sigmoid",  # β along a sigmoid: Xu et al. 2022, GeoDiff
}


PREDICTION_TYPES = {Prediction.EPSILON: "epsilon", Prediction.V: "v_prediction", Prediction.X0: "sample"}
"""As diffusers calls them."""


def noise_scheduler(spec: DiffusionSpec) -> DDPMScheduler:
    """A new scheduler: `add_noise` for training, `step` for ancestral sampling.

    The predicted image is clipped to [-1, 1]. A scheduler remembers its timesteps: use one for each sampling.
    """
    return DDPMScheduler(
        num_train_timesteps=spec.noise_schedule.timesteps or 1000,
        beta_schedule=BETA_SCHEDULES[spec.noise_schedule.kind],
        beta_start=1e-4,
        beta_end=0.02,
        clip_sample=True,
        rescale_betas_zero_snr=spec.noise_schedule.zero_terminal_snr,
        prediction_type=PREDICTION_TYPES[spec.loss.prediction or Prediction.EPSILON],
    )
