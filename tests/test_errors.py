"""The end of a message: what was probably meant."""

import pytest

from bench.errors import nearest

KEYS = ("learning_rate", "batch_size", "patch_size", "num_heads", "device", "dtype", "num_threads", "width", "seeds")


@pytest.mark.parametrize(
    ("found", "known", "meant"),
    [
        ("lr", KEYS, "learning_rate"),
        ("bs", KEYS, "batch_size"),
        ("patch", KEYS, "patch_size"),
        ("heads", KEYS, "num_heads"),
        ("gpu", KEYS, "device"),
        ("gpu", ("cpu", "cuda", "xpu"), "cuda"),
        ("half", ("bf16", "fp16", "fp32"), "fp16"),
        ("float32", ("bf16", "fp16", "fp32"), "fp32"),
        ("Learning_Rate", KEYS, "learning_rate"),
        ("batchsiz", KEYS, "batch_size"),
    ],
)
def test_a_usual_or_near_name_is_meant(found: str, known: tuple[str, ...], meant: str) -> None:
    assert nearest(found, known) == f"did you mean '{meant}'?"


def test_what_is_not_needed_is_left_out_and_what_is_like_nothing_lists_all() -> None:
    assert nearest("num_workers", KEYS).startswith("leave it out: ")
    assert nearest("zzz", ("b", "a")) == "known: a, b"
