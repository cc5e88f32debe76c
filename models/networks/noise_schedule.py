"""How noise grows with time in a diffusion model, as diffusers' scheduler: training and sampling share it."""

from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

from models.spec.diffusion import DiffusionSpec, NoiseScheduleKind

BETA_SCHEDULES = {
    NoiseScheduleKind.LINEAR: "linear",  # β from 1e-4 to 0.02: Ho et al. 2020, section 4
    NoiseScheduleKind.COSINE: "squaredcos_cap_v2",  # ᾱ = cos²: Nichol & Dhariwal 2021, equation 17
}


def noise_scheduler(spec: DiffusionSpec) -> DDPMScheduler:
    """A new scheduler: `add_noise` for training, `step` for ancestral sampling.

    The predicted image is clipped to [-1, 1]. A scheduler remembers its timesteps: use one for each sampling.
    """
    return DDPMScheduler(
        num_train_timesteps=spec.noise_schedule.timesteps,
        beta_schedule=BETA_SCHEDULES[spec.noise_schedule.kind],
        beta_start=1e-4,
        beta_end=0.02,
        clip_sample=True,
        prediction_type=spec.loss.prediction.value,
    )
