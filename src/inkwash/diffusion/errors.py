"""The core's one exception: it names the argument and the step, and says what to do."""


class DiffusionError(ValueError):
    """Something was asked of the core that has no answer, or a network gave a value that is none."""
