"""inkwash: diffusion as one small, exact idea, and what can be made with it."""

__version__ = "0.1.0"
