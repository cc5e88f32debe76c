"""What sampling raises."""


class SamplingError(ValueError):
    """The images cannot be made: the message says why and what would be accepted."""
