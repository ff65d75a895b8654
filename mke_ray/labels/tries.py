"""How often work was begun that may end its worker; of its own, so that it starts without torch."""

from collections import Counter


class Tries:
    """Counts in a process of its own how often work was begun that may end its worker."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def count(self, name: str) -> int:
        """Return how often some work was begun and not ended."""
        return self._counts[name]

    def begin(self, name: str) -> int:
        """Count a try and return the number of those before."""
        self._counts[name] += 1
        return self._counts[name] - 1

    def end(self, name: str) -> None:
        """Forget work that ended no worker."""
        self._counts.pop(name, None)
