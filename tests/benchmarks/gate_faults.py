"""Real faults, each in a throw-away commit: does the gate catch it, and which part of it? And do harmless commits pass?

    nice python tests/benchmarks/gate_faults.py --only-invariants
    python tests/benchmarks/gate_faults.py --write results/reference/gate/faults.md

The commits are made in a temporary clone of this repository, uncommitted work included. The first form takes seconds a
commit. The second times, too, and wants a quiet machine for as long as a gate takes, times the commits. The exit status
is 1 if a fault was not caught, or not by the part that it is there for, or if a harmless commit did not pass.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.gate.worktrees import WORKING_TREE, checked_out
from bench.system.environment import cpu_name, usable_cores
from bench.system.files import write_atomically

ROOT = Path(__file__).parents[2]
GATE_SECONDS = 1800  # a gate that takes longer hangs
VIT, OPTIM, TRAIN = "models/vit.py", "bench/training/optim.py", "bench/training/loop.py"


@dataclass(frozen=True)
class Commit:
    """A change to make: (file, text that stands in it exactly once, what to put there); no text: add to the end.

    Attributes:
        named: the count that has to show more of it, and a word that its line has to hold; None for harmless ones.
    """

    name: str
    edits: tuple[tuple[str, str, str], ...]
    named: tuple[str, str] | None = None


QKV = "self.qkv(x).view(B, N, 3, h, d)"
LOSS = "            return self.loss(self.model, images, labels, self.label_smoothing)\n"
EXPLICIT = """\
                weights = self._scores(k, q).softmax(dim=1).transpose(1, 2)
            else:
                weights = self._scores(q, k).softmax(dim=2)
            x = torch.bmm(weights, v).view(B, h, M, d)
"""
STEP = """\
        loss = self.forward(images, labels)
        self.backward(loss)
        self.update()
        return loss.detach()
"""
FUSED = """\
            self._update(
                params,
                gradients,
                means,
                squares,
                [],
                [step] * len(params),
                lr=group["lr"],
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                weight_decay=group["weight_decay"],
                eps=EPS.get(params[0].dtype, 1e-8),
                amsgrad=False,
                maximize=False,
                grad_scale=getattr(self, "grad_scale", None),
                found_inf=found_inf,
            )
"""
PLAIN = """\
            beta1, beta2 = group["betas"]
            for p, gradient, mean, square in zip(params, gradients, means, squares, strict=True):
                p.mul_(1 - group["lr"] * group["weight_decay"])
                mean.lerp_(gradient, 1 - beta1)
                square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
                root = (square / (1 - beta2**step)).sqrt_().add_(EPS.get(p.dtype, 1e-8))
                p.addcdiv_(mean / (1 - beta1**step), root, value=-group["lr"])
"""
COPIED = '            images = images.to("cpu", copy=True).to(images.device)\n'

FAULTS = (
    Commit("an extra clone in attention", ((VIT, QKV, QKV.replace(".view", ".clone().view")),), ("operators", "clone")),
    Commit(
        "a float64 cast in the MLP",
        ((VIT, "F.gelu(self.fc1(x))", "F.gelu(self.fc1(x).double()).float()"),),
        ("operators", "float64"),
    ),
    Commit("a doubled forward pass", ((TRAIN, LOSS, LOSS.replace("return ", "") + LOSS),), ("FLOPs", "")),
    Commit(
        "`.item()` in each step",
        ((TRAIN, STEP, STEP.replace("        return", "        loss.item()\n        return")),),
        ("operators", "_local_scalar_dense"),
    ),
    Commit(
        "10% more width in the MLP",
        ((VIT, "int(self.embed_dim * self.mlp_ratio)", "int(self.embed_dim * self.mlp_ratio * 1.1)"),),
        ("parameters", ""),
    ),
    Commit("a removed fused optimiser", ((OPTIM, FUSED, PLAIN),), ("operators", "aten.div")),
    Commit("an added synchronising copy", ((TRAIN, LOSS, COPIED + LOSS),), ("operators", "copy")),
)
HARMLESS = (
    Commit(
        "comments",
        (
            (VIT, "        B, N, D = x.shape\n", "        # Batch, tokens, width.\n        B, N, D = x.shape\n"),
            (TRAIN, "        self.backward(loss)\n", "        self.backward(loss)  # gradients\n"),
        ),
    ),
    Commit(
        "renamed local variables",
        ((VIT, EXPLICIT, EXPLICIT.replace("weights", "shares")), (TRAIN, STEP, STEP.replace("loss", "value"))),
    ),
    Commit(
        "documentation",
        (
            (VIT, "Multi-head self-attention (appendix A)", "Self-attention with several heads (appendix A)"),
            ("README.md", "", "\nWords that change no code.\n"),
        ),
    ),
)


def make(clone: Path, base: str, commit: Commit) -> str:
    """The commit's name in `clone`, made upon `base`."""
    git(clone, "checkout", "--quiet", "--detach", base)
    for file, old, new in commit.edits:
        (clone / file).write_text(edited(clone, commit, file, old, new), encoding="utf-8")
    git(clone, "commit", "--quiet", "--all", "--message", commit.name)
    made = git(clone, "rev-parse", "HEAD")
    git(clone, "checkout", "--quiet", "--detach", base)
    return made


