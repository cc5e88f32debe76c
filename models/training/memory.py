"""What a training process holds."""

import resource

import torch


def memory(device: torch.device) -> dict[str, float]:
    """Most bytes so far: of tensors on a GPU, else of the whole process."""
    if device.type == "cuda":
        return {"memory/peak_bytes": float(torch.cuda.max_memory_allocated(device))}
    return {"memory/peak_bytes": 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}
