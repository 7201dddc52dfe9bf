"""From the scorecard to an answer in words: a question, one sentence, and what to take unless something else matters.

Everything here is about the same models: each family's best on validation, as the first scorecard has them.
"""

import json
from collections.abc import Sequence
from itertools import permutations

from bench.analysis.answer import Verdict
from bench.analysis.comparison import compare_speeds, row_ends, sentence
from bench.analysis.formatting import listed, percent
from bench.analysis.guessing import guess_sentences, guessing, learned
from bench.analysis.labels import family_title, grouped, plain_name, records, trained_epochs
from bench.analysis.laws import find_laws, law_sentences
from bench.analysis.modes import mode_sentences
from bench.analysis.published import published_sentence
from bench.analysis.scaling import count_processes, data_sentences, scaling_sentence
from bench.analysis.scorecard import ACCURACY, LATENCY, MEMORY, SPEED, TIME, Line, Scorecard, compared_rows, scorecards
from bench.analysis.speeds import DeviceSpeeds, leading_sentence
from bench.analysis.summary import Tables, families_apart
from bench.analysis.tuning import tuning_sentence
from bench.analysis.warnings import find_warnings, unfinished
from bench.errors import StoreError

SUBJECTS = {  # in the order in which they decide, for want of a difference in accuracy
    ACCURACY: "accuracy",
    SPEED: "training speed",
    MEMORY: "memory",
    TIME: "time to {}",
    LATENCY: "time of one image",
}


def question(tables: Tables) -> str:
    """What the run was made to answer; a title."""
    dataset = tables.run.get("dataset") or {}
    data = dataset.get("title") or dataset.get("name") or "unnamed data"
    models = [str(model) for model in tables.summary["model"].unique()]
    families = [family_title(model) for model in models]
    if tables.run.get("published"):
        return f"Does it reach the published figure? {listed(families)} on {data}"
    if any(find_laws(tables, name) for name in tables.summary["device_name"].unique()):
        return f"How do the errors of {listed(families)} fall with size on {data}?"
    if tables.summary["train_fraction"].nunique() > 1 and len(families) > 1:
        return f"How many images of {data} do {listed(families)} need?"
    if tables.summary["world_size"].nunique() > 1:
        return f"What do more processes bring on {data}?"
    if asks_for_modes(tables):
        return f"Which numeric mode, layout and compilation for {data}?"
    if len(families) == 1:
        return f"How good is the {families[0]} on {data}?"
    return f"{listed(families, 'or')} for {data}?" if families else f"Benchmark on {data}"


def asks_for_modes(tables: Tables) -> bool:
    """Whether modes are the question; elsewhere what they bring is told where they are listed."""
    return bool(tables.run.get("suite") == "mnist-modes")


def decide(tables: Tables) -> list[Verdict]:
    """One verdict for each device, in the order of the run; a run without trials gets one that says so."""
    names = list(dict.fromkeys(tables.summary["device_name"]))
    if not names:
        return [Verdict("", "Nothing to compare yet: no trial has finished.", warnings=[unfinished(tables)])]
    return [_decide(tables, name) for name in names]


def _decide(tables: Tables, device_name: str) -> Verdict:
    cards, warnings = scorecards(tables, device_name), find_warnings(tables, device_name)
    if not cards:
        return Verdict(device_name, "Nothing to compare: no trial ended well.", warnings=warnings)
    card = cards[0]
    dull = {family_title(row["model"]) for row in card.rows if not learned(tables, row)}
    one_seed = max(row["n"] for row in card.rows) == 1
    if len(dull) == len(card.families):
        headline, advice = _nothing_learned(card), _longer(card)
    elif len(card.families) == 1:
        headline, advice = _one_family(card), []
    else:
        headline = _headline(card, families_apart(tables.summary, device_name), one_seed)
        advice = [] if unfinished(tables) else _advice(tables, card, dull, one_seed)
    device = tables.devices.get(device_name)
    own = [  # what such a suite asks
        published_sentence(tables, device_name),
        *(law_sentences(tables, device_name) or data_sentences(tables, device_name)),
        scaling_sentence(tables, device_name),
    ]
    if any(own):
        headline, *own = [*filter(None, own), headline]
    notes = [
        *own,
        _recipes(card),
        _tuning_note(tables),
        *guess_sentences(tables, card.rows),
        *(mode_sentences(tables, device_name) if asks_for_modes(tables) else []),
    ]
    notes += [sentence(leading_sentence(device, _with_most_threads(tables, device, card)))] if device else []
    winners = {subject: line.winner for line, subject in _subjects(card) if line.verdict}
    return Verdict(device_name, headline, advice, [*filter(None, notes)], cards, warnings, winners)


def _with_most_threads(tables: Tables, device: DeviceSpeeds, card: Scorecard) -> str:
    """ "the ViT trains 2.07 times as many images a second (2.01 to 2.13)"; "" where it isn't shown, or stands above."""
    leading, line = device.leading, card.line(SPEED)
    if leading.threads == leading.most or len(card.rows) != 2 or not (line and line.found):
        return ""
    found, faster = max(
        ((compare_speeds(tables, a, b, leading.most), a) for a, b in permutations(card.rows)),
        key=lambda each: each[0].amount,
    )
    if not found.shown:
        return ""
    return f"the {family_title(faster['model'])} trains {found.text} times as many images a second ({found.ends})"


