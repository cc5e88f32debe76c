"""Images from trained networks: seeded noise, samplers, and the pictures made of them."""

from models.sampling.generate import SamplingError, generate, labels_of
from models.sampling.noise import initial_noise

__all__ = ["SamplingError", "generate", "initial_noise", "labels_of"]
