"""Suite files as text: YAML read with line numbers, `--set` overrides, and the line to blame for a mistake."""

import copy
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bench.errors import SuiteError, nearest

SUITES_FOLDER = Path(__file__).parent / "suites"

Place = tuple[str | int, ...]  # keys and list positions from the top of the file


class _Loader(yaml.SafeLoader):
    """YAML 1.1 without its traps: `3e-4` is a number, and `no`, `on` and `12:30` are text."""


def _number(loader: _Loader, node: yaml.ScalarNode) -> int | float:
    """A whole number that fits 64 bits, or a finite one, so that no later step meets an infinity."""
    whole = node.tag.endswith(":int")
    value = loader.construct_yaml_int(node) if whole else loader.construct_yaml_float(node)
    if not abs(value) < (2**63 if whole else math.inf):
        raise yaml.constructor.ConstructorError(problem=f"'{node.value}' is out of range", problem_mark=node.start_mark)
    return value


_PLAIN = ("null", "bool", "str", "seq", "map")  # no dates, sets or bytes, not even by an explicit tag
_Loader.yaml_constructors = {
    tag: construct
    for tag, construct in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.rpartition(":")[2] in _PLAIN
}
_Loader.add_constructor("tag:yaml.org,2002:int", _number)
_Loader.add_constructor("tag:yaml.org,2002:float", _number)