def edited(folder: Path, commit: Commit, file: str, old: str, new: str) -> str:
    """The file's text with the change; the script ends, loudly, where it can't be made."""
    text = (folder / file).read_text(encoding="utf-8")
    if not old:
        return text + new
    if text.count(old) != 1:
        sys.exit(f"'{commit.name}': stands {text.count(old)} times in {file}, not once; put the script right:\n{old}")
    return text.replace(old, new)


def git(folder: Path, *arguments: str) -> str:
    settings = ("user.name=gate", "user.email=gate@localhost", "core.hooksPath=/dev/null", "commit.gpgSign=false")
    words = ["git", "-C", str(folder), *(word for setting in settings for word in ("-c", setting)), *arguments]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


@dataclass(frozen=True)
class Answer:
    """What a gate said of a commit."""

    status: int
    seconds: float
    content: dict[str, Any]

    def shows(self, named: tuple[str, str]) -> bool:
        """Whether the work that was expected is named."""
        what, word = named
        return any(
            change["what"] == what and change["direction"] == "more" and word in change["detail"]
            for change in self.content["work"]
        )

    def parts(self) -> str:
        """Which parts of the gate object."""
        counted = [change["what"] for change in self.content["work"] if change["direction"] == "more"]
        timed = [cell["cell"] for cell in self.content["cells"] if cell["verdict"] == "regression"]
        found = [f"count of {', '.join(dict.fromkeys(counted))}"] if counted else []
        found += [f"time of {', '.join(timed)}"] if timed else []
        return "; ".join(found) or "nothing"


def ask(clone: Path, base: str, head: str, options: Sequence[str]) -> Answer:
    """One gate, from the clone's own program."""
    answer = clone.parent / "answer.json"
    answer.unlink(missing_ok=True)
    words = ["gate", "--base", base, "--head", head, "--json", str(answer)]
    words += ["--journal", str(clone.parent / f"{time.time_ns()}.jsonl"), *options]
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "run_bench.py", *words],
        cwd=clone,
        capture_output=True,
        text=True,
        timeout=GATE_SECONDS,
        check=False,
    )
    seconds = time.monotonic() - start
    if not answer.exists():
        sys.exit(f"the gate gave no answer, exit status {done.returncode}: {done.stderr.strip()[-500:]}")
    return Answer(done.returncode, seconds, json.loads(answer.read_text(encoding="utf-8")))


def work_named(changes: Sequence[dict[str, Any]]) -> str:
    """Which counts differ where, and the first of them in words."""
    cells: dict[str, list[str]] = {}
    for change in changes:
        cells.setdefault(change["cell"], []).append(change["what"])
    alike: dict[str, list[str]] = {}
    for cell, found in cells.items():
        alike.setdefault(", ".join(found), []).append(cell)
    lines = [f"{found} in {', '.join(names)}" for found, names in alike.items()]
    details = [f"{c['what']}: {c['detail']}" for c in changes if c["detail"] and c["what"] != "loss"]
    return "<br>".join([*lines, *details[:1]]) or "none"


