"""Recipes: TOML files read into dataclasses, with one clear line for every mistake."""

import operator
import tomllib
import types
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt

from inkwash.errors import UserError, unknown

Recipe = TypeVar("Recipe")
BOUNDS: dict[Any, Callable[[Any], tuple[str, Callable[[Any, Any], bool], Any]]] = {
    Ge: lambda bound: ("at least", operator.ge, bound.ge),
    Gt: lambda bound: ("above", operator.gt, bound.gt),
    Le: lambda bound: ("at most", operator.le, bound.le),
    Lt: lambda bound: ("below", operator.lt, bound.lt),
}
Count = Annotated[int, Ge(1), Le(10**9)]
Amount = Annotated[int, Ge(0), Le(10**9)]  # a count that may be 0
Width = Annotated[int, Ge(1), Le(2**16)]  # of a layer
Depth = Annotated[int, Ge(1), Le(256)]  # layers
Share = Annotated[float, Ge(0), Le(1)]
Seed = Annotated[int, Ge(0), Le(2**64 - 1)]


def load_recipe(path: str | Path, schema: type[Recipe], **given: Any) -> Recipe:
    """Read a TOML file into the dataclass `schema`; a nested dataclass is a table. Values that are `given` stand for
    those of the file.

    Values may be int, float (an int will do), bool, str, Literal, Path, list[T], tuple[...], dict[str, T],
    X | None, dataclasses, and any of them `Annotated` with bounds. Raises UserError, with the file and the key, for a
    file that is missing or is not TOML (with the line), unknown keys (with the nearest valid ones), missing keys,
    wrong types, and what is out of bounds.
    """
    data = read_toml(Path(path))
    try:
        return _dataclass(data | given, schema, "")
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def read_toml(path: Path) -> dict[str, Any]:
    """The keys of a recipe file. UserError for one that is missing or no TOML."""
    try:
        content = path.read_bytes()
        if content.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
            raise UserError(f"{path} is not in UTF-8, as TOML is: save it as UTF-8")
        return tomllib.loads(content.decode("utf-8-sig"))  # some editors begin a file with a mark of order
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"cannot read the recipe {path}: {error.strerror}") from error
    except RecursionError:
        raise UserError(f"{path} is not valid TOML: its values are nested too deeply") from None
    except ValueError as error:  # not TOML, or not UTF-8
        raise UserError(f"{path} is not valid TOML: {error}") from error


def paths_of(value: Any, name: str = "") -> Iterator[tuple[str, Path]]:
    """The keys of a recipe, or of a part of it, that hold paths, and these."""
    if isinstance(value, Path):
        yield name, value
    elif is_dataclass(value) or isinstance(value, dict):
        for key, inner in (value if isinstance(value, dict) else vars(value)).items():
            yield from paths_of(inner, f"{name}.{key}".strip("."))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from paths_of(inner, name)


def _dataclass(data: dict[str, Any], schema: type[Recipe], name: str) -> Recipe:
    table = f"[{name}]" if name else "the recipe"
    hints = get_type_hints(schema, include_extras=True)
    keys = {field.name: field for field in fields(schema) if field.init}  # type: ignore[arg-type]
    for key in data:
        if key not in keys:
            raise unknown(f"key of {table}", key, keys)
    for key, field in keys.items():
        if key not in data and field.default is MISSING and field.default_factory is MISSING:
            raise UserError(f"{table} lacks the key '{key}' ({_type_name(hints[key])})")
    return schema(**{key: _value(data[key], hints[key], f"{name}.{key}".strip(".")) for key in data})


def _value(value: Any, kind: Any, name: str) -> Any:
    """`value` as `kind`; raises UserError when it is something else."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        value = _value(value, arguments[0], name)
        check_bounds(value, kind, name)
        return value
    if is_dataclass(kind) and isinstance(value, dict):
        return _dataclass(value, kind, name)  # type: ignore[arg-type]
    if origin is Literal and value in arguments:
        return value
    if origin in (Union, types.UnionType):
        for choice in arguments:
            try:
                return _value(value, choice, name)
            except UserError:
                if is_dataclass(choice) and isinstance(value, dict):
                    raise  # the mistake lies inside the table: say which
    if origin is list and isinstance(value, list):
        return [_value(item, arguments[0], f"{name}[{i}]") for i, item in enumerate(value)]
    if origin is tuple and isinstance(value, list):
        kinds = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(kinds) == len(value):
            pairs = enumerate(zip(value, kinds, strict=True))
            return tuple(_value(item, kind, f"{name}[{i}]") for i, (item, kind) in pairs)
    if (origin or kind) is dict and isinstance(value, dict):
        return (
            {key: _value(item, arguments[1], f"{name}.{key}") for key, item in value.items()} if arguments else value
        )
    if kind is float and type(value) is int:
        return float(value)
    if kind is Path and isinstance(value, str | Path):
        return Path(value)
    if kind is Any or (kind in (int, float, bool, str) and type(value) is kind):
        return value
    raise UserError(f"{name} must be {_type_name(kind)}, not {repr(value)[:60]}")


def check_bounds(value: Any, kind: Any, name: str) -> None:
    """UserError for a number out of the bounds of its annotation, in a list or None as well."""
    if get_origin(kind) is Annotated:
        for bound in get_args(kind)[1:]:
            words, holds, limit = BOUNDS[type(bound)](bound)
            if value is not None and not holds(value, limit):
                raise UserError(f"{name} must be {words} {limit}, not {value}")
    elif isinstance(value, list | tuple) and (arguments := get_args(kind)):
        for item in value:
            check_bounds(item, arguments[0], name)


def _type_name(kind: Any) -> str:
    """A type in words."""
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", Path: "a path"}
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _type_name(arguments[0])
    if is_dataclass(kind) or (origin or kind) is dict:
        return "a table"
    if origin is Literal:
        return "one of " + ", ".join(map(repr, arguments))
    if origin in (Union, types.UnionType):
        return " or ".join(_type_name(choice) for choice in arguments if choice is not type(None))
    if origin in (list, tuple):
        count = "" if origin is list or arguments[-1] is Ellipsis else f"{len(arguments)} values, each "
        return f"a list of {count}{_type_name(arguments[0])}"
    return names.get(kind, str(kind))
