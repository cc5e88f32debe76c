"""Images from trained networks: seeded noise, samplers, and the pictures made of them."""

from models.sampling.errors import SamplingError
from models.sampling.generate import InitImages, generate
from models.sampling.labels import labels_of
from models.sampling.noise import Between, Origin, initial_noise

__all__ = ["Between", "InitImages", "Origin", "SamplingError", "generate", "initial_noise", "labels_of"]
