"""Suite files as text: YAML read with line numbers, `--set` overrides, and the line to blame for a mistake."""

import copy
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os.path import isfile
from pathlib import Path
from typing import Any

from bench.config.yaml_loader import Place, parsed, read_text
from bench.errors import SuiteError, nearest, printable

SUITES_FOLDER = Path(__file__).parents[1] / "suites"

MOST_PARTS = 8  # of a dotted key


@dataclass
class SuiteText:
    """A suite file's contents, where each of them stands, and what `--set` has changed.

    Attributes:
        source: the file, as messages name it.
        name: the suite's name, from the file's.
        content: keys and values as written.
        origins: place -> whom messages blame for it: the file and the line, or the `--set` as typed.
        options: the KEY=VALUEs applied so far.
    """

    source: str
    name: str
    content: dict[str, Any]
    origins: dict[Place, str]
    options: list[str] = field(default_factory=list)

    def where(self, place: Place) -> str:
        """Whom to blame for what stands at `place`: the option that set it, or the file and the line."""
        known = (place[:length] for length in range(len(place), 0, -1) if place[:length] in self.origins)
        return next((self.origins[each] for each in known), self.source)

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
        typed = typed or f"--set {printable(' '.join(option.split()), 200)}"
        self.options.append(option)
        key, equals, text = option.partition("=")
        keys = self._keys(key.strip())
        if not equals or not all(keys):
            raise SuiteError(
                f"{typed}: expected KEY=VALUE, such as --set batch_size=64 or --set models.vit.depth=[2,4]"
            )
        if len(keys) > MOST_PARTS:
            raise SuiteError(f"{typed}: a key of {len(keys):,} parts; no key has more than {MOST_PARTS}")
        value, _ = parsed(text, typed, "the value is not YAML; lists look like [2, 4]")
        for place in self._places(keys, typed):
            self._put(place, value, typed)

    def _keys(self, key: str) -> list[str]:
        """The parts of a dotted key; the name of a model may have dots of its own."""
        for name in sorted((entry.get("model", "") for entry in self._entries()), key=lambda name: -len(str(name))):
            if isinstance(name, str) and key.startswith(f"models.{name}."):
                return ["models", name, *key.removeprefix(f"models.{name}.").split(".")]
        return key.split(".")

    def _entries(self) -> list[dict[str, Any]]:
        """Those of `models`, each at its position; an empty one for what is no entry."""
        entries = self.content.get("models")
        return [entry if isinstance(entry, dict) else {} for entry in (entries if isinstance(entries, list) else [])]

    def _places(self, keys: list[str], typed: str) -> list[Place]:
        """The places that a dotted key means.

        Several for `models.vit.…` if several entries are called so. What is typed for all models wins over what an
        entry says of itself, so a shared key stands in those entries, too, that have it.
        """
        entries = self._entries()
        if keys[0] != "models":
            own: list[Place] = [("models", i, *keys) for i, entry in enumerate(entries) if keys[0] in entry]
            return [tuple(keys), *own]
        if len(keys) == 1:
            return [("models",)]
        if len(keys) == 2:
            raise SuiteError(f"{typed}: expected models.{keys[1]}.KEY, such as models.{keys[1]}.depth=[2,4]")
        names = [str(entry.get("model", "")) for entry in entries]
        found = [i for i, name in enumerate(names) if keys[1] in (name, str(i))]
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
        for old in [old for old in self.origins if old[: len(place)] == place]:
            del self.origins[old]
        self.origins[place] = typed


@dataclass(frozen=True)
class Origin:
    """Where settings were written: in the mapping at `place`, and those named in `places` elsewhere."""

    text: SuiteText
    place: Place = ()
    places: Mapping[str, Place] = field(default_factory=dict)

    def where(self, *keys: str | int) -> str:
        """Whom to blame for a setting, or a part of it; without a key for all of them."""
        head = self.places.get(str(keys[0]), (*self.place, keys[0])) if keys else self.place
        return self.text.where((*head, *keys[1:]))


def suite_names() -> list[str]:
    """The suites that come with the program."""
    return sorted(path.stem for path in SUITES_FOLDER.glob("*.yaml"))


