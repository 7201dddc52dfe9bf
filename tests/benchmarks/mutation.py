"""How many small faults the tests find: each mutant of the core against the fast tests that run its line.

    pip install -e '.[test,mutation]'
    python tests/benchmarks/mutation.py --mutants 400 --into results/reference/mutation

Places and changes come from cosmic-ray's operators and one of our own, which swaps two arguments. A place is drawn
first, then one of the changes that are possible there, so that a `+` that may become ten things counts once. Tests run
in forks of a process that has the libraries loaded, each in a copy of the repository, since some start programs.
`--again FILE` tries the survivors of an earlier run anew, with the tests as they are now. `--planted` tries the faults
of planted_faults.yaml instead, which people thought of: wrong columns, limits that are off by one, skewed draws.
"""

import argparse
import ast
import csv
import difflib
import importlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, get_type_hints

os.environ.setdefault("OMP_NUM_THREADS", "1")  # as tests/conftest.py has it; a fork would come too late

import yaml

try:
    import cosmic_ray.plugins
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.operators.operator import Operator
except ModuleNotFoundError as error:
    sys.exit(f"{error}: pip install -e '.[test,mutation]'")

PLANTED = "planted"  # a Mutant that comes from the file of planted faults
ROOT = Path(__file__).resolve().parents[2]
MODULES = (
    *("bench/measure/*.py", "bench/training/*.py", "bench/result.py", "bench/analysis/*.py", "bench/store/*.py"),
    *("bench/gate/decision.py", "bench/gate/launch_stats.py", "bench/data/augment.py", "models/*.py"),
)
LIBRARIES = (
    *("numpy", "pandas", "scipy.stats", "sklearn.metrics", "torch", "torchvision", "matplotlib.pyplot", "seaborn"),
    *("pydantic", "rich.console", "jinja2", "yaml", "safetensors.torch", "click"),
)
PATIENCE = 0.06  # of the time of all tests, for those from other packages than the mutant's own, the shortest first
SLOWEST = 3.0  # times what the tests took before: then it hangs, which is being found, too
STARTING = 60.0  # seconds on top of that
MOVED = 12  # places
WHOLE_FILES = 600.0  # seconds, of tests whose time isn't known


class SwapArguments(Operator):
    """f(a, b) becomes f(b, a), and f(x=a, y=b) becomes f(x=b, y=a): the wrong number in a column."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
        for first, _ in _pairs(node):
            yield first.start_pos, first.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        first, second = _pairs(node)[index]
        one, other = first.parent.children.index(first), second.parent.children.index(second)
        first.parent.children[one], second.parent.children[other] = second, first
        return node

    @classmethod
    def examples(cls) -> Iterable[Any]:
        return ()


def _pairs(node: Any) -> list[tuple[Any, Any]]:
    """Neighbouring arguments that may change places: both plain, or the values of both named ones."""
    if node.type != "arglist":
        return []
    arguments = [child for child in node.children if child.type != "operator"]
    values = [_value(argument) for argument in arguments]
    return [
        (a, b)
        for (one, a), (other, b) in pairwise(zip(arguments, values, strict=True))
        if a is not None and b is not None and (one is a) == (other is b)
        if a.get_code().strip() != b.get_code().strip()
    ]


def _value(argument: Any) -> Any:
    if argument.type != "argument":
        return argument
    named = len(argument.children) == 3 and getattr(argument.children[1], "value", "") == "="
    return argument.children[2] if named else None  # not *args, not a comprehension


@dataclass
class Mutant:
    """One change of one place, and what became of it; a row of mutants.csv.

    Attributes:
        occurrence: which of the operator's places in the module, counted from 0.
        outcome: killed, survived, or timeout, which counts as killed.
        tests: that run the line and were tried.
        killer: the first test that failed.
        seconds: until it failed, or of all.
    """

    module: str
    line: int
    operator: str
    occurrence: int
    before: str
    after: str
    outcome: str = ""
    tests: int = 0
    killer: str = ""
    seconds: float = 0.0

    def planted_in(self, source: str) -> str:
        """The module's text with this change. Raises: ValueError: the text has no such place."""
        if self.operator == PLANTED:
            changed = source.replace(self.before, self.after, 1)
            if changed != source:
                return changed
        for distance in sorted(range(-MOVED, MOVED + 1), key=abs) if self.operator != PLANTED else ():
            if self.occurrence + distance >= 0:  # other places of its kind may have come or gone before it
                changed = mutate_code(source, operators()[self.operator], self.occurrence + distance) or source
                if _difference(source, changed) == (self.before, self.after):
                    return changed
        raise ValueError(f"{self.module} no longer holds: {self.before}")


