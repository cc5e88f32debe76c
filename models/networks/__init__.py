"""The networks of both families, and the one factory from a spec to them."""

from models.networks.factory import (
    SAMPLING_NETWORKS,
    build_networks,
    compile_networks,
    count_parameters,
    training_memory_bytes,
)

__all__ = [
    "SAMPLING_NETWORKS",
    "build_networks",
    "compile_networks",
    "count_parameters",
    "training_memory_bytes",
]
