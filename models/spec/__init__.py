"""Everything a client may ask for, as torch-free pydantic models: the one source of truth."""

from models.spec.data import BUILTIN_DATASETS, RESOLUTIONS, DatasetFacts, DataSpec
from models.spec.diffusion import DiffusionSpec
from models.spec.fields import MAX_SEED, FieldError, SpecError
from models.spec.gan import GanSpec
from models.spec.job import JobSpec
from models.spec.resolve import Plan, every_steps, load_spec, resolve, total_steps
from models.spec.rules import sampler_errors
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
    "total_steps",
]