def operators() -> dict[str, Operator]:
    """All of cosmic-ray's that need no settings, and ours."""
    named = {
        name.partition("/")[2]: cosmic_ray.plugins.get_operator(name) for name in cosmic_ray.plugins.operator_names()
    }
    return {name: kind() for name, kind in sorted(named.items()) if not kind.arguments()} | {
        "SwapArguments": SwapArguments()
    }


def places(path: Path, known: dict[str, Operator]) -> dict[tuple[int, int, str], list[tuple[str, int]]]:
    """Where a module may be changed: (line, column, kind of operator) to the possible (operator, occurrence).

    Left out are type annotations, whose change no test could or should notice, and what only a type checker reads.
    """
    source = path.read_text(encoding="utf-8")
    hidden = _annotations(ast.parse(source))
    found: dict[tuple[int, int, str], list[tuple[str, int]]] = defaultdict(list)
    nodes = list(ast_nodes(get_ast(source)))
    for name, operator in known.items():
        positions = (start for node in nodes for start, _ in operator.mutation_positions(node))
        for occurrence, start in enumerate(positions):
            if not any(low <= start < high for low, high in hidden):
                found[(*start, name.partition("_")[0])].append((name, occurrence))
    return found


def _annotations(tree: ast.Module) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    hidden: list[ast.AST | None] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.arg | ast.AnnAssign):
            hidden.append(node.annotation)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            hidden.append(node.returns)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("cast", "TypeVar", "NewType"):
            hidden.append(node.args[0])
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.BinOp | ast.Subscript):
            name = getattr(node.targets[0], "id", "a")
            hidden.append(node.value if name[0].isupper() and not name.isupper() else None)  # the name of a type
    return [
        ((node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0))
        for node in hidden
        if isinstance(node, ast.expr)
    ]


def draw(count: int, seed: int) -> list[Mutant]:
    """`count` mutants at different places, the same for the same seed and code."""
    dice, known = random.Random(seed), operators()
    every = {
        (str(path.relative_to(ROOT)), *place): changes
        for pattern in MODULES
        for path in sorted(ROOT.glob(pattern))
        for place, changes in places(path, known).items()
    }
    mutants: list[Mutant] = []
    for key in dice.sample(sorted(every), len(every)):
        module, line = key[:2]
        name, occurrence = dice.choice(every[key])
        source = (ROOT / module).read_text(encoding="utf-8")
        changed = mutate_code(source, known[name], occurrence)
        before, after = _difference(source, changed or source)
        if changed and _means_else(source, changed):
            mutants.append(Mutant(module, line, name, occurrence, before, after))
        if len(mutants) == count:
            break
    print(f"{len(mutants)} mutants drawn from {len(every):,} places", flush=True)
    return mutants


def _means_else(source: str, changed: str) -> bool:
    try:
        return ast.dump(ast.parse(source)) != ast.dump(ast.parse(changed))
    except SyntaxError:  # no fault that anybody could commit
        return False


def _difference(source: str, changed: str) -> tuple[str, str]:
    lines = list(difflib.unified_diff(source.splitlines(), changed.splitlines(), n=0, lineterm=""))[3:]
    return tuple(" ".join(line[1:].strip() for line in lines if line[0] == sign) for sign in "-+")  # type: ignore[return-value]


