"""A language of four sentences, learned in seconds: then it is known what a model may write."""

from functools import partial
from pathlib import Path

from inkwash.systems.language import train, train_classifier
from inkwash.systems.language.model import Writer
from inkwash.training.settings import Settings
from inkwash.weights.files import atomic
from tests.once import once

SENTENCES = {
    "The cat sat on the mat.": "calm",
    "A dog ran in the park!": "wild",
    "Two old birds sing by the river.": "calm",
    "Run!": "wild",
}


def table(shared: Path) -> Path:
    rows = "".join(f"{text},{mood}\n" for text, mood in SENTENCES.items())
    with atomic(shared / "toy.csv") as file:
        file.write_text(f"text,mood\n{rows}", encoding="utf-8")
    return shared / "toy.csv"


def writer(shared: Path, engine: str, improved: bool = True) -> Writer:
    """A trained one."""
    settings = Settings(steps=1000, batch_size=32, learning_rate=3e-3, warmup=20, ema_decay=0.98)
    recipe = train.Recipe(
        "language", table(shared), settings, engine, improved, 10, 0, min_count=1, width=32, layers=2, heads=2
    )
    return Writer.load(once(shared / f"{engine}-{improved}", partial(train.train, recipe)) / "model")


def read(shared: Path, engine: str, grammar: bool = False) -> Writer:
    """One with a classifier of moods, and perhaps of grammar."""
    base = writer(shared, engine).folder
    settings = Settings(steps=500 if grammar else 150, batch_size=16, learning_rate=3e-3, warmup=20, ema_decay=0.9)
    recipe = train_classifier.Recipe("classifier", table(shared), base, settings, grammar, 16, 1, 2, min_count=1)
    return Writer.load(once(shared / f"{engine}-{grammar}-read", partial(train_classifier.train, recipe)) / "model")
