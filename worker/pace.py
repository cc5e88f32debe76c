"""How often something is worth doing again in a run that may take seconds or weeks."""


class Pace:
    """After ten seconds, or a twentieth of the run so far: a run of days is told of a few hundred times."""

    def __init__(self, began: float) -> None:
        self._began = self._last = began

    def due(self, now: float) -> bool:
        if now - self._last < max(10.0, (now - self._began) / 20):
            return False
        self._last = now
        return True
