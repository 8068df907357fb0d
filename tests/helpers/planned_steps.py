"""A progress callback that remembers how many steps were planned and how much of them was padding."""


class Steps:
    """Remembers the steps planned and the padding seen."""

    planned = 0
    padding = 0.0

    def begin(self, steps: int) -> None:
        self.planned = steps

    def step(self, step: int) -> None:
        """Nothing to note."""

    def log(self, step: int, metrics: dict[str, float]) -> None:
        self.padding = metrics.get("padding", self.padding)
