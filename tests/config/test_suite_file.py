"""Suite files as text: YAML without its traps, the line to blame, and what `--set` does to it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.config.suite_file import SUITES_FOLDER, SuiteText, find_suite, read_suite, shown, suite_names
from bench.errors import SuiteError, UserError

SUITE = """\
# a comment
dataset: digits
models:
  - model: vit
    patch_size: [2, 4]
    epochs: 5
  - {model: cnn, depth: 1}
augment:
  flip: 0.5
learning_rate: [1e-3,
  3e-4]
"""


def read(folder: Path, text: str, *options: str) -> SuiteText:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return read_suite(path, options)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("3e-4", 3e-4),
        ("3E-4", 3e-4),
        ("1e3", 1000.0),
        ("1.5e+3", 1500.0),
        ("2.5", 2.5),
        ("2.", 2.0),
        (".5", 0.5),
        ("-.5", -0.5),
        ("-1", -1),
        ("+1", 1),
        ("0", 0),
        ("60_000", 60_000),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("off", "off"),
        ("y", "y"),
        ("12:30", "12:30"),
        ("2026-01-01", "2026-01-01"),
        ("0x1F", "0x1F"),
        ("007", "007"),
        (".inf", ".inf"),
        (".nan", ".nan"),
        (".", "."),
        ("-", [None]),
        ("'3'", "3"),
        ("cuda:0", "cuda:0"),
        ("amp-bf16", "amp-bf16"),
        ("[1, 2.0, a]", [1, 2.0, "a"]),
        ("{flip: 1e-1}", {"flip": 0.1}),
    ],
)
def test_a_value_is_what_a_person_means_by_it(written: str, meant: Any, tmp_path: Path) -> None:
    in_file = read(tmp_path, f"key:\n  {written}\n").content["key"]
    typed = read(tmp_path, SUITE, f"key={written}").content["key"]
    assert (in_file, type(in_file)) == (meant, type(meant))
    assert (typed, type(typed)) == (meant, type(meant))


@pytest.mark.parametrize(
    ("place", "line"),
    [
        (("dataset",), 2),
        (("models",), 3),
        (("models", 0), 4),
        (("models", 0, "patch_size"), 5),
        (("models", 0, "patch_size", 1), 5),
        (("models", 1), 7),
        (("models", 1, "depth"), 7),
        (("augment", "flip"), 9),
        (("learning_rate", 1), 11),
        (("augment", "flop"), 8),  # the nearest that is there
    ],
)
def test_every_place_knows_its_line(place: tuple[str | int, ...], line: int, tmp_path: Path) -> None:
    assert read(tmp_path, SUITE).where(place) == f"{tmp_path / 'mine.yaml'}:{line}"


def test_what_stands_nowhere_is_blamed_on_the_file(tmp_path: Path) -> None:
    assert read(tmp_path, SUITE).where(("dtype",)) == str(tmp_path / "mine.yaml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dataset: digits\nmodels: [vit\nseeds: 2\n", r"mine.yaml:3: not valid YAML"),
        ("dataset: digits\n\tmodels: 3\n", r"mine.yaml:2: not valid YAML"),
        ("a: 1\nb: 2\na: 3\n", r"mine.yaml:3: 'a' stands here a second time"),
        ("a:\n  - {b: 1, b: 2}\n", r"mine.yaml:2: 'b' stands here a second time"),
        ("a: 1\n? [b]\n: 2\n", r"mine.yaml:2: a key has to be a word"),
        ("a: 1\nb: *c\n", r"mine.yaml:2: an alias \(\*\) stands here; write out what it means"),
        ("a: &a {c: 1}\nb: {<<: *a}\n", r"mine.yaml:2: an alias"),
        ("a: 1\nb: !!timestamp 2026-01-01\n", r"mine.yaml:2: not valid YAML"),
        ("a: 1\nb: !!python/name:os.system\n", r"mine.yaml:2: not valid YAML"),
        ("a: 1\nb: 1e999\n", r"mine.yaml:2: not valid YAML: '1e999' is out of range"),
        (f"a: 1\nb: {2**63}\n", r"mine.yaml:2: not valid YAML: '9223372036854775808' is out of range"),
        ("b: !!bool maybe\n", r"mine.yaml: not valid YAML"),
        ('b: !!int ""\n', r"mine.yaml: not valid YAML"),
        ('b: "\\UFFFFFFFF"\n', r"mine.yaml: not valid YAML"),
        ("a: \0\n", r"mine.yaml: not valid YAML"),
        ("a: 1\nb: &a [*a]\n", r"mine.yaml:2: an alias"),
        ("a: 1\nb: " + "[" * 60_000, r"mine.yaml: not valid YAML: nested too deeply"),
        ("- " * 30_000, r"mine.yaml: not valid YAML: nested too deeply"),
        ("x" * 65_537, r"mine.yaml: can't be read: larger than 65,536 bytes"),
        ("a: 1\nb: " + "9" * 5_000, r"mine.yaml: not valid YAML: Exceeds the limit"),
        ("a: 1\nb: !!python/object/apply:os.system [ls]\n", r"mine.yaml:2: not valid YAML: could not determine"),
        ("a: 1\n---\nb: 1\n", r"mine.yaml:2: not valid YAML"),
        ("a: 1\n---\nb: 2\n", r"mine.yaml:2: not valid YAML"),
        ("", r"mine.yaml: expected a mapping with 'dataset' and 'models', found null"),
        ("- a\n- b\n", r"mine.yaml: expected a mapping with 'dataset' and 'models', found \['a', 'b'\]"),
        ("mnist\n", r"mine.yaml: expected a mapping with 'dataset' and 'models', found 'mnist'"),
        ("3\n", r"mine.yaml: expected a mapping with 'dataset' and 'models', found 3"),
    ],
)
def test_what_is_no_suite_is_refused_in_one_line(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=said) as caught:
        read(tmp_path, text)
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_bytes(b"a: \xff\xfe")
    with pytest.raises(SuiteError, match="can't be read"):
        read_suite(tmp_path / "mine.yaml")


@pytest.mark.parametrize("change", [lambda text: "\ufeff" + text, lambda text: text.replace("\n", "\r\n")])
def test_a_byte_order_mark_and_line_ends_of_windows_are_fine(change: Callable[[str], str], tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_bytes(change(SUITE).encode())
    suite = read_suite(tmp_path / "mine.yaml")
    assert suite.content == read(tmp_path, SUITE).content
    assert suite.where(("augment", "flip")).endswith(":9")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_what_is_no_file_is_refused_and_nobody_waits_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "circle.yaml").symlink_to("circle.yaml")
    for name, said in [("pipe", "it is no file"), ("folder", "it is no file"), ("circle", "Too many levels")]:
        with pytest.raises(SuiteError, match=f"{name}.yaml: can't be read: {said}"):
            read_suite(tmp_path / f"{name}.yaml")


def test_what_a_terminal_would_act_on_is_escaped(tmp_path: Path) -> None:
    odd = "\x1b]0;owned\x07"
    with pytest.raises(SuiteError) as caught:
        read(tmp_path, SUITE, f"models.{odd}.depth=2")
    assert odd not in str(caught.value)
    assert r"no model '\x1b]0;owned\x07'" in str(caught.value)
    (tmp_path / f"a{odd}.yaml").write_text(SUITE)
    assert read_suite(tmp_path / f"a{odd}.yaml").name == r"a\x1b]0;owned\x07"
    with pytest.raises(SuiteError, match=r"suite file no\\x1b\[2J\.yaml: there is no such file"):
        find_suite("no\x1b[2J.yaml")


def test_suites_are_found_by_name_and_by_path(tmp_path: Path) -> None:
    assert {"smoke", "mnist", "mnist-quick", "mnist-full", "fashion-mnist", "cifar10"} <= set(suite_names())
    assert find_suite("smoke") == SUITES_FOLDER / "smoke.yaml"
    (tmp_path / "mine.yml").touch()
    assert find_suite(str(tmp_path / "mine.yml")) == tmp_path / "mine.yml"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mist", "unknown suite 'mist'; did you mean 'mnist'?"),
        ("q", "unknown suite 'q'; known: cifar10, .*smoke"),
        ("nowhere.yaml", "suite file nowhere.yaml: there is no such file"),
        ("no/where", "suite file no/where: there is no such file"),
        (f"{'x' * 5000}.yaml", "there is no such file"),
        (str(SUITES_FOLDER), "there is no such file"),
    ],
)
def test_a_suite_that_is_not_there_is_named(name: str, said: str) -> None:
    with pytest.raises(SuiteError, match=said.replace("?", r"\?")):
        find_suite(name)


@pytest.mark.parametrize(
    ("options", "place", "value"),
    [
        (["seeds=5"], ("seeds",), 5),
        ([" seeds = 5 "], ("seeds",), 5),
        (["seeds=[0, 3]"], ("seeds",), [0, 3]),
        (["seeds=5", "seeds=7"], ("seeds",), 7),
        (["models.vit.depth=[2,4]"], ("models", 0, "depth"), [2, 4]),
        (["models.1.depth=6"], ("models", 1, "depth"), 6),
        (["augment.rotation=15"], ("augment", "rotation"), 15),
        (["augment={}"], ("augment",), {}),
        (["models.vit.augment.flip=1"], ("models", 0, "augment", "flip"), 1),
        (["models=[{model: cnn}]"], ("models",), [{"model": "cnn"}]),
        (["models=[{model: cnn}]", "models.cnn.depth=3"], ("models", 0, "depth"), 3),
        (["description=a=b"], ("description",), "a=b"),
    ],
    ids=str,
)
def test_set_changes_what_it_names(
    options: list[str], place: tuple[str | int, ...], value: Any, tmp_path: Path
) -> None:
    suite = read(tmp_path, SUITE, *options)
    assert suite.at(place) == value
    assert suite.where(place) == f"--set {' '.join(options[-1].split())}"
    assert suite.options == options  # what a resume has to apply again


def test_set_leaves_the_neighbours_alone(tmp_path: Path) -> None:
    suite = read(tmp_path, SUITE, "augment.rotation=15")
    assert suite.at(("augment",)) == {"flip": 0.5, "rotation": 15}
    assert suite.where(("augment", "flip")).endswith("mine.yaml:9")


def test_set_changes_every_entry_of_a_family(tmp_path: Path) -> None:
    suite = read(tmp_path, "models: [{model: vit}, {model: cnn}, {model: vit}]", "models.vit.augment={flip: 1}")
    suite.set("models.2.augment.flip=0")
    assert suite.content["models"] == [
        {"model": "vit", "augment": {"flip": 1}},
        {"model": "cnn"},
        {"model": "vit", "augment": {"flip": 0}},
    ]


def test_what_is_set_for_all_wins_over_what_an_entry_says_of_itself(tmp_path: Path) -> None:
    suite = read(tmp_path, SUITE, "epochs=9")
    assert (suite.at(("epochs",)), suite.at(("models", 0, "epochs"))) == (9, 9)
    assert "epochs" not in suite.at(("models", 1))
    assert suite.where(("models", 0, "epochs")) == "--set epochs=9"
    suite.set("models.vit.epochs=2")  # and the later option over the earlier
    assert suite.at(("models", 0, "epochs")) == 2


def test_what_is_set_answers_for_all_below_it(tmp_path: Path) -> None:
    suite = read(tmp_path, SUITE, "models.vit.depth=3", "models=[{model: vit, depth: 2}]")
    assert suite.where(("models", 0, "depth")) == "--set models=[{model: vit, depth: 2}]"
    assert suite.where(("dataset",)).endswith("mine.yaml:2")


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("epochs", "--set epochs: expected KEY=VALUE, such as"),
        ("", "expected KEY=VALUE"),
        ("=3", "--set =3: expected KEY=VALUE"),
        ("a..b=3", "--set a..b=3: expected KEY=VALUE"),
        ("epochs=[1", r"--set epochs=\[1: the value is not YAML; lists look like \[2, 4\]"),
        ("epochs=1e999", "--set epochs=1e999: the value is not YAML"),
        ("epochs=" + "[" * 5000, "the value is not YAML"),
        ("a." * 20 + "b=1", "a key of 21 parts; no key has more than 8"),
        ("x=[&a [1,1], *a]", r"an alias \(\*\) stands here"),
        ("models.vti.depth=2", "--set models.vti.depth=2: the suite has no model 'vti'; did you mean 'vit'?"),
        ("models.2.depth=2", "the suite has no model '2'; known: cnn, vit"),
        ("models.vit=3", r"--set models.vit=3: expected models.vit.KEY, such as models.vit.depth=\[2,4\]"),
        ("models.vit.patch_size.x=3", r"'models.0.patch_size' has no keys of its own, it is \[2, 4\]"),
        ("dataset.x=3", "--set dataset.x=3: 'dataset' has no keys of its own, it is 'digits'"),
    ],
)
def test_an_option_that_means_nothing_is_refused(option: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=said.replace("?", r"\?")):
        read(tmp_path, SUITE, option)


def test_an_option_with_line_breaks_is_quoted_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="--set a b: expected KEY=VALUE"):
        read(tmp_path, SUITE, "a\nb")


@pytest.mark.parametrize(
    ("value", "text"), [(None, "null"), (True, "true"), (2, "2"), ("a\nb", r"'a\nb'"), ("x" * 99, f"'{'x' * 56}...")]
)
def test_values_are_shown_on_one_short_line(value: object, text: str) -> None:
    assert shown(value) == text


def complaint(folder: Path, text: str, *options: str) -> str:
    """What is said against a suite; nothing if it can be read."""
    try:
        read(folder, text, *options)
    except UserError as error:
        return str(error)
    return ""


YAML_TEXT = st.text(alphabet=st.sampled_from("ab1-:.,[]{}&*!?|>#%@'\" \n\t\\eExU0_~=<"), max_size=40) | st.text(
    max_size=40
)


NEARLY = st.builds(  # a suite with something in the middle; of other texts, one in a hundred is a suite
    lambda place, text: SUITE[:place] + text + SUITE[place:], st.integers(0, len(SUITE)), YAML_TEXT
)


@settings(deadline=None, derandomize=True, max_examples=300)
@given(text=YAML_TEXT | NEARLY)
def test_any_text_is_a_suite_or_refused_in_one_line(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert len(complaint(tmp_path_factory.getbasetemp(), text).splitlines()) <= 1


@settings(deadline=None, derandomize=True, max_examples=300)
@given(option=YAML_TEXT | st.builds("{}={}".format, YAML_TEXT, YAML_TEXT))
def test_any_option_is_applied_or_refused_in_one_line(option: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert len(complaint(tmp_path_factory.getbasetemp(), SUITE, option).splitlines()) <= 1
