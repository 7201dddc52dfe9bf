"""YAML as suites use it: 1.2's numbers and words instead of 1.1's traps, no aliases, and the line of each value."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from bench.errors import SuiteError, printable

MOST_BYTES = 1 << 16  # of a file; PyYAML takes one or two seconds for so much

_NOT_YAML = (yaml.YAMLError, ValueError, LookupError, OverflowError, RecursionError)  # all of them come from PyYAML

Place = tuple[str | int, ...]  # keys and list positions from the top of the file


class _Refused(yaml.MarkedYAMLError):
    """YAML, but no suite's; `found` is the node or event that shows it."""

    def __init__(self, problem: str, found: Any) -> None:
        super().__init__(problem=problem, problem_mark=found.start_mark)


class _Loader(yaml.SafeLoader):
    """`3e-4` is a number, and `no`, `on` and `12:30` are text. An alias is refused: a few may stand for billions."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise _Refused("an alias (*) stands here; write out what it means", self.peek_event())
        return super().compose_node(parent, index)


def _number(loader: _Loader, node: yaml.ScalarNode) -> int | float:
    """A whole number that fits 64 bits, or a finite one, so that no later step meets an infinity."""
    whole = node.tag.endswith(":int")
    value = loader.construct_yaml_int(node) if whole else loader.construct_yaml_float(node)
    if not abs(value) < (2**63 if whole else math.inf):
        problem = f"'{printable(node.value, 60)}' is out of range"
        raise yaml.constructor.ConstructorError(problem=problem, problem_mark=node.start_mark)
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
    first: [(tag, pattern) for tag, pattern in resolvers if tag == "tag:yaml.org,2002:null"]
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


def read_text(path: Path, source: str) -> str:
    """A file as text. Raises: SuiteError: no file (a pipe would make us wait), too large, not readable, not UTF-8."""
    try:
        if path.exists() and not path.is_file():
            raise SuiteError(f"{source}: can't be read: it is no file")
        with path.open("rb") as stream:
            data = stream.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise SuiteError(f"{source}: can't be read: larger than {MOST_BYTES:,} bytes")
        return data.decode("utf-8")
    except (OSError, ValueError) as error:
        raise SuiteError(f"{source}: can't be read: {getattr(error, 'strerror', None) or error}") from None


def parsed(text: str, source: str, advice: str | None = None) -> tuple[Any, dict[Place, int]]:
    """What a document means, and the line number (from 1) of each place in it.

    Args:
        source: whom messages blame.
        advice: of a text of one line, what is said in place of YAML's own complaint.

    Raises: SuiteError: not YAML, an alias, or a key that is no word or stands twice in one mapping.
    """
    try:
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
            lines = dict(_lines(root, ())) if root else {}  # first, since this checks the keys
            return (loader.construct_document(root) if root else None), lines
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark and advice is None else ""
        problem = error.problem or error.context
        said = problem if isinstance(error, _Refused) else advice or f"not valid YAML: {problem}"
        raise SuiteError(f"{source}{line}: {said}") from None
    except _NOT_YAML as error:
        problem = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise SuiteError(f"{source}: {advice or f'not valid YAML: {problem}'}") from None


def _lines(node: yaml.Node, place: Place) -> Iterator[tuple[Place, int]]:
    """Each place below `node` and its line. Raises: _Refused: a key that is no word, or stands twice in one mapping."""
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _Refused("a key has to be a word", key)
            if key.value in seen:
                raise _Refused(f"{printable(repr(key.value), 60)} stands here a second time", key)
            seen.add(key.value)
            below = (*place, key.value)
            yield below, key.start_mark.line + 1  # the line of its key is better than that of the value
            yield from _lines(value, below)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*place, index), value.start_mark.line + 1
            yield from _lines(value, (*place, index))
