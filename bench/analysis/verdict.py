"""From rows to an answer: who wins, by how much, and whether that is shown, in words made by rules alone.

What counts as a win is settled in bench.analysis.findings. Here a device's list of findings becomes a verdict: a
headline, a summary of two or three sentences, a sentence of details for each finding, and what to choose.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from bench.analysis.answer import Verdict
from bench.analysis.comparison import Comparison, Row, row_ends, sentence, time_text
from bench.analysis.findings import ACCURACY, INFERENCE, LATENCY, MEMORY, SPEED, Finding, Lead, compared_rows, find
from bench.analysis.formatting import listed, mebibytes, milliseconds, percent, points, rate, seconds
from bench.analysis.guessing import guess_sentences, guessing, learned
from bench.analysis.labels import family_title, grouped
from bench.analysis.matched_pairs import EQUAL, Pair, find_pairs, pair_sentences, shape, tally
from bench.analysis.modes import mode_sentences
from bench.analysis.scaling import count_processes, data_sentences, scaling_sentence
from bench.analysis.speeds import leading_sentence
from bench.analysis.summary import Tables, families_apart
from bench.analysis.warnings import find_warnings, unfinished

EQUAL_SIZE = ("params", "flops")  # what a reader asks first: who wins when both are as large, or take as much work


class Words(NamedTuple):
    """How to speak of a metric: its figure, what the one with the greater value does, and the head of its details."""

    figure: Callable[[float], str]
    claim: str = "takes {} times as long as"
    head: str = ""  # else the subject


WORDS = {
    ACCURACY: Words(percent, "is {} above", "Test accuracy: {}; {}."),
    SPEED: Words(rate, "trains {} times as fast as", "Training speed: {}."),
    INFERENCE: Words(rate, "infers {} times as fast as", "Inference of the most accurate: {}."),
    LATENCY: Words(milliseconds, head="One image takes {}."),
    MEMORY: Words(mebibytes, "needs {} times the memory of", "Peak training memory: {}."),
}
OF_TIME = Words(seconds)
SEEDS = "95% intervals, n = {} seeds; each was chosen on validation as its family's best"
ONE_SEED = "one seed, so the interval is that of the test images alone"


def decide(tables: Tables) -> list[Verdict]:
    """One verdict for each device, in the order of the run; a run without trials gets one that says so."""
    names = list(dict.fromkeys(tables.summary["device_name"]))
    if not names:
        return [Verdict("", "Nothing to compare yet: no trial has finished.", [], [unfinished(tables)])]
    return [_decide(tables, name, "On this machine" if len(names) == 1 else f"On {name}") for name in names]


def _decide(tables: Tables, device_name: str, place: str) -> Verdict:
    compared, warnings = compared_rows(tables, device_name), find_warnings(tables, device_name)
    if compared.empty:
        return Verdict(device_name, "Nothing to compare: no trial ended well.", [], warnings)
    families, one_seed = list(compared["model"].unique()), bool(compared["n"].max() == 1)
    findings = {finding.metric: finding for finding in find(tables, compared)}
    accuracy, speed, memory = findings[ACCURACY], findings[SPEED], findings[MEMORY]
    times = [finding for metric, finding in findings.items() if metric not in WORDS and finding.rows]
    wanted = findings.get(tables.goal)
    main = [accuracy, *([wanted] if wanted and wanted.rows else times[-1:]), speed]
    pairs, alone = find_pairs(tables, device_name), len(families) == 1

    dull = {row["model"] for row in accuracy.rows if not learned(row)}
    if len(dull) == len(families):
        headline, summary = _nothing_learned(accuracy, speed)
    elif alone:
        headline, summary = _one_family(accuracy, speed)
    else:
        apart = families_apart(tables.summary, device_name)
        headline = _headline([*main, memory], families, apart, one_seed)
        summary = [*guess_sentences(accuracy.rows), *_summary(main, times, memory, pairs, one_seed)]
    details = [
        _detail(accuracy),
        _detail(speed),
        " ".join(filter(None, (_detail(findings[INFERENCE]), _detail(findings[LATENCY])))),
        *map(_detail, times),
        _detail(memory),
        *data_sentences(tables, device_name),
        *pair_sentences(pairs),
        f"Equal size: {_not_matched(pairs)}." if not alone and not pairs else "",
        *mode_sentences(tables, device_name),
        _recommendation(main, place, alone, one_seed, dull),
    ]
    asked = [each for each in (*main, memory) if each.leads or each.shown]
    winners = {each.subject: _title(each.rows[0]) if each.shown else "" for each in asked}
    device = tables.devices.get(device_name)
    summary += [scaling_sentence(tables, device_name), sentence(leading_sentence(device)) if device else ""]
    summary = [*filter(None, summary)]
    return Verdict(device_name, headline, [*filter(None, details)], warnings, summary, winners)


def overall_sentence(verdicts: Sequence[Verdict]) -> str:
    """Whether the devices agree on who wins; "" where fewer than two have something to say."""
    if len(verdicts) < 2:
        return ""
    devices = {  # subject -> family -> the devices on which it wins
        subject: grouped((family, each.device_name) for each in verdicts if (family := each.winners.get(subject)))
        for subject in dict.fromkeys(subject for each in verdicts for subject in each.winners)
    }
    split = [
        f"in {subject} " + listed([f"the {family} wins on {listed(names)}" for family, names in found.items()])
        for subject, found in devices.items()
        if len(found) > 1
    ]
    if split:
        return f"The winner depends on the device: {'; '.join(split)}."
    wins = grouped((family, subject) for subject, found in devices.items() for family in found)
    said = [f"the {family} in {listed(subjects)}" for family, subjects in wins.items()]
    return f"The devices agree wherever they show a difference: {listed(said)}." if said else ""


# The headline


def _headline(asked: list[Finding], families: list[str], apart: dict[str, int], one_seed: bool) -> str:
    wins = grouped((_title(each.rows[0]), _achievement(each)) for each in asked if each.shown)
    told = "; ".join(f"the {family} {listed(does)}" for family, does in wins.items())
    noisy = listed([each.subject for each in asked if each.noisy])
    unsure = f"; {noisy} {'are' if ' and ' in noisy else 'is'} too noisy to call" if noisy else ""
    if not told:
        return f"No difference is shown between {listed([family_title(name) for name in families])}{unsure}."
    told = f"{told if asked[0].shown else f'no difference in accuracy is shown; {told}'}{unsure}"
    if apart:  # a speed that more processes bought isn't the family's
        told += f" ({listed([f'{family_title(name)}: {count_processes(size)}' for name, size in apart.items()])})"
    return f"On one seed, {told}." if one_seed else sentence(told)


def _achievement(finding: Finding) -> str:
    """What the best of a finding does, and how far ahead it is: "is more accurate by 0.93 points"."""
    if finding.alone:
        return f"alone reaches {_goal(finding)} with every seed ({_time(finding, finding.rows[0])})"
    found = finding.leads[0].found
    if finding.metric == ACCURACY:
        return f"is more accurate by {found.text}"
    if finding.metric == SPEED:
        return f"trains {found.text} times as fast"
    if finding.metric == MEMORY:
        return f"needs {1 - 1 / found.amount:.0%} less memory"
    first, second = (_time(finding, row) for row in finding.rows[:2])
    return f"reaches {_goal(finding)} sooner ({first} against {second})"


def _one_family(accuracy: Finding, speed: Finding) -> tuple[str, list[str]]:
    """Headline and summary where there is nothing to compare with."""
    best, ends = accuracy.rows[0], row_ends(accuracy.rows[0], ACCURACY)
    name, reached, sure = best["label"], _figure(accuracy, best), f"95% interval {ends}, " if ends else ""
    fast = "".join(f"; the fastest, {row['label']}, trains {_figure(speed, row)}" for row in speed.rows)
    summary = (
        f"{name} is the best {_title(best)} on validation and reaches {reached} on test ({sure}{_seeds(best['n'])})"
        f"{fast}. No other family was measured, so nothing is said of which is better."
    )
    return f"Only one family was measured: its best, {name}, reaches {reached} on test.", [summary]


def _nothing_learned(accuracy: Finding, speed: Finding) -> tuple[str, list[str]]:
    """Headline and summary where no family does better than guessing; of speeds it says what was measured."""
    best = accuracy.rows[0]
    reached = [f"the {_title(row)} reaches {_figure(accuracy, row)}" for row in accuracy.rows]
    fast = [f"the fastest {_title(row)} ({row['label']}) trains {_figure(speed, row)}" for row in speed.rows]
    summary = [f"On test {listed(reached)}.", *([sentence(listed(fast))] if fast else [])]
    return f"Nothing was learned that shows: no model is {guessing(best).removeprefix('no ')}.", summary


# The summary: a sentence on accuracy; one on speed and time; one on memory and equal size


def _summary(
    main: list[Finding], times: list[Finding], memory: Finding, pairs: list[Pair], one_seed: bool
) -> list[str]:
    accuracy, *told_times, speed = main
    told_times += [each for each in times[-1:] if each.shown and each not in told_times]
    n = accuracy.leads[0].found.interval.n
    first = _accuracy_summary(accuracy, n)
    sentences = (
        [f"on one seed, {first}" if one_seed else first],
        [_speed_summary(speed, n), *(_time_summary(finding, n) for finding in told_times)],
        [_memory_summary(memory, n), *_equal_size_summary(pairs, n)],
    )
    joined = ["; ".join(filter(None, parts)) for parts in sentences]
    return [sentence(text) for text in joined if text]


def _accuracy_summary(accuracy: Finding, n: int) -> str:
    best, said = accuracy.rows[0], []
    for index, lead in enumerate(accuracy.leads):
        unsure = "" if index == 0 else lead.found.unsure
        sure = "; ".join(part for part in (lead.found.ends, unsure) if part)
        much = f"{lead.found.text} ({sure})" if sure else lead.found.text
        said.append(f"{much} above the best {_title(lead.less)} ({lead.less['label']})")
    head = "" if accuracy.shown else f"{_no_difference(accuracy.leads[0].found, 'accuracy')}: "
    what = "ranges are 95% intervals, " if n > 1 else "the range is what its test images alone allow, "
    what = what if accuracy.leads[0].found.ends else ""
    return (
        f"{head}the best {_title(best)} ({best['label']}) reaches {percent(best['test_accuracy'])} on test, "
        f"{listed(said)}; {what}{_seeds(n)}"
    )


def _speed_summary(speed: Finding, n: int) -> str:
    said = "; ".join(_faster(lead, n) for lead in speed.leads)
    if not speed.most_accurate:
        return said
    short = [
        _times(lead.found, n)
        if lead.shown and fastest.shown and _title(lead.more) == _title(fastest.more)
        else _faster(lead, n)
        for fastest, lead in zip(speed.leads, speed.most_accurate.leads, strict=True)
    ]
    return f"each at its fastest, {said}, at their most accurate {listed(short)}"


def _faster(lead: Lead, n: int) -> str:
    more, less, times = _title(lead.more), _title(lead.less), _times(lead.found, n)
    if lead.shown:
        return f"the {more} trains {times} as fast as the {less}"
    if lead.found.noisy:
        return f"the training speeds of {more} and {less} are too noisy to call"
    return f"{_no_difference(lead.found, 'training speed')} between {more} and {less}, {times}"


def _time_summary(time: Finding, n: int) -> str:
    goal, first = _goal(time), time.rows[0]
    reaches = f"the {_title(first)} reaches {goal} {_in(time, first)}"
    if time.alone:
        return f"only the {_title(first)} reaches {goal} with every seed ({_in(time, first)})"
    if not time.leads:
        return reaches
    said, unsure = [], []
    for row, lead in zip(time.rows[1:], time.leads, strict=True):
        if lead.shown:
            said.append(f"the {_title(row)} takes {_times(lead.found, n)} as long")
        else:
            both = ", ".join(f"{_title(each)} {_time(time, each)}" for each in (first, row))
            much = "" if lead.found.noisy else f" ({both}), {_times(lead.found, n)}"
            unsure.append(f"{_no_difference(lead.found, time.subject)}{much}")
    return "; ".join([*([f"{reaches}, {listed(said)}"] if said else []), *unsure])


def _memory_summary(memory: Finding, n: int) -> str:
    said, unsure = [], []
    for lead in memory.leads:
        more, less = _figure(memory, lead.more), _figure(memory, lead.less)
        if lead.shown:
            said.append(f"the best {_title(lead.more)} takes {more}, {_times(lead.found, n)} as much")
        else:
            both = f"the best {_title(lead.more)} and the best {_title(lead.less)} ({more} and {less})"
            unsure.append(f"{_no_difference(lead.found, 'memory')} between {both}")
    if said:
        least = memory.rows[0]
        said = [f"the best {_title(least)} trains in {_figure(memory, least)} of memory, {listed(said)}"]
    return "; ".join([*said, *unsure])


def _equal_size_summary(pairs: list[Pair], n: int) -> list[str]:
    """At equal parameters, and at equal FLOPs: who wins by how much in the pair, or in how many pairs."""
    parts = []
    for by in EQUAL_SIZE:
        own = [pair for pair in pairs if pair.by == by]
        tallies = [tally(own, metric) for metric in (ACCURACY, SPEED)] if len(own) > 1 else []
        if own:
            parts.append(f"at equal {EQUAL[by]} {listed([*filter(None, tallies)]) or _pair(own[0], n)}")
    return [*parts, _not_matched(pairs)]


def _pair(pair: Pair, n: int) -> str:
    """ "the CNN is more accurate by 1.00 points (0.90 to 1.10) and trains ... (ViT p7 d4 against CNN d2 w24)"."""
    said = []
    for metric, subject in ((ACCURACY, "accuracy"), (SPEED, "training speed")):
        found, winner = pair.ahead(metric), pair.winner(metric)
        if found and not winner:
            said.append(_no_difference(found, subject))
        elif found and metric == ACCURACY:
            said.append(f"the {winner} is more accurate by {found.text}{_range(found, n)}")
        elif found:
            who = "" if f"the {winner} is" in "".join(said) else f"the {winner} "
            said.append(f"{who}trains {_times(found, n)} as fast")
    return f"{listed(said)} ({pair.base['label']} against {shape(pair)})"


def _not_matched(pairs: list[Pair]) -> str:
    """Which kinds of equal size weren't measured, and what would; "" where all were."""
    missing = [by for by in EQUAL_SIZE if by not in {pair.by for pair in pairs}]
    if not missing:
        return ""
    options = listed([f"`--set match={by}`" for by in missing], "or")
    return f"no pair of equal {listed([EQUAL[by] for by in missing], 'or')} was measured ({options} adds one)"