@dataclass(frozen=True)
class Group:
    """Tests that run in one process.

    Attributes:
        paths: files and folders to collect.
        tests: which of theirs run, in this order; of others only those that are not in `known`, since they are new.
        slow: those marked slow instead, and no others.
    """

    paths: tuple[str, ...]
    tests: tuple[str, ...] = ()
    known: frozenset[str] = frozenset()
    slow: bool = False


@dataclass
class Tests:
    """Which tests run a line, and how long each takes."""

    seconds: dict[str, float]
    by_line: dict[tuple[str, int], list[str]]

    @classmethod
    def watched(cls, copy: Path, work: Path) -> "Tests":
        """Run the fast tests once under coverage.py in `copy`."""
        data, times = work / "coverage", work / "times.xml"
        if not data.exists():
            (work / "coveragerc").write_text(f"[run]\nsource = bench\n  models\ndata_file = {data}\n")
            counted = [f"--cov-config={work / 'coveragerc'}", "--cov", "--cov-context=test", "--cov-report="]
            timed = [f"--junitxml={times}", "-o", "junit_family=xunit1"]
            # A test that needs more time than it has while its lines are counted is no failure.
            command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--timeout=600", *counted, *timed]
            subprocess.run(command, cwd=copy, env=_environment(copy), check=False)
        seconds = {}
        for case in ElementTree.parse(times).iter("testcase"):  # noqa: S314 - our own file
            inner = case.get("classname", "").split(".")
            classes = [name for name in inner if name[:1].isupper()]
            seconds["::".join([case.get("file", ""), *classes, case.get("name", "")])] = float(case.get("time", 0))
        by_line: dict[tuple[str, int], list[str]] = defaultdict(list)
        database = sqlite3.connect(data)
        from coverage.numbits import numbits_to_nums

        rows = database.execute(
            "select file.path, context.context, line_bits.numbits from line_bits "
            "join file on file.id = line_bits.file_id join context on context.id = line_bits.context_id"
        )
        for path, context, bits in rows:
            test = context.rpartition("|")[0]
            for line in numbits_to_nums(bits):
                by_line[(str(Path(path).relative_to(copy)), line)].append(test)
        return cls(seconds, {key: sorted({test for test in names if test}) for key, names in by_line.items()})

    def of(self, mutant: Mutant) -> list[Group]:
        """Those that run the mutant's line: of its own package first, the shortest of the others, the package's slow.

        What runs while a module is loaded is run by whatever imports it: all of the package's tests then.
        """
        if mutant.operator == PLANTED:
            return [Group(tuple(planted()[mutant.occurrence]["tests"]))]
        inside = Path(mutant.module).parts[1:-1] if mutant.module.startswith("bench/") else ("models",)
        package = str(Path("tests", *inside))
        own = package if inside else "tests/test_result.py"
        names = set(self.by_line.get((mutant.module, mutant.line), []))
        if not names:
            names = {test for (path, _), tests in self.by_line.items() if path == mutant.module for test in tests}
            names |= {test for test in self.seconds if test.startswith(f"{package}/")}
        # All of a file: what a fixture did for several tests is on the account of the first.
        close = {test.partition("::")[0] for test in names if test.startswith(own)}
        near = sorted((test for test in self.seconds if test.partition("::")[0] in close), key=self._cost)
        known = frozenset(self.seconds)
        far, spent, most = [], 0.0, PATIENCE * sum(self.seconds.values())
        for test in sorted(names - set(near), key=self._cost):
            spent += self._cost(test)
            if spent < most:
                far.append(test)
        files = tuple(sorted({test.partition("::")[0] for test in far}))
        groups = [Group((own,), tuple(near), known), Group(files, tuple(far), known), Group((own,), slow=True)]
        return [group for group in groups if group.paths and (ROOT / group.paths[0]).exists()]

    def _cost(self, test: str) -> float:
        return self.seconds.get(test, 1.0)

    def patience(self, group: Group) -> float:
        """Seconds after which tests hang."""
        return STARTING + SLOWEST * sum(map(self._cost, group.tests)) if group.tests else WHOLE_FILES


