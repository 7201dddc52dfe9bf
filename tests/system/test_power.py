"""Energy meters: the counters of a made-up powercap folder and a made-up NVML, added up as the real ones would be."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.system.power import nvml_meter, rapl_meter

RANGE = 262_143_328_850  # microjoules, a real package's


def zone(root: Path, name: str, kind: str, microjoules: int) -> Path:
    """A powercap zone as Linux lays it out; returns its counter."""
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{kind}\n")
    (folder / "max_energy_range_uj").write_text(f"{RANGE}\n")
    counter = folder / "energy_uj"
    counter.write_text(f"{microjoules}\n")
    return counter


def test_packages_are_added_and_their_parts_and_the_whole_machine_are_not(tmp_path: Path) -> None:
    first = zone(tmp_path, "intel-rapl:0", "package-0", 5_000_000)
    second = zone(tmp_path, "intel-rapl:1", "package-1", 7_000_000)
    part = zone(tmp_path, "intel-rapl:0:0", "core", 1_000_000)
    machine = zone(tmp_path, "intel-rapl:2", "psys", 1_000_000)
    meter = rapl_meter(tmp_path)
    assert meter is not None
    before = meter()
    first.write_text("6500000\n")
    second.write_text("7250000\n")
    part.write_text("9000000\n")
    machine.write_text("9000000\n")
    after = meter()
    assert before is not None
    assert after is not None
    assert after - before == pytest.approx(1.75)


def test_counter_that_starts_again_from_zero_is_carried_on(tmp_path: Path) -> None:
    counter = zone(tmp_path, "intel-rapl:0", "package-0", RANGE - 2_000_000)
    meter = rapl_meter(tmp_path)
    assert meter is not None
    readings = [meter()]
    for now in (RANGE - 500_000, 1_000_000, 4_000_000, 3_000_000):  # past the end twice
        counter.write_text(f"{now}\n")
        readings.append(meter())
    assert readings == pytest.approx([0.0, 1.5, 3.0, 6.0, 6.0 + RANGE / 1e6 - 1.0])


def test_machine_without_counters_has_no_meter(tmp_path: Path) -> None:
    assert rapl_meter(tmp_path / "nowhere") is None
    zone(tmp_path, "intel-rapl:0", "psys", 1)
    assert rapl_meter(tmp_path) is None


def test_counter_that_may_not_be_read_is_no_meter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = zone(tmp_path, "intel-rapl:0", "package-0", 1)
    allowed, read = True, Path.read_bytes

    def guarded(path: Path) -> bytes:
        if path == counter and not allowed:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", guarded)  # root may read all, so a mode of 0 would prove nothing there
    meter = rapl_meter(tmp_path)
    assert meter is not None
    allowed = False
    assert meter() is None  # lost on the way: not measured, and no crash
    assert rapl_meter(tmp_path) is None


def test_counter_that_holds_no_number_is_no_meter(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 1).write_text("\n")
    assert rapl_meter(tmp_path) is None


class FakeNVML(SimpleNamespace):
    """Two cards, numbered as the driver does; each counts millijoules."""

    class NVMLError(Exception):
        pass

    def __init__(self, has_driver: bool = True, counts: bool = True) -> None:
        super().__init__(millijoules={"GPU-aa": 1000, "GPU-bb": 50_000}, has_driver=has_driver, counts=counts)

    def nvmlInit(self) -> None:  # noqa: N802 - NVML's own names
        if not self.has_driver:
            raise self.NVMLError("Driver Not Loaded")

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        if uuid not in self.millijoules:
            raise self.NVMLError("Not Found")
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, card: str) -> int:  # noqa: N802
        if not self.counts:
            raise self.NVMLError("Not Supported")
        return self.millijoules[card]


def test_card_is_found_by_its_uuid_and_counted_in_joules(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNVML()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    meter = nvml_meter("bb")
    assert meter is not None
    before = meter()
    nvml.millijoules["GPU-aa"] += 9999  # a neighbour's
    nvml.millijoules["GPU-bb"] += 2500
    after = meter()
    assert before is not None
    assert after is not None
    assert after - before == pytest.approx(2.5)
    nvml.counts = False
    assert meter() is None


@pytest.mark.parametrize(
    ("nvml", "uuid"),
    [
        (None, "aa"),
        (FakeNVML(has_driver=False), "aa"),
        (FakeNVML(counts=False), "aa"),
        (FakeNVML(), "cc"),
    ],
    ids=["no package", "no driver", "a card that doesn't count", "a card that NVML doesn't know"],
)
def test_card_that_cannot_be_read_has_no_meter(
    nvml: FakeNVML | None, uuid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml)  # None: the import fails, as without the package
    assert nvml_meter(uuid) is None