# The details: each family's figure, then what is claimed of each pair, with the interval


def _detail(finding: Finding) -> str:
    """ "Peak training memory: ViT p14 d4 29.7 MiB and CNN d4 w16 53.8 MiB. The CNN needs 1.81 times the ..."."""
    if not finding.rows:
        return ""
    head = WORDS.get(finding.metric, OF_TIME).head or f"{finding.subject.capitalize()}: {{}}."
    n = listed([str(n) for n in sorted({row["n"] for row in finding.rows})], "or")
    said = [head.format(_named(finding), ONE_SEED if n == "1" else SEEDS.format(n)), *_claims(finding)]
    if best := finding.most_accurate:
        said += [f"Of the most accurate, {_named(best)}.", *_claims(best)]
    return " ".join(said)


def _named(finding: Finding) -> str:
    """Each row with its figure: of accuracy with its interval, of a time with how many seeds got there."""
    said, reached = [], finding.metric.replace("seconds_to", "reached")
    for row in finding.rows:
        many = finding.of_many.get(row["model"], 1)
        notes = [f"reached by {row[reached]} of {row['n_raced']}" if finding.metric not in WORDS else ""]
        notes += [row_ends(row, ACCURACY) if finding.metric == ACCURACY else ""]
        notes += [f"the {'fastest' if finding.metric == SPEED else 'first'} of {many}" if many > 1 else ""]
        note = ", ".join(filter(None, notes))
        said.append(f"{row['label']} {_time(finding, row)}{f' ({note})' if note else ''}")
    for family, near in finding.missed.items():
        if near is None:
            said.append(f"of the {family_title(family)} no time was measured")
        else:
            most = f" with every seed (at best {near['label']}: {near[reached]} of {near['n_raced']})"
            said.append(f"no {family_title(family)} reached it{most if near[reached] else ''}")
    return listed(said)