def planted() -> list[dict[str, Any]]:
    """The faults that people thought of: kind, name, module, before, after, and the tests that should notice."""
    return yaml.safe_load((Path(__file__).parent / "planted_faults.yaml").read_text(encoding="utf-8"))


def _environment(copy: Path) -> dict[str, str]:
    return os.environ | {
        "PYTHONPATH": str(copy),
        "PYTHONDONTWRITEBYTECODE": "1",
        "VIT_CNN_BENCH_CACHE": str(copy / "cache"),
    }


class _Chosen:
    """A plugin of pytest: of what was collected, the tests of a group, in its order; what fails is noted."""

    def __init__(self, group: Group, notes: Path) -> None:
        self.group, self.notes = group, notes
        self.place = {test: index for index, test in enumerate(group.tests)}

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items[:] = sorted(filter(self._is_chosen, items), key=lambda item: self.place.get(item.nodeid, -1))

    def _is_chosen(self, item: Any) -> bool:
        if (item.get_closest_marker("slow") is not None) != self.group.slow:
            return False
        return not self.group.tests or item.nodeid in self.place or item.nodeid not in self.group.known

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            with self.notes.open("a") as file:
                file.write(report.nodeid + "\n")


def start(copy: Path, group: Group, notes: Path) -> int:
    """The process that runs a group in `copy`; its status is pytest's."""
    notes.write_text("")
    if child := os.fork():
        return child
    try:
        os.setsid()
        os.environ.update(_environment(copy))
        os.chdir(copy)
        output = os.open(notes.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.path[:] = [str(copy), *(place for place in sys.path if str(ROOT) not in place)]
        sys.argv = ["pytest"]
        import pytest

        options = ["-n", "0", "-x", "-p", "no:cacheprovider", "--no-header", "--tb=short", "-m", "slow or not slow"]
        status = pytest.main([*options, *group.paths], plugins=[_Chosen(group, notes)])
        os._exit(int(status))
    except BaseException:  # noqa: BLE001 - a fork must never go on as its parent
        import traceback

        traceback.print_exc()
    finally:
        os._exit(70)


@dataclass
class Bench:
    """A copy of the repository, in which one mutant at a time is tried."""

    copy: Path
    notes: Path
    mutant: Mutant | None = None
    groups: list[Group] = field(default_factory=list)
    group: Group | None = None
    child: int = 0
    started: float = 0.0
    deadline: float = 0.0

    def begin(self, mutant: Mutant, tests: Tests) -> None:
        self.mutant, self.groups = mutant, tests.of(mutant)
        source = (ROOT / mutant.module).read_text(encoding="utf-8")
        try:
            (self.copy / mutant.module).write_text(mutant.planted_in(source), encoding="utf-8")
        except ValueError as error:
            print(error, flush=True)
            mutant.outcome = "gone"
            return
        mutant.tests, self.started = sum(len(group.tests) for group in self.groups), time.monotonic()
        self._next(tests)

    def _next(self, tests: Tests) -> None:
        if not self.groups:
            self.end("survived")
            return
        self.group = self.groups.pop(0)
        self.child = start(self.copy, self.group, self.notes)
        self.deadline = time.monotonic() + tests.patience(self.group)

    def look(self, tests: Tests) -> None:
        """See whether the tests have ended; go on with the next group, or end."""
        pid, status = os.waitpid(self.child, os.WNOHANG)
        if pid == 0:
            if time.monotonic() > self.deadline:
                os.killpg(self.child, signal.SIGKILL)
                os.waitpid(self.child, 0)
                self.end("timeout")
            return
        code = os.waitstatus_to_exitcode(status)
        if code in (0, 5):  # all passed, or none was found
            self._next(tests)
        else:
            self.end("killed by a slow test" if self.group and self.group.slow else "killed")

    def end(self, outcome: str) -> None:
        assert self.mutant is not None
        killers = self.notes.read_text().splitlines() if outcome.startswith("killed") else []
        self.mutant.outcome, self.mutant.seconds = outcome, round(time.monotonic() - self.started, 1)
        self.mutant.killer = killers[0] if killers else "at import" if outcome.startswith("killed") else ""
        shutil.copyfile(ROOT / self.mutant.module, self.copy / self.mutant.module)
        self.child = 0


def copied(place: Path) -> Path:
    """The repository's files as they are now, committed or not."""
    command = ["git", "ls-files", "-co", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for name in names.stdout.splitlines():
        if (ROOT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, place / name)
    subprocess.run(["git", "init", "-q"], cwd=place, check=True)
    subprocess.run(["git", "add", "-A"], cwd=place, check=True)
    identity = ["-c", "user.name=mutation", "-c", "user.email=mutation@example.org"]
    subprocess.run(["git", *identity, "commit", "-qm", "copy"], cwd=place, check=True)
    return place


def run(mutants: list[Mutant], work: Path, processes: int, out: Path) -> None:
    """Try each mutant; the table is written after each, so that nothing is lost."""
    benches = []
    for index in range(processes):
        copy = work / f"copy{index}"
        benches.append(Bench(copy if copy.exists() else copied(copy), work / f"notes{index}"))
    unwatched = all(mutant.operator == PLANTED for mutant in mutants)
    tests = Tests({}, {}) if unwatched else Tests.watched(benches[0].copy, work)
    for name in LIBRARIES:
        importlib.import_module(name)
    waiting, done = list(mutants), []
    while waiting or any(bench.child for bench in benches):
        for bench in benches:
            if bench.child:
                bench.look(tests)
            if not bench.child and bench.mutant is not None:
                done.append(bench.mutant)
                print(f"{len(done)}/{len(mutants)} {bench.mutant}", flush=True)
                bench.mutant = None
                write(mutants, out)
            if not bench.child and waiting:
                bench.begin(waiting.pop(0), tests)
        time.sleep(0.05)


def write(mutants: list[Mutant], out: Path) -> None:
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Mutant)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(mutant) for mutant in mutants)


