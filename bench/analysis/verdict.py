"""The answer in words: who wins, by how much, and whether that is shown; made from the store by rules alone.

What counts as a win is settled in bench.analysis.findings; here the findings become a headline, two or three
sentences, the details, and what to choose.
"""

import math
from collections.abc import Sequence

import pandas as pd

from bench.analysis.answer import Verdict
from bench.analysis.comparison import Comparison
from bench.analysis.findings import Contest, Finding, Lead, capital, title
from bench.analysis.formatting import listed, percent, points
from bench.analysis.labels import family_title
from bench.analysis.matched_pairs import EQUAL, Pair, find_pairs, pair_sentences, shape, tally
from bench.analysis.modes import mode_sentences
from bench.analysis.scaling import count_processes, data_sentences, scaling_sentence
from bench.analysis.summary import Tables, families_apart, targets_of
from bench.analysis.warnings import doubts, unfinished

# The brief: a device's answer in two or three sentences, with figures, intervals and n.
EQUAL_SIZE = ("params", "flops")  # what a reader asks first: who wins when both are as large, or take as much work


class Brief:
    """Accuracy; speed and time to accuracy; memory and equal size: a sentence each.

    Args:
        asked: accuracy, the time to the headline target if anybody got there, training speed.
        highest: the time to the highest target that somebody reached, if any.
        pairs: the device's.
    """

    def __init__(
        self, contest: Contest, asked: list[Finding], memory: Finding, highest: list[Finding], pairs: list[Pair]
    ) -> None:
        self.contest, self.memory, self.pairs = contest, memory, pairs
        self.accuracy, *self.times, self.speed = asked
        if highest and highest[0].shown and highest[0].matters not in {each.matters for each in self.times}:
            self.times = [*self.times, *highest]
        self.n = self.accuracy.leads[0].found.interval.n if self.accuracy.leads else self.accuracy.rows[0]["n"]

    def sentences(self) -> list[str]:
        if len(self.contest.families) == 1:
            return [self._alone()]
        first = f"on one seed, {self._accuracy()}" if self.contest.one_seed else self._accuracy()
        quick = "; ".join(part for part in (self._speed(), *map(self._time, self.times)) if part)
        lean = "; ".join(part for part in (self._memory(), *self._at_equal()) if part)
        return [f"{capital(text)}." for text in (first, quick, lean) if text]

    def _alone(self) -> str:
        best, quick = self.accuracy.rows[0], self.speed.rows[:1]
        low, high = (100 * best[f"test_accuracy_{end}"] for end in ("low", "high"))
        sure = f"95% interval {low:.2f} to {high:.2f}, " if low == low else ""
        fast = "".join(f"; the fastest, {row['label']}, trains {self.speed.figure(row)}" for row in quick)
        return (
            f"{best['label']} is the best {title(best)} on validation and reaches {percent(best['test_accuracy'])} on "
            f"test ({sure}{_seeds(best['n'])}){fast}. No other family was "
            "measured, so nothing is said of which is better."
        )

    def _accuracy(self) -> str:
        finding, best = self.accuracy, self.accuracy.rows[0]
        said = []
        for index, lead in enumerate(finding.leads):
            unsure = "" if lead.shown or index == 0 else "no difference shown"
            sure = "; ".join(part for part in (lead.found.ends, unsure) if part)
            much = f"{lead.found.text} ({sure})" if sure else lead.found.text
            said.append(f"{much} above the best {title(lead.less)} ({lead.less['label']})")
        head = "" if finding.shown else "no difference in accuracy is shown: "
        what = "ranges are 95% intervals, " if self.n > 1 else "the range is what its test images alone allow, "
        what = what if finding.leads[0].found.ends else ""
        return (
            f"{head}the best {title(best)} ({best['label']}) reaches {percent(best['test_accuracy'])} on test, "
            f"{listed(said)}; {what}{_seeds(self.n)}"
        )

    def _speed(self) -> str:
        said = "; ".join([self._faster(lead) for lead in self.speed.leads])
        if not self.speed.of_best:
            return said
        short = [
            f"{lead.found.text} times{self._range(lead.found)}"
            if lead.shown and mine.shown and title(lead.more) == title(mine.more)
            else self._faster(lead)
            for mine, lead in zip(self.speed.leads, self.speed.of_best, strict=True)
        ]
        return f"each at its fastest, {said}, at their most accurate {listed(short)}"

    def _faster(self, lead: Lead) -> str:
        times = f"{lead.found.text} times{self._range(lead.found)}"
        if lead.shown:
            return f"the {title(lead.more)} trains {times} as fast as the {title(lead.less)}"
        return f"no difference in training speed is shown between {title(lead.more)} and {title(lead.less)}, {times}"

    def _time(self, finding: Finding) -> str:
        goal, first = finding.matters.removeprefix("time to "), finding.rows[0]
        if not finding.leads and not finding.shown:
            return f"the {title(first)} reaches {goal} in {finding.figure(first)}"
        if not finding.leads:
            return f"only the {title(first)} reaches {goal} with every seed (in {finding.figure(first)})"
        said, unsure = [], []
        for row, lead in zip(finding.rows[1:], finding.leads, strict=True):
            times = f"{lead.found.text} times{self._range(lead.found)}"
            if lead.shown:
                said.append(f"the {title(row)} takes {times} as long")
            else:
                both = f"{title(first)} {finding.figure(first)}, {title(row)} {finding.figure(row)}"
                unsure.append(f"no difference in time to {goal} is shown ({both}), {times}")
        said = [f"the {title(first)} reaches {goal} in {finding.figure(first)}", listed(said)] if said else []
        return "; ".join([", ".join(said), *unsure] if said else unsure)

    def _memory(self) -> str:
        said, unsure = [], []
        for lead in self.memory.leads:
            more, less = title(lead.more), title(lead.less)
            if lead.shown:
                own = f"{self.memory.figure(lead.more)}, {lead.found.text} times{self._range(lead.found)} as much"
                said.append(f"the best {more} takes {own}")
            else:
                both = f"{self.memory.figure(lead.more)} and {self.memory.figure(lead.less)}"
                unsure.append(f"no difference in memory is shown between the best {more} and the best {less} ({both})")
        least = self.memory.rows[0] if said else None
        if least:
            unsure.insert(0, f"the best {title(least)} trains in {self.memory.figure(least)} of memory, {listed(said)}")
        return "; ".join(unsure)

    def _at_equal(self) -> list[str]:
        parts = []
        for by in EQUAL_SIZE:
            own = [pair for pair in self.pairs if pair.by == by]
            told = [tally(own, metric) for metric in ("test_accuracy", "images_per_second")] if len(own) > 1 else []
            if own:
                parts.append(f"at equal {EQUAL[by]} {listed([each for each in told if each]) or self._pair(own[0])}")
        return [*parts, not_matched(self.pairs)]

    def _pair(self, pair: Pair) -> str:
        """ "the CNN is more accurate by 1.00 points (0.90 to 1.10) and trains ... (ViT p7 d4 against CNN d2 w24)"."""
        said = []
        for metric, asked_after in (("test_accuracy", "accuracy"), ("images_per_second", "training speed")):
            found, name = pair.ahead(metric), pair.winner(metric)
            if found and not name:
                said.append(f"no difference in {asked_after} is shown")
            elif found and metric == "test_accuracy":
                said.append(f"the {name} is more accurate by {found.text}{self._range(found)}")
            elif found:
                who = "" if f"the {name} is" in "".join(said) else f"the {name} "
                said.append(f"{who}trains {found.text} times{self._range(found)} as fast")
        return f"{listed(said)} ({pair.base['label']} against {shape(pair)})"

    def _range(self, found: Comparison) -> str:
        """ " (1.68 to 2.73)"; with n where it isn't that of the accuracies."""
        few = "" if found.interval.n == self.n else _seeds(found.interval.n)
        return f" ({', '.join(part for part in (found.ends, few) if part)})" if found.ends or few else ""