_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern) for tag, pattern in resolvers if tag in ("tag:yaml.org,2002:null", "tag:yaml.org,2002:merge")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9_]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9]+|[0-9][0-9_]*(?=[eE]))(?:[eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)
_NOT_YAML = (yaml.YAMLError, ValueError, LookupError, OverflowError, RecursionError)  # all of them come from PyYAML


@dataclass
class SuiteText:
    """A suite file's contents, where each of them stands, and what `--set` has changed.

    Attributes:
        source: the file, as messages name it.
        name: the suite's name, from the file's.
        content: keys and values as written.
        lines: line number (from 1) of each place.
        overrides: places that `--set` has changed -> the option as typed.
        options: the KEY=VALUEs applied so far.
    """

    source: str
    name: str
    content: dict[str, Any]
    lines: dict[Place, int]
    overrides: dict[Place, str] = field(default_factory=dict)
    options: list[str] = field(default_factory=list)

    def where(self, place: Place) -> str:
        """Whom to blame for what stands at `place`: the option that set it, or the file and the line."""
        for length in range(len(place), 0, -1):
            if place[:length] in self.overrides:
                return self.overrides[place[:length]]
            if place[:length] in self.lines:
                return f"{self.source}:{self.lines[place[:length]]}"
        return self.source

    def at(self, place: Place) -> Any:
        """What stands at `place`."""
        node: Any = self.content
        for key in place:
            node = node[key]
        return node

    def set(self, option: str, typed: str = "") -> None:
        """Apply `--set KEY=VALUE`: a dotted key; a model's settings are `models.NAME.KEY` or `models.POSITION.KEY`.

        Args:
            typed: what messages blame, where a person wrote something else.

        Raises:
            SuiteError: no `=`, no such model, or a value that isn't YAML.
        """
        typed = typed or f"--set {' '.join(option.split())}"
        self.options.append(option)
        key, equals, text = option.partition("=")
        keys = self._keys(key.strip())
        if not equals or not all(keys):
            raise SuiteError(
                f"{typed}: expected KEY=VALUE, such as --set batch_size=64 or --set models.vit.depth=[2,4]"
            )
        try:
            value = yaml.load(text, Loader=_Loader)
        except _NOT_YAML:
            raise SuiteError(f"{typed}: the value is not YAML; lists look like [2, 4]") from None
        for place in self._places(keys, typed):
            self._put(place, value, typed)

    def _keys(self, key: str) -> list[str]:
        """The parts of a dotted key; the name of a model may have dots of its own."""
        entries = self.content.get("models")
        names = (
            [entry.get("model") for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
        )
        for name in sorted((name for name in names if isinstance(name, str)), key=len, reverse=True):
            if key.startswith(f"models.{name}."):
                return ["models", name, *key.removeprefix(f"models.{name}.").split(".")]
        return key.split(".")

    def _places(self, keys: list[str], typed: str) -> list[Place]:
        """The places that a dotted key means.

        Several for `models.vit.…` if several entries are called so. What is typed for all models wins over what an
        entry says of itself, so a shared key stands in those entries, too, that have it.
        """
        entries = self.content.get("models")
        entries = entries if isinstance(entries, list) else []
        if keys[0] != "models":
            own: list[Place] = [
                ("models", i, *keys) for i, entry in enumerate(entries) if isinstance(entry, dict) and keys[0] in entry
            ]
            return [tuple(keys), *own]
        if len(keys) == 1:
            return [("models",)]
        if len(keys) == 2:
            raise SuiteError(f"{typed}: expected models.{keys[1]}.KEY, such as models.{keys[1]}.depth=[2,4]")
        names = [str(entry.get("model")) if isinstance(entry, dict) else "" for entry in entries]
        found = [i for i, name in enumerate(names) if name == keys[1] or str(i) == keys[1]]
        if not found:
            near = nearest(keys[1], filter(None, names))
            raise SuiteError(f"{typed}: the suite has no model '{keys[1]}'; {near}; models.0.KEY means the first entry")
        return [("models", index, *keys[2:]) for index in found]

    def _put(self, place: Place, value: Any, typed: str) -> None:
        node: Any = self.content
        for length, key in enumerate(place[:-1], 1):
            if isinstance(node, dict) and key not in node:
                node[key] = {}
                self._blame(place[:length], typed)
            node = node[key]
            if not isinstance(node, dict) and (place[0], length) != ("models", 1):
                name = ".".join(str(part) for part in place[:length])
                raise SuiteError(f"{typed}: '{name}' has no keys of its own, it is {shown(node)}")
        node[place[-1]] = copy.deepcopy(value)
        self._blame(place, typed)

    def _blame(self, place: Place, typed: str) -> None:
        """From now on `typed` answers for all that stands at `place` and below."""
        for known in (self.lines, self.overrides):
            for old in [old for old in known if old[: len(place)] == place]:
                del known[old]
        self.overrides[place] = typed


def suite_names() -> list[str]:
    """The suites that come with the program."""
    return sorted(path.stem for path in SUITES_FOLDER.glob("*.yaml"))


def find_suite(name: str) -> Path:
    """The file of a suite given by name or by path.

    Raises:
        SuiteError: neither.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.parent != Path():
        try:
            if path.is_file():
                return path
        except OSError:
            pass  # a name that no file can have
        raise SuiteError(f"suite file {name}: there is no such file")
    if name not in suite_names():
        raise SuiteError(f"unknown suite '{name}'; {nearest(name, suite_names())}")
    return SUITES_FOLDER / f"{name}.yaml"


def read_suite(path: Path, overrides: Sequence[str] = ()) -> SuiteText:
    """A suite file, with `--set` overrides applied.

    Raises:
        SuiteError: not readable, not YAML (with the line), or not a mapping.
    """
    source = path.name if path.parent == SUITES_FOLDER else str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SuiteError(f"{source}: can't be read: {error}") from None
    try:
        root = yaml.compose(text, Loader=_Loader)
        lines = dict(_lines(root, (), source)) if root is not None else {}
        content = yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise SuiteError(f"{source}{line}: not valid YAML: {error.problem or error.context}") from None
    except _NOT_YAML as error:
        raise SuiteError(f"{source}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise SuiteError(f"{source}: expected a mapping with 'dataset' and 'models', found {shown(content)}")
    suite = SuiteText(source, path.stem, content, lines)
    for option in overrides:
        suite.set(option)
    return suite


def _lines(node: yaml.Node, place: Place, source: str) -> Iterable[tuple[Place, int]]:
    line = node.start_mark.line + 1
    if place:
        yield place, line
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise SuiteError(f"{source}:{key.start_mark.line + 1}: a key has to be a word")
            if key.value in seen:
                raise SuiteError(f"{source}:{key.start_mark.line + 1}: {shown(key.value)} stands here a second time")
            seen.add(key.value)
            yield (*place, key.value), key.start_mark.line + 1
            yield from _below(_lines(value, (*place, key.value), source), (*place, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _lines(value, (*place, index), source)


def _below(found: Iterable[tuple[Place, int]], place: Place) -> Iterable[tuple[Place, int]]:
    """Without `place` itself: the line of its key is the better one."""
    return (item for item in found if item[0] != place)


def shown(value: object) -> str:
    """A value as a message quotes it: on one line, and not a long one."""
    text = json.dumps(value) if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