def read(path: Path) -> list[Mutant]:
    kinds = get_type_hints(Mutant)
    with path.open(newline="", encoding="utf-8") as file:
        return [Mutant(**{name: kinds[name](text) for name, text in row.items()}) for row in csv.DictReader(file)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--again", type=Path, help="a mutants.csv, whose survivors are tried anew")
    parser.add_argument("--planted", action="store_true", help="the faults of planted_faults.yaml instead")
    parser.add_argument("--into", type=Path, required=True, help="a folder")
    parser.add_argument("--work", type=Path, help="keep copies and coverage here, for the next run with this code")
    options = parser.parse_args()
    options.into.mkdir(parents=True, exist_ok=True)
    if options.again:
        mutants = read(options.again)
    elif options.planted:
        keys = ("module", "before", "after")
        mutants = [Mutant(line=0, operator=PLANTED, occurrence=i, **{key: fault[key] for key in keys})
                   for i, fault in enumerate(planted())]  # fmt: skip
    else:
        mutants = draw(options.mutants, options.seed)
    trying = [mutant for mutant in mutants if mutant.outcome in ("", "survived")]
    with tempfile.TemporaryDirectory(prefix="mutation-") as name:
        work = options.work or Path(name)
        work.mkdir(parents=True, exist_ok=True)
        run(trying, work.resolve(), options.processes, options.into / "tried.csv")
    (options.into / "tried.csv").unlink(missing_ok=True)
    name = "planted" if all(mutant.operator == PLANTED for mutant in mutants) else "mutants"
    write(mutants, options.into / f"{name}.csv")
    print(Counter(mutant.outcome for mutant in mutants))


if __name__ == "__main__":
    main()
