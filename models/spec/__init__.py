"""Everything a client may ask for, as torch-free pydantic models: the one source of truth."""

from models.spec.budget import every_steps, total_steps
from models.spec.data import BUILTIN_DATASETS, RESOLUTIONS, DatasetFacts, DataSpec
from models.spec.diffusion import DiffusionSpec
from models.spec.fields import MAX_SEED, FieldError, SpecError
from models.spec.gan import GanSpec
from models.spec.job import JobSpec
from models.spec.resolve import Plan, load_spec, resolve
from models.spec.sampler_rules import sampler_errors, sampler_of
from models.spec.sampling import SamplerKind, SamplerSpec

__all__ = [
    "BUILTIN_DATASETS",
    "MAX_SEED",
    "RESOLUTIONS",
    "DataSpec",
    "DatasetFacts",
    "DiffusionSpec",
    "FieldError",
    "GanSpec",
    "JobSpec",
    "Plan",
    "SamplerKind",
    "SamplerSpec",
    "SpecError",
    "every_steps",
    "load_spec",
    "resolve",
    "sampler_errors",
    "sampler_of",
    "total_steps",
]
