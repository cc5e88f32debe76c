"""How many steps a spec's budget and intervals come to."""

from models.spec.interval import Interval
from models.spec.job import JobSpec


def total_steps(spec: JobSpec) -> int:
    """Updates of the trained network that the budget pays for, rounded up."""
    if spec.budget.steps is not None:
        return spec.budget.steps
    if spec.budget.images is None:
        raise ValueError("the budget holds neither images nor steps")
    return -(-spec.budget.images // spec.batch_size)


def every_steps(interval: Interval, batch_size: int) -> int:
    """A resolved interval in steps, at least one."""
    if interval.every_steps is not None:
        return interval.every_steps
    if interval.every_images is None:
        raise ValueError("the interval is not resolved")
    return max(1, round(interval.every_images / batch_size))