def _claims(finding: Finding) -> list[str]:
    """A sentence on each lead: "The ViT trains 2.14 times as fast as the CNN (95% interval 1.68 to 2.73, paired)."."""
    claims = []
    for lead in finding.leads:
        if lead.found.noisy:
            claims.append(sentence(f"too noisy to call: {_title(lead.more)} against {_title(lead.less)}"))
            continue
        does = WORDS.get(finding.metric, OF_TIME).claim.format(lead.found.text)
        said = f"the {_title(lead.more)} {does} the {_title(lead.less)} {lead.found.range}".rstrip()
        claims.append(sentence(said if lead.shown else f"{lead.found.unsure}: {said}"))
    return claims


# What to choose


def _recommendation(asked: list[Finding], place: str, alone: bool, one_seed: bool, dull: set[str]) -> str:
    """The family that leads on accuracy, else on time, else on speed; then when not to choose it.

    Args:
        dull: families that learned nothing that shows; none of them is chosen.
    """
    if dull == {row["model"] for row in asked[0].rows}:
        return (
            f"{place} choose none of them yet: train longer (`--epochs`), try other learning rates "
            "(`--set learning_rate=[1e-4,1e-3,1e-2]`), or see whether the labels belong to the images."
        )
    asked = [finding for finding in asked if finding.rows and finding.rows[0]["model"] not in dull]
    wins = [(finding, finding.rows[0]) for finding in asked if finding.shown or alone]
    noisy = [each.subject for each in asked if each.noisy]
    unsure = f" Too noisy to call: {listed(noisy)}." if noisy else ""
    if not wins:
        level = listed([each.subject for each in asked if not each.noisy], "or")
        return f"{place} either will do: no difference is shown in {level}.{unsure}"
    family = wins[0][1]["model"]
    best = next(row for row in asked[0].rows if row["model"] == family)
    reasons = grouped(
        (row["label"], f"{finding.subject} ({_time(finding, row)})") for finding, row in wins if row["model"] == family
    )
    said = "; ".join(f"{label} for {listed(why)}" for label, why in reasons.items())
    since = "" if asked[0].shown else ", since no difference in accuracy is shown"
    said = f"{place} choose {said}." if alone else f"{place} choose the {family_title(family)}{since}: {said}."
    for finding, row in wins:
        if row["model"] != family:
            gap = best["test_accuracy"] - row["test_accuracy"]
            cost = f", {points(gap)} less accurate on test" if gap > 0 else ""
            said += f" If {finding.subject} matters most, choose {row['label']} ({_time(finding, row)}{cost})."
    return said + unsure + (" One seed is little to go by: run more before relying on it." if one_seed else "")