def _recipes(card: Scorecard) -> str:
    """How long and how fast each model learned: families are trained by recipes of their own."""
    told, common = list[str](), list[list[str]]()
    for family, row in zip(card.families, card.rows, strict=True):
        training = json.loads(row["training"] or "{}")
        rate, epochs = training.get("learning_rate"), trained_epochs(row)
        if rate is None or not epochs > 0:
            return ""
        augment = f"{'with' if training.get('augment') else 'no'} augmentation"
        common.append([str(training.get("optimizer")), f"batch {row['batch_size']:g}", augment])
        told.append(f"the {family} for {epochs:g} epoch{'s' * (epochs != 1)} at learning rate {rate:g}")
    if any(each != common[0] for each in common):
        told = [f"{said} ({', '.join(how)})" for said, how in zip(told, common, strict=True)]
    else:
        told[-1] += f"; {', '.join(common[0])}"
    if len(told) == 1:
        return sentence(f"trained for {told[0].partition(' for ')[2]}")
    alike = len({row["training"] for row in card.rows}) == 1
    return f"{'Trained alike' if alike else 'Each trained by its own recipe'}: {listed(told)}."


def _tuning_note(tables: Tables) -> str:
    """What tuning did to the comparison; a damaged tuning.csv costs this line alone."""
    try:
        return tuning_sentence(tables)
    except StoreError:
        return ""


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


def _headline(card: Scorecard, apart: dict[str, int], one_seed: bool) -> str:
    """Accuracy first, whether or not it tells the families apart; then who wins what else."""
    accuracy, *others = [line for line, _ in _subjects(card)]
    main = [line for line in others if line.metric in (SPEED, MEMORY)]
    others = main if any(line.winner for line in main) else others
    wins = grouped((line.winner, _achievement(line)) for line in (accuracy, *others) if line.winner)
    told = [f"the {family} {listed(does)}" for family, does in wins.items()]
    if not accuracy.winner:
        same = "both are equally accurate" if accuracy.verdict == "equivalent" else "no difference in accuracy is shown"
        told.insert(0, same)
    noisy = [subject for line, subject in _subjects(card) if line.found and line.found.noisy]
    if noisy and not told[1:] and not accuracy.winner:
        told.append(f"{listed(noisy)} {'are' if len(noisy) > 1 else 'is'} too noisy to call")
    text = "; ".join(told)
    if apart:  # a speed that more processes bought isn't the family's
        text += f" ({listed([f'{family_title(name)}: {count_processes(size)}' for name, size in apart.items()])})"
    return f"On one seed, {text}." if one_seed else sentence(text)


def _achievement(line: Line) -> str:
    """What the winner of a line does: "makes 103 fewer errors in 10,000 images"."""
    ratio = line.difference.removesuffix("×")
    if line.metric == ACCURACY:
        return f"makes {line.difference} errors in 10,000 images"
    if line.metric == SPEED:
        alone = " on one thread" if line.subject.endswith("one thread") else ""  # with more the ratio may be another
        return f"trains {ratio} times as many images a second{alone}"
    if line.metric == LATENCY:
        return f"answers {ratio} times as fast"
    if line.metric == MEMORY:
        amount = line.found.amount if line.found else 1.0
        return (
            f"needs {1 - 1 / amount:.0%} less memory to train"
            if amount < 10
            else f"needs {ratio} times less memory to train"
        )
    return f"reaches {_goal(line)} {ratio} times as soon"


def _advice(tables: Tables, card: Scorecard, dull: set[str], one_seed: bool) -> list[str]:
    """What to take; and for each subject in which the other family wins, the best of all models in it."""
    wins = [(line, subject) for line, subject in _subjects(card) if line.winner and line.winner not in dull]
    if not wins:
        noisy = [subject for line, subject in _subjects(card) if line.found and line.found.noisy]
        unsure = f" Too noisy to call: {listed(noisy)}." if noisy else ""
        return [f"Take either: no difference is shown.{unsure}"]
    names = dict(zip(card.families, card.names, strict=True))
    family = wins[0][0].winner
    rows = compared_rows(tables, card.rows[0]["device_name"])
    rows = rows[rows["n"] == rows["n_trained"]]
    champions = []
    for line, subject in wins:
        if line.winner != family:
            best = rows[line.metric].idxmax() if line.metric == SPEED else rows[line.metric].idxmin()
            champions.append((best, subject))
    said = [f"Take the {names[family]}."]
    for best, subjects in grouped(champions).items():
        row = records(rows.loc[[best]])[0]
        said.append(f"For {listed(subjects)}: the {plain_name(row)} ({percent(row[ACCURACY])}).")
    said = [" ".join(said)]
    return [*said, *(["One seed is little to go by: give --seeds 3 before you rely on it."] if one_seed else [])]


def _one_family(card: Scorecard) -> str:
    (row,), (name,) = card.rows, card.names
    ends = row_ends(row, ACCURACY)
    sure = f" (95% interval {ends}, n = {row['n']} seed{'s' * (row['n'] > 1)})" if ends else ""
    return f"The best {name}, reaches {percent(row[ACCURACY])} on test{sure}; no other family was measured."


def _nothing_learned(card: Scorecard) -> str:
    best = max(card.rows, key=lambda row: row[ACCURACY])
    return f"Nothing was learned that shows: no model is {guessing(best).removeprefix('no ')}."


def _longer(card: Scorecard) -> list[str]:
    return [
        "Take none of them yet: train longer (`--epochs`), try other learning rates "
        "(`--set learning_rate=[1e-4,1e-3,1e-2]`), or see whether the labels belong to the images."
    ]


def _subjects(card: Scorecard) -> list[tuple[Line, str]]:
    """The card's lines in the order in which they decide, and what they are about."""
    lines = [(line, subject) for metric, subject in SUBJECTS.items() if (line := card.line(metric))]
    return [(line, subject.format(_goal(line))) for line, subject in lines]


def _goal(line: Line) -> str:
    """ "98%" of a line about the time to it; else ""."""
    return line.subject.rpartition(" to ")[2] if line.metric.startswith(TIME) else ""
