"""Of docstrings, lines that begin with the name of a parameter or field become a list, for mkdocstrings."""

import re

import griffe


class Names(griffe.Extension):
    """A line "name: text" or "name   text", with what follows indented or not, is an item where there is that name."""

    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        if obj.docstring is None:
            return
        if isinstance(obj, griffe.Class):
            names = {*obj.members, *(parameter.name for parameter in obj.parameters)}
        elif isinstance(obj, griffe.Function):
            names = {parameter.name for parameter in obj.parameters}
        else:
            return
        name = "|".join(sorted(map(re.escape, names), key=len, reverse=True))
        if name:
            item = re.compile(rf"^({name})((?:, (?:{name}))*)(?:: |  +)", re.MULTILINE)
            obj.docstring.value = item.sub(r"- **\1\2**: ", obj.docstring.value)