# Words that several of them share


def _title(row: Row) -> str:
    return family_title(row["model"])


def _figure(finding: Finding, row: Row) -> str:
    return WORDS.get(finding.metric, OF_TIME).figure(row[finding.metric])


def _time(finding: Finding, row: Row) -> str:
    """A row's figure; of a time that the first evaluation already ended, "within 1.2 s"."""
    return time_text(row, finding.metric) if finding.metric not in WORDS else _figure(finding, row)


def _in(time: Finding, row: Row) -> str:
    said = _time(time, row)
    return said if said.startswith("within") else f"in {said}"


def _no_difference(found: Comparison, subject: str) -> str:
    """ "no difference in accuracy is shown", "memory is equivalent within 3%"."""
    return f"no difference in {subject} is shown" if found.verdict == "inconclusive" else f"{subject} is {found.unsure}"


def _goal(time: Finding) -> str:
    return time.subject.removeprefix("time to ")


def _times(found: Comparison, n: int) -> str:
    return f"{found.text} times{_range(found, n)}"


def _range(found: Comparison, n: int) -> str:
    """ " (1.68 to 2.73)"; with its number of seeds where that isn't `n`, the accuracies'."""
    few = "" if found.interval.n == n or found.unit != "seed" else _seeds(found.interval.n)
    return f" ({', '.join(part for part in (found.ends, few) if part)})" if found.ends or few else ""


def _seeds(n: int) -> str:
    return f"n = {n} seed{'s' * (n != 1)}"
