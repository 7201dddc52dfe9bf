"""The answer in words: who wins, by how much, and whether that is shown; made from the store by rules alone.

What counts as a win is settled in bench.analysis.findings; here the findings become a headline, two or three sentences, the
details, and what to choose.
"""

import math
from collections.abc import Sequence

import pandas as pd

from bench.analysis.answer import Verdict
from bench.analysis.brief import Brief, not_matched
from bench.analysis.contenders import families_apart
from bench.analysis.efficiency import data_sentences
from bench.analysis.findings import Contest, Finding, capital, title
from bench.analysis.formatting import listed, percent, points
from bench.analysis.labels import family_title
from bench.analysis.matched_pairs import find_pairs, pair_sentences
from bench.analysis.modes import mode_sentences
from bench.analysis.scaling import count_processes, scaling_sentence
from bench.analysis.summary import Tables, targets_of
from bench.analysis.warnings import doubts, unfinished


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