def slowest(answer: Answer) -> str:
    """The cell that became slowest, with its interval and n."""
    cells = [cell for cell in answer.content["cells"] if cell["ratio"] is not None]
    if not cells:
        return "not measured"
    cell = max(cells, key=lambda cell: cell["ratio"])
    low, high = (f"{100 * (cell[key] - 1):+.1f}%" if cell[key] else "?" for key in ("ratio_low", "ratio_high"))
    return f"{cell['cell']}: {100 * (cell['ratio'] - 1):+.1f}% ({low} to {high}), n = {cell['launches']}"


def table(commits: Iterable[tuple[Commit, list[Answer]]], timed: bool) -> list[str]:
    gates = ["counts only: exit status, s", *(["whole gate: exit status, verdict, s"] if timed else [])]
    columns = ["commit", "caught by", *gates, *(["slowest cell (95% interval)"] if timed else []), "work that differs"]
    lines = [f"| {' | '.join(columns)} |", f"| {' | '.join(':--' for _ in columns)} |"]
    for commit, answers in commits:
        counted, last = answers[0], answers[-1]
        cells = [commit.name, last.parts(), f"{counted.status}, {counted.seconds:.0f}"]
        if timed:
            cells += [f"{last.status}, {last.content['verdict']}, {last.seconds:.0f}", slowest(last)]
        lines.append(f"| {' | '.join([*cells, work_named(counted.content['work'])])} |")
    return lines


def as_it_should(commit: Commit, answers: Sequence[Answer]) -> bool:
    """A fault is refused and named by both gates; a harmless commit passes both."""
    if commit.named is None:
        return all(answer.status == 0 and answer.parts() == "nothing" for answer in answers)
    return all(answer.status == 1 and answer.shows(commit.named) for answer in answers)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only-invariants", action="store_true", help="count, and time nothing")
    parser.add_argument("--only", metavar="TEXT", action="append", default=[], help="commits whose name holds it")
    parser.add_argument("--cell", metavar="TEXT", action="append", default=[], help="as the gate's")
    parser.add_argument("--budget", metavar="TIME", help="as the gate's")
    parser.add_argument("--write", type=Path, help="the table, as Markdown")
    args = parser.parse_args()
    chosen = [c for c in (*FAULTS, *HARMLESS) if not args.only or any(text in c.name for text in args.only)]
    if not chosen:
        parser.error(f"no commit is called so; there are: {', '.join(c.name for c in (*FAULTS, *HARMLESS))}")
    cells = [word for text in args.cell for word in ("--cell", text)]
    timed = [*cells, *(["--budget", args.budget] if args.budget else [])]
    runs = [[*cells, "--only-invariants"], *([] if args.only_invariants else [timed])]
    told: list[tuple[Commit, list[Answer]]] = []
    with tempfile.TemporaryDirectory() as name:
        clone = Path(name) / "clone"
        with checked_out(ROOT, WORKING_TREE, "source") as source:
            shutil.copytree(source.folder, clone, symlinks=True)
        for words in (["init", "--quiet"], ["add", "--all", "--force"], ["commit", "--quiet", "--message", "base"]):
            git(clone, *words)
        base = git(clone, "rev-parse", "HEAD")
        made = [(commit, make(clone, base, commit)) for commit in chosen]  # all, before the first gate takes its time
        for commit, head in made:
            answers = [ask(clone, base, head, options) for options in runs]
            told.append((commit, answers))
            right = "as it should" if as_it_should(commit, answers) else "NOT AS IT SHOULD"
            print(f"{commit.name}: {right}; caught by {answers[-1].parts()}", flush=True)
    as_expected = sum(as_it_should(commit, answers) for commit, answers in told)
    summary = f"{as_expected} of {len(told)} commits were judged as they should be."
    command = " ".join(["python tests/benchmarks/gate_faults.py", *(w for w in sys.argv[1:] if not w.endswith(".md"))])
    where = f"{date.today()}, {cpu_name()}, {usable_cores()} cores, torch {version('torch')}"
    head_line = f"`{command.removesuffix(' --write')}`, {where}; one gate of each kind a commit, base {base[:12]}."
    text = "\n".join([head_line, "", *table(told, not args.only_invariants), "", summary])
    print(f"\n{text}")
    if args.write:
        write_atomically(args.write, text + "\n")
    return 0 if as_expected == len(told) else 1


if __name__ == "__main__":
    sys.exit(main())
