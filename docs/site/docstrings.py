"""Docstrings as Markdown, for mkdocstrings: what is said of a parameter or field is an item, an example is code."""

import re

import griffe


class Markdown(griffe.Extension):
    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        if obj.docstring is None:
            return
        text = re.sub(
            r"(?:^(?:>>>|\.\.\.)( .*)?\n?)+", r"\n```pycon\n\g<0>\n```\n", obj.docstring.value, flags=re.MULTILINE
        )
        names = {parameter.name for parameter in getattr(obj, "parameters", ())}
        names |= set(obj.members) if isinstance(obj, griffe.Class) else set()
        if names:  # "name: text" or "name   text" at the beginning of a line, or of a sentence
            name = f"(?:{'|'.join(names)})"
            text = re.sub(
                rf"(?:^|(?<=\.) )({name}(?:, {name})*)(?:: |  +)", r"\n- **\1**: ", text, flags=re.MULTILINE
            )
        obj.docstring.value = text
