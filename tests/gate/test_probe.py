"""The probe: what a machine's noise lets a gate tell."""

import math
import random
import subprocess
import sys
from pathlib import Path

import pytest

from bench.errors import DeviceError
from bench.gate import reference as module
from bench.gate.reference import BLOCKS_PER_LAUNCH, Probe, block_log_ratios, probe, say, summarise, what_it_can_detect

ROOT = Path(__file__).parents[2]


def test_four_neighbouring_slices_are_a_block() -> None:
    assert block_log_ratios([1.0, 2.0, 2.0, 1.0]) == pytest.approx([math.log(2)])
    assert block_log_ratios([2.0, 1.0, 1.0, 2.0, 1.0]) == pytest.approx([-math.log(2), 0.5 * math.log(2)])
    assert block_log_ratios([1.0, 1.0, 1.0]) == []


def test_a_machine_that_slows_down_steadily_shows_no_noise() -> None:
    assert block_log_ratios([1.02**slot for slot in range(9)]) == pytest.approx([0.0] * 6)


def test_the_spread_is_that_of_a_block_of_four_noisy_slices() -> None:
    dice = random.Random(1)
    slices = [[math.exp(dice.gauss(0, 0.03)) for _ in range(4_000)] for _ in range(2)]
    found = summarise(slices, core=1)
    assert found.spread == pytest.approx(0.03, rel=0.05)  # a half of four independent slices' sum of squares
    assert found.blocks == 2 * 3_997
    assert found.seconds == pytest.approx(sum(map(sum, slices)))
    assert found.core == 1


def test_two_works_of_different_length_don_t_mix() -> None:
    assert summarise([[1.0] * 6, [0.1] * 6]).spread == 0.0


def test_a_quiet_machine_tells_the_margin_and_what_launches_add() -> None:
    assert what_it_can_detect(0.0, 8, launch_spread=0.0, margin=0.03) == pytest.approx(0.03)
    error = math.sqrt(0.02**2 + 0.012**2 / 4) / math.sqrt(8)
    assert what_it_can_detect(0.012, 8, 0.02, 0.03) == pytest.approx(1.03 * math.exp(2 * error) - 1)


def test_more_launches_tell_less_and_more_noise_tells_more() -> None:
    by_launches = [what_it_can_detect(0.03, launches) for launches in (4, 8, 16, 64)]
    assert by_launches == sorted(by_launches, reverse=True)
    by_noise = [what_it_can_detect(spread, 8) for spread in (0.0, 0.01, 0.05, 0.2)]
    assert by_noise == sorted(by_noise)


def test_a_slowdown_that_can_be_told_is_told_nineteen_times_of_twenty() -> None:
    dice = random.Random(2)
    for spread in (0.01, 0.1):
        slower, caught = math.log1p(what_it_can_detect(spread, 8)), 0
        error = math.sqrt(0.02**2 + spread**2 / BLOCKS_PER_LAUNCH) / math.sqrt(8)
        for _ in range(2_000):
            launches = [
                slower + dice.gauss(0, 0.02) + dice.gauss(0, spread / math.sqrt(BLOCKS_PER_LAUNCH)) for _ in range(8)
            ]
            caught += sum(launches) / 8 > max(math.log1p(0.03), 1.96 * error)
        assert caught / 2_000 >= 0.95


def test_the_answer_is_one_line() -> None:
    assert say(Probe(0.012, 14, 5.0), 8, 0.03) == (
        "This machine's noise: 1.2% a block; with 8 launches a slowdown of about 5% can be told."
    )
    assert "with 1 launch a" in say(Probe(0.012, 14, 5.0), 1, 0.03)


def test_a_probe_measures_in_a_child_and_loads_no_torch_in_the_parent() -> None:
    code = (
        "import sys; from bench.gate.reference import probe; found = probe(0.4); "
        "print(found.blocks, found.spread > 0, found.seconds > 0, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "True", "True", "False"]


def test_a_child_that_fails_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHILD", "import sys; sys.exit('no\\nsuch core')")
    with pytest.raises(DeviceError, match=r"^the probe's process failed \(such core\)$"):
        probe(0.1)
    monkeypatch.setattr(module, "CHILD", "raise SystemExit(3)")
    with pytest.raises(DeviceError, match=r"^the probe's process failed \(exit status 3\)$"):
        probe(0.1)


def test_a_child_that_hangs_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHILD", "import time; time.sleep(60)")
    monkeypatch.setattr(module, "START_SECONDS", 0.2)
    with pytest.raises(DeviceError, match=r"^the probe didn't end in time"):
        probe(0.1)


def test_the_child_is_told_its_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHILD", "import sys; print([[1, 1, 1, 1, float(sys.argv[3])]])")
    assert probe(0.1, core=1).seconds == 5.0
