"""Complaints: what is wrong with a suite, in one line: where, what was found, what would do."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from bench.config.suite_file import Place, SuiteText, shown
from bench.errors import SuiteError, nearest

Settings = TypeVar("Settings", bound=BaseModel)

# pydantic's kind of error -> what would do
EXPECTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "list_type": "a list",
    "dict_type": "a mapping",
    "literal_error": "{expected}",
    "too_short": "at least {min_length} of them",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
}


def check_keys(text: SuiteText, place: Place, known: Iterable[str]) -> None:
    """Every key of the mapping at `place` has to be a known one. Raises: SuiteError."""
    names = set(known)
    for key in text.at(place):
        if key not in names:
            raise SuiteError(f"{text.where((*place, key))}: unknown key {shown(key)}; {nearest(key, names)}")


def check_name(name: object, known: Iterable[str], what: str, text: SuiteText, place: Place) -> None:
    """A name has to stand in its table. Raises: SuiteError."""
    names = set(known)
    if not isinstance(name, str) or name not in names:
        raise SuiteError(f"{text.where(place)}: unknown {what} {shown(name)}; {nearest(name, names)}")


def validated(
    model: type[Settings], values: Mapping[str, Any], text: SuiteText, place: Place, places: Mapping[str, Place]
) -> Settings:
    """`values` as a `model`.

    Args:
        place: of the mapping that the values are from.
        places: of single values, where they stand elsewhere.

    Raises:
        SuiteError: the first complaint of pydantic's.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise SuiteError(_one_line(error, values, text, place, places)) from None


def blamed(message: str, text: SuiteText, place: Place, places: Mapping[str, Place]) -> str:
    """Where the first setting stands that a model's own message names and a person has written."""
    words = message.replace("'", " ").split()
    return text.where(next((places[word] for word in words if word in places), place))


def _one_line(
    error: ValidationError, values: Mapping[str, Any], text: SuiteText, place: Place, places: Mapping[str, Place]
) -> str:
    first = _closest(error.errors(include_url=False))
    context = first.get("ctx", {})
    if first["type"] == "missing":
        return f"{text.where(place)}: '{first['loc'][-1]}' is missing"
    if first["type"] == "value_error":
        message = str(context["error"])
        return f"{blamed(message, text, place, places)}: {message}"
    keys = _keys(first["loc"], values)
    head = str(keys[0])
    where = text.where((*places.get(head, (*place, head)), *keys[1:]))
    expected = EXPECTED[first["type"]].format(**context) if first["type"] in EXPECTED else first["msg"]
    return f"{where}: {'.'.join(str(key) for key in keys)}: found {shown(first['input'])}, expected {expected}"


def _closest(errors: list[ErrorDetails]) -> ErrorDetails:
    """Of the alternatives that a value could have been, the one that it resembles: right type, deepest place."""
    same = [error for error in errors if error["loc"][:1] == errors[0]["loc"][:1]]
    return min(same, key=lambda error: (error["type"].endswith("_type"), -len(error["loc"])))


def _keys(loc: tuple[str | int, ...], values: Any) -> Place:
    """pydantic's location without the parts that name an alternative or a type and lead nowhere in the input."""
    keys = []
    for part in loc:
        if (isinstance(values, dict) and part in values) or (isinstance(values, list) and isinstance(part, int)):
            keys.append(part)
            values = values[part]  # type: ignore[index]
    return tuple(keys)