def not_matched(pairs: list[Pair]) -> str:
    """Which kinds of equal size weren't measured, and what would; "" where all were."""
    missing = [by for by in EQUAL_SIZE if by not in {pair.by for pair in pairs}]
    if not missing:
        return ""
    options = listed([f"`--set match={by}`" for by in missing], "or")
    return f"no pair of equal {listed([EQUAL[by] for by in missing], 'or')} was measured ({options} adds one)"


def _seeds(n: int) -> str:
    return f"n = {n} seed{'s' * (n != 1)}"


def decide(tables: Tables) -> list[Verdict]:
    """One verdict a device, in the order of the run; a run without trials gets one that says so."""
    names = list(dict.fromkeys(tables.summary["device_name"]))
    if not names:
        return [Verdict("", "Nothing to compare yet: no trial has finished.", [], [unfinished(tables)])]
    return [_decide(tables, name, "On this machine" if len(names) == 1 else f"On {name}") for name in names]


def overall_sentence(verdicts: Sequence[Verdict]) -> str:
    """Whether the devices agree on who wins; "" where fewer than two have something to say."""
    known = [verdict for verdict in verdicts if any(verdict.winners.values())]
    if len(verdicts) < 2 or not known:
        return ""
    by_topic = {
        topic: _devices_by_winner(known, topic)
        for topic in dict.fromkeys(key for each in known for key in each.winners)
    }
    split = {topic: found for topic, found in by_topic.items() if len(found) > 1}
    if split:
        said = "; ".join(
            f"in {topic} " + listed([f"the {family} wins on {listed(names)}" for family, names in found.items()])
            for topic, found in split.items()
        )
        return f"The winner depends on the device: {said}."
    wins: dict[str, list[str]] = {}
    for topic, found in by_topic.items():
        for family in found:
            wins.setdefault(family, []).append(topic)
    said = listed([f"the {family} in {listed(topics)}" for family, topics in wins.items()])
    return f"The devices agree wherever they show a difference: {said}."


