"""The networks of both families, the one factory from a spec to them, and what they weigh."""

from models.networks.factory import SAMPLING_NETWORKS, build_networks, compile_networks
from models.networks.sizes import count_parameters, training_memory_bytes

__all__ = [
    "SAMPLING_NETWORKS",
    "build_networks",
    "compile_networks",
    "count_parameters",
    "training_memory_bytes",
]
