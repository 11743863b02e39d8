"""A language of four sentences, learned in seconds: then it is known what a model may write."""

from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from inkwash.systems.language import train, train_classifier
from inkwash.systems.language.model import Writer
from inkwash.training.fit import Settings

SENTENCES = {
    "The cat sat on the mat.": "calm",
    "A dog ran in the park!": "wild",
    "Two old birds sing by the river.": "calm",
    "Run!": "wild",
}


@cache
def table() -> Path:
    file = Path(mkdtemp()) / "toy.csv"
    file.write_text("text,mood\n" + "".join(f"{text},{mood}\n" for text, mood in SENTENCES.items()), encoding="utf-8")
    return file


@cache
def writer(engine: str, improved: bool = True) -> Writer:
    """A trained one."""
    settings = Settings(steps=1000, batch_size=32, learning_rate=3e-3, warmup=20, ema_decay=0.98)
    recipe = train.Recipe(
        "language", table(), settings, engine, improved, 10, 0, at_least=1, width=32, layers=2, heads=2
    )
    folder = Path(mkdtemp())
    train.train(recipe, folder)
    return Writer.load(folder / "model")


@cache
def read(engine: str, grammar: bool = False) -> Writer:
    """One with a classifier of moods, and perhaps of grammar."""
    settings = Settings(steps=500 if grammar else 150, batch_size=16, learning_rate=3e-3, warmup=20, ema_decay=0.9)
    recipe = train_classifier.Recipe(
        "classifier", table(), writer(engine).folder, settings, grammar, 16, 1, 2, at_least=1
    )
    folder = Path(mkdtemp())
    train_classifier.train(recipe, folder)
    return Writer.load(folder / "model")