def find_suite(name: str) -> Path:
    """The file of a suite given by name or by path.

    Raises: SuiteError: neither.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.parent != Path():
        if not isfile(path):  # unlike Path's, no error for a name that no file can have
            raise SuiteError(f"suite file {name}: there is no such file")
        return path
    if name not in suite_names():
        raise SuiteError(f"unknown suite '{name}'; {nearest(name, suite_names())}")
    return SUITES_FOLDER / f"{name}.yaml"


def read_suite(path: Path, overrides: Sequence[str] = ()) -> SuiteText:
    """A suite file, with `--set` overrides applied.

    Raises: SuiteError: not readable, not YAML (with the line), or not a mapping.
    """
    source = path.name if path.parent == SUITES_FOLDER else str(path)
    content, lines = parsed(read_text(path, source), source)
    if not isinstance(content, dict):
        raise SuiteError(f"{source}: expected a mapping with 'dataset' and 'models', found {shown(content)}")
    origins = {place: f"{source}:{line}" for place, line in lines.items()}
    suite = SuiteText(source, printable(path.stem, 100), content, origins)
    for option in overrides:
        suite.set(option)
    return suite


def shown(value: object) -> str:
    """A value as a message quotes it: on one line, and not a long one."""
    text = json.dumps(value) if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


# Grids: what the entries of a suite sweep, the product of it, and how many trials that makes.
NOT_SWEPT = ("model", "recipe", "match")  # of an entry
MOST_TRIALS = 1_000  # of a plan without a person's yes, since a slip of the keyboard multiplies, too
MOST_TRIALS_EVER = 100_000  # with it: some 10 KB each while they are planned

Swept = Mapping[str, tuple[Any, Place]]  # key -> a value, or a list of values, and where it stands


def swept_by(index: int, entry: Mapping[str, Any], shared: Mapping[str, Any]) -> Swept:
    """What the entry at `index` of `models` sweeps: its own keys, and the suite's where it has none of that name."""
    own = {key: (value, ("models", index, key)) for key, value in entry.items() if key not in NOT_SWEPT}
    return {key: (value, (key,)) for key, value in shared.items()} | own


def combinations(text: SuiteText, swept: Swept) -> Iterator[dict[str, Any]]:
    """Every choice of one value per key; devices vary slowest, numeric modes fastest."""
    keys = sorted(swept, key=lambda key: (key == "dtype") - (key == "device"))
    for key in keys:
        value, place = swept[key]
        if value == []:
            raise SuiteError(f"{text.where(place)}: {key}: the sweep is empty; give at least one value")
    for combination in itertools.product(*(_values(swept[key][0]) for key in keys)):
        yield dict(zip(keys, combination, strict=True))


def check_size(text: SuiteText, entries: Sequence[Swept], rounds: int, yes: bool) -> None:
    """Counted before anything is expanded, so that an absurd product is refused at once.

    Args:
        rounds: seeds of each configuration.
        yes: more than MOST_TRIALS trials are allowed.

    Raises: SuiteError: more trials than that, with what multiplies to them; it blames the longest list.
    """
    counts = [rounds * math.prod(len(_values(value)) for value, _ in swept.values()) for swept in entries]
    count, largest = sum(counts), max(counts)
    if count <= most_trials(yes):
        return
    swept = entries[counts.index(largest)]
    factors = [(len(value), f"{key} {len(value):,}", place) for key, (value, place) in swept.items() if _many(value)]
    factors += [(rounds, f"{rounds:,} seeds", ("seeds",))] if rounds > 1 else []
    unswept = largest == rounds  # by any entry: there are that many entries, or seeds
    factors += [(len(entries), f"{len(entries):,} entries", ("models",))] if unswept else []
    of_them = "" if unswept or count == largest else f"{largest:,} of them are "
    product = " x ".join(words for _, words, _ in factors)
    place = max(factors, key=lambda factor: factor[0])[2]
    raise SuiteError(f"{text.where(place)}: {count:,} trials: {of_them}{product}; {too_many(count)}")


def most_trials(yes: bool) -> int:
    return MOST_TRIALS_EVER if yes else MOST_TRIALS


def too_many(count: int) -> str:
    """What would do."""
    if count > MOST_TRIALS_EVER:
        return f"a plan has at most {MOST_TRIALS_EVER:,}; sweep fewer values"
    return f"more than {MOST_TRIALS:,} need --yes, or sweep fewer values"


def _values(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _many(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 1
