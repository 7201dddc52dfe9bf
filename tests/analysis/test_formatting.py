"""Cleaning: characters that harm whoever reads them are shown as unknown, in every text of a run."""

import pandas as pd

from bench.analysis.formatting import LONGEST_ERROR, clean_record, clean_table, clean_text, shortened


def test_controls_switches_of_direction_and_half_characters_are_shown_as_unknown() -> None:
    assert clean_text("a\x00b\x1b[31mc\u202ed\u2066e\ud800f\x85g") == "a\ufffdb\ufffd[31mc\ufffdd\ufffde\ufffdf\ufffdg"
    assert clean_text("tab\tline\nחדש 名前 ∂") == "tab\tline\nחדש 名前 ∂"


def test_a_record_is_clean_to_its_last_key() -> None:
    assert clean_record({"a\x07": ["\ud800", {"b": "\u202e", "n": 1.5}], "x": None}) == {
        "a\ufffd": ["\ufffd", {"b": "\ufffd", "n": 1.5}],
        "x": None,
    }


def test_a_table_is_clean_and_its_numbers_are_left_alone() -> None:
    table = pd.DataFrame({"model": ["a\x1b", "b"], "error": ["x" * 5000, ""], "seed": [0.0, 1.0]})
    clean = clean_table(table)
    assert list(clean["model"]) == ["a\ufffd", "b"]
    assert [len(text) for text in clean["error"]] == [LONGEST_ERROR + 1, 0]
    assert clean["seed"] is not None
    assert clean_table(clean).equals(clean)


def test_names_that_differ_behind_the_cut_still_differ() -> None:
    names = {shortened("d" * 300 + ending, 40) for ending in "ab"}
    assert len(names) == 2
    assert {len(name) for name in names} == {40}
    assert shortened("short", 40) == "short"