def _devices_by_winner(verdicts: Sequence[Verdict], topic: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for verdict in verdicts:
        if verdict.winners.get(topic):
            found.setdefault(verdict.winners[topic], []).append(verdict.device_name)
    return found


def _decide(tables: Tables, device_name: str, place: str) -> Verdict:
    contest, warnings = Contest(tables, device_name), doubts(tables, device_name)
    if not contest.rows:
        return Verdict(device_name, "Nothing to compare: no trial ended well.", [], warnings)
    accuracy, speed, memory = contest.accuracy(), contest.speed(), contest.memory()
    times = {target: contest.time_to(target) for target in targets_of(tables.run)}
    asked = [accuracy, *_headline_time(tables, times), speed]
    pairs = [pair for pair in find_pairs(tables) if pair.made["device_name"] == device_name]
    details = [accuracy.said, speed.said, contest.inference(), *(each.said for each in times.values()), memory.said]
    details += [*data_sentences(tables, device_name), *pair_sentences(pairs)]
    if len(contest.families) > 1 and not pairs:
        details.append(f"Equal size: {not_matched(pairs)}.")
    details += [*mode_sentences(tables, device_name), _recommendation(contest, asked, place)]
    brief = Brief(contest, asked, memory, [each for each in times.values() if each.rows][-1:], pairs)
    return Verdict(
        device_name,
        _headline(contest, [*asked, memory]),
        [text for text in details if text],
        warnings,
        [*brief.sentences(), *([scaled] if (scaled := scaling_sentence(tables, device_name)) else [])],
        {
            each.matters: title(each.winner) if each.winner else ""
            for each in [*asked, memory]
            if each.leads or each.shown
        },
    )


def _headline_time(tables: Tables, times: dict[float, Finding]) -> list[Finding]:
    """The finding at the run's headline target; if nobody got there, at the highest one that somebody did."""
    wanted = times.get(tables.run.get("target_accuracy") or math.nan)
    return [wanted] if wanted and wanted.rows else [finding for finding in times.values() if finding.rows][-1:]


def _headline(contest: Contest, asked: list[Finding]) -> str:
    if len(contest.families) == 1:
        best = contest.champions[0]
        reached = percent(best["test_accuracy"])
        return f"Only one family was measured: its best, {best['label']}, reaches {reached} on test."
    wins: dict[str, list[str]] = {}
    for finding in asked:
        if finding.winner:
            wins.setdefault(title(finding.winner), []).append(finding.does)
    told = "; ".join(f"the {family} {listed(does)}" for family, does in wins.items())
    if not told:
        return f"No difference is shown between {listed([family_title(name) for name in contest.families])}."
    told = told if asked[0].winner else f"no difference in accuracy is shown; {told}"
    apart = families_apart(pd.DataFrame(contest.rows), contest.rows[0]["device_name"])
    if apart:  # a speed that more processes bought isn't the family's
        told += f" ({listed([f'{family_title(name)}: {count_processes(size)}' for name, size in apart.items()])})"
    return f"On one seed, {told}." if contest.one_seed else f"{capital(told)}."


def _recommendation(contest: Contest, asked: list[Finding], place: str) -> str:
    """What to choose: the family that leads on accuracy, else on time, else on speed; then when not to."""
    alone = len(contest.families) == 1
    wins = [(finding, finding.rows[0]) for finding in asked if finding.rows and (finding.shown or alone)]
    if not wins:
        asked_after = listed([finding.matters for finding in asked if finding.rows], "or")
        return f"{place} either will do: no difference is shown in {asked_after}."
    lead = wins[0][1]["model"]
    best = next(row for row in contest.champions if row["model"] == lead)
    reasons: dict[str, list[str]] = {}
    for finding, row in wins:
        if row["model"] == lead:
            reasons.setdefault(row["label"], []).append(f"{finding.matters} ({finding.figure(row)})")
    said = "; ".join(f"{label} for {listed(why)}" for label, why in reasons.items())
    since = "" if asked[0].shown else ", since no difference in accuracy is shown"
    said = f"{place} choose {said}." if alone else f"{place} choose the {family_title(lead)}{since}: {said}."
    for finding, row in wins:
        if row["model"] != lead:
            gap = best["test_accuracy"] - row["test_accuracy"]
            cost = f", {points(gap)} less accurate on test" if gap > 0 else ""
            said += f" If {finding.matters} matters most, choose {row['label']} ({finding.figure(row)}{cost})."
    return said + (" One seed is little to go by: run more before relying on it." if contest.one_seed else "")
