"""The two families of job specs as one type."""

from models.spec.diffusion import DiffusionSpec
from models.spec.gan import GanSpec

JobSpec = GanSpec | DiffusionSpec
FAMILIES: dict[str, type[GanSpec] | type[DiffusionSpec]] = {"gan": GanSpec, "diffusion": DiffusionSpec}
