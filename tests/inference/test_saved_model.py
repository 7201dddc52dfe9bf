"""A model built again from what its trial left: the same one, or one clear line."""

import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from trained import untrained_trial

from bench.cli.trained import predict, show
from bench.data.dataset import load_dataset
from bench.errors import StoreError
from bench.inference.saved_model import MOST_JSON, load_trial
from bench.training.checkpoint import BEST, INPUTS, LAST, TRIAL, Inputs, save_trial
from bench.trial import Trial

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained_trial(tmp_path_factory.mktemp("run") / "trials" / "one")


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    """A trial's folder to be damaged."""
    return Path(shutil.copytree(made, tmp_path / "trial"))


def changed(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def complaint(folder: Path) -> str:
    with pytest.raises(StoreError) as caught:
        load_trial(folder)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 400 + len(str(folder))
    return text


def test_a_loaded_model_has_the_weights_that_validation_chose_and_is_ready_to_be_asked(copy: Path) -> None:
    best = {name: tensor + 1 for name, tensor in load_file(copy / LAST).items()}
    save_file(best, copy / BEST)
    saved = load_trial(copy)
    assert not saved.model.training
    assert saved.trial.model == "vit"
    assert all(torch.equal(tensor, best[name]) for name, tensor in saved.model.state_dict().items())
    assert saved.inputs.class_names == tuple("0123456789")


def test_sizes_and_statistics_survive_the_disk_exactly(tmp_path: Path) -> None:
    data = load_dataset("digits")
    save_trial(tmp_path / "t", {}, {}, {}, {}, Inputs.of(data))
    again = Inputs.model_validate_json((tmp_path / "t" / INPUTS).read_bytes())
    assert again == Inputs.of(data)
    assert torch.equal(torch.tensor(again.mean).view(1, -1, 1, 1), data.mean)
    assert torch.equal(torch.tensor(again.std).view(1, -1, 1, 1), data.std)


def test_a_model_in_half_precision_comes_back_in_it(tmp_path: Path) -> None:
    saved = load_trial(untrained_trial(tmp_path / "t", "cnn", dtype="bf16"))
    state = load_file(tmp_path / "t" / BEST)
    assert {tensor.dtype for tensor in saved.model.parameters()} == {torch.bfloat16}
    assert all(torch.equal(tensor, state[name]) for name, tensor in saved.model.state_dict().items())


def test_a_folder_that_is_no_trial_says_what_would_be(made: Path, tmp_path: Path) -> None:
    assert "there is no such folder" in complaint(tmp_path / "nowhere")
    assert "has no trial.json" in complaint(tmp_path)
    assert f"name one, such as {made}" in complaint(made.parent.parent)


class Trap:
    """What a pickle can do to whoever opens it."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return Path.touch, (Path("sprung"),)  # type: ignore[return-value]


def test_pickles_are_not_opened(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copy)
    (copy / BEST).unlink()
    (copy / "model.pt").write_bytes(pickle.dumps(Trap()))
    assert "model.pt is a pickle, which could run code, and is not opened" in complaint(copy)
    for protocol in (2, pickle.HIGHEST_PROTOCOL):
        (copy / BEST).write_bytes(pickle.dumps(Trap(), protocol))
        assert "is a pickle" in complaint(copy)
    torch.save({"w": torch.zeros(1)}, copy / BEST)
    assert "is a pickle" in complaint(copy)
    assert not (copy / "sprung").exists()


@pytest.mark.parametrize("end", [0, 4, 200, -1])
def test_weights_cut_short_are_one_line(copy: Path, end: int) -> None:
    content = (copy / BEST).read_bytes()
    (copy / BEST).write_bytes(content[:end])
    assert f"{BEST}: is not a whole safetensors file" in complaint(copy)


def test_missing_weights_are_one_line(copy: Path) -> None:
    (copy / BEST).unlink()
    assert f"{BEST}: missing" in complaint(copy)


def test_weights_of_another_model_are_one_line(copy: Path) -> None:
    state = load_file(copy / BEST)
    save_file({**state, "head.weight": torch.zeros(3, 16)}, copy / BEST)
    assert "head.weight is (3, 16), expected (10, 16)" in complaint(copy)
    save_file({**state, "extra": torch.zeros(2)}, copy / BEST)
    assert "extra is (2,), expected nothing" in complaint(copy)
    del state["norm.weight"], state["norm.bias"]
    save_file(state, copy / BEST)
    assert "norm.weight is nothing, expected (16,), and 1 more" in complaint(copy)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": "vti"}, "no model is called 'vti'"),
        ({"model": "no_such_module:build"}, "names code, no_such_module:build"),
        ({"settings": {"patch_size": 5}}, "patch_size 5 does not divide image_size 8"),
        ({"settings": {"patches": 4}}, "the model can't be built"),
        ({"dtype": "int4"}, "no numeric mode is called 'int4'"),
        ({"seed": "x"}, "seed: "),
        ({"from_the_future": 1}, "from_the_future: "),
    ],
)
def test_a_description_that_does_not_fit_is_one_line(copy: Path, changes: dict[str, Any], said: str) -> None:
    changed(copy / TRIAL, **changes)
    text = complaint(copy)
    assert said in text
    assert str(copy / TRIAL) in text


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (TRIAL, "{", "damaged, or of another version"),
        (TRIAL, "[1]", "damaged, or of another version"),
        (INPUTS, '{"title": "x"}', "image_size: Field required"),
        (INPUTS, "\x00", "damaged, or of another version"),
    ],
)
def test_damaged_json_is_one_line(copy: Path, name: str, content: str, said: str) -> None:
    (copy / name).write_text(content)
    text = complaint(copy)
    assert said in text
    assert str(copy / name) in text


def test_statistics_for_another_number_of_channels_are_one_line(copy: Path) -> None:
    changed(copy / INPUTS, mean=[1.0, 2.0])
    assert "has a mean for 2 channels, of 1" in complaint(copy)


def test_without_statistics_images_cannot_be_normalised(copy: Path) -> None:
    (copy / INPUTS).unlink()
    assert "nobody knows how images were normalised" in complaint(copy)


def test_a_model_whose_code_changed_since_says_so(made: Path, copy: Path) -> None:
    assert load_trial(made).notes == ()
    changed(copy / TRIAL, source="timm 0.1")
    assert "was trained as timm 0.1" in load_trial(copy).notes[0]


class TestATrialOfSomebodyElse:
    """A folder that was made to harm whoever opens it."""

    @pytest.fixture
    def factory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
        """A module that leaves a trace when it is imported."""
        monkeypatch.chdir(tmp_path)
        (tmp_path / "planted_model.py").write_text(
            "import pathlib, sys\npathlib.Path('sprung').touch()\n"
            "from models import build_model\n"
            "def build(num_classes, **settings):\n"
            "    return build_model('cnn', {'depth': 1, 'width': 4}, 8, 1, num_classes)\n"
        )
        yield "planted_model:build"
        sys.modules.pop("planted_model", None)
        sys.path[:] = [place for place in sys.path if place != str(tmp_path)]

    def test_code_that_it_names_is_not_imported_unless_trusted(self, tmp_path: Path, factory: str) -> None:
        folder = untrained_trial(tmp_path / "t", "cnn")
        changed(folder / TRIAL, model=factory, settings={})
        for command in ("predict", "show"):
            more = ["--image", "0"] if command == "show" else []
            failed = CliRunner().invoke({"predict": predict, "show": show}[command], [str(folder), *more])
            assert isinstance(failed.exception, StoreError)
            assert "names code, planted_model:build" in str(failed.exception)
            assert "--trust" in str(failed.exception)
        with pytest.raises(StoreError):
            load_trial(folder, trust={"another-trial"})
        assert not (tmp_path / "sprung").exists()
        trial = Trial.model_validate_json((folder / TRIAL).read_bytes())
        assert load_trial(folder, trust={trial.trial_id}).trial.model == factory
        assert (tmp_path / "sprung").exists()

    @pytest.mark.parametrize("model", ["os:system", "torch.hub:load", "timm.models:x", "pdb:run", ":x", "a:"])
    def test_any_name_with_a_colon_that_is_no_librarys_is_code(self, copy: Path, model: str) -> None:
        changed(copy / TRIAL, model=model)
        assert f"names code, {model}, that would be imported" in complaint(copy)

    @pytest.mark.parametrize("name", ["weights.pt", "weights.ckpt", "weights.bin", "weights.txt"])
    def test_a_file_in_place_of_a_folder_says_what_would_do(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_bytes(pickle.dumps(Trap()))
        text = complaint(tmp_path / name)
        assert ("a pickle could run code" in text) == (not name.endswith("txt"))
        assert "name the folder of a trial" in text
        assert isinstance(CliRunner().invoke(predict, [str(tmp_path / name)]).exception, StoreError)

    @pytest.mark.parametrize(
        ("name", "changes", "said"),
        [
            (INPUTS, {"image_size": 10**9}, "image_size 1,000,000,000 is beyond all sense"),
            (INPUTS, {"in_channels": 10**9}, "in_channels 1,000,000,000 is beyond all sense"),
            (INPUTS, {"image_size": 8000}, "doesn't fit the model"),
            (INPUTS, {"mean": [float("nan")]}, "mean.0: Input should be a finite number"),
            (INPUTS, {"std": [float("inf")]}, "std.0: Input should be a finite number"),
            (INPUTS, {"std": [0.0]}, "std.0: Input should be greater than 0"),
            (INPUTS, {"in_channels": 0, "mean": [], "std": []}, "in_channels: Input should be greater than"),
            (INPUTS, {"image_size": 0}, "image_size: Input should be greater than"),
            (INPUTS, {"class_names": []}, "class_names: Tuple should have at least 1 item"),
            (TRIAL, {"settings": {"depth": 10**9}}, "depth 1000000000, of"),
            (TRIAL, {"settings": {"embed_dim": 2**40, "num_heads": 2}}, "trial"),
            (TRIAL, {"settings": {"embed_dim": 10**30}}, "can't be built"),
            (TRIAL, {"model": "timm:convnext_atto", "settings": {"depths": [1, 10**8, 1, 1]}}, "depths 100000000, of"),
            (TRIAL, {"dtype": "\x1b[2J" * 99}, "no numeric mode is called '\\x1b[2J"),
            (TRIAL, {"\x1b[2J\n": 1}, r"\x1b[2J"),
        ],
    )
    def test_sizes_that_lie_are_one_line(self, copy: Path, name: str, changes: dict[str, Any], said: str) -> None:
        """In memory of the weights' size: a model of 10^9 pixels or 2^40 features would end this process."""
        changed(copy / name, **changes)
        text = complaint(copy)
        assert said in text
        assert text.isprintable()

    def test_a_description_without_end_is_not_read(self, copy: Path) -> None:
        with open(copy / TRIAL, "wb") as file:
            file.truncate(MOST_JSON + 1)  # a hole: it takes no place
        assert "more than 16 MiB" in complaint(copy)

    @pytest.mark.parametrize(
        "lie",
        [
            "offsets beyond the end",
            "overlap",
            "a hole",
            "shape too large",
            "negative",
            "unknown kind",
            "deep",
            "header",
        ],
    )
    def test_weights_that_lie_about_themselves_are_one_line(self, copy: Path, lie: str) -> None:
        content = (copy / BEST).read_bytes()
        size = int.from_bytes(content[:8], "little")
        header, body = json.loads(content[8 : 8 + size]), content[8 + size :]
        header.pop("__metadata__", None)
        first, second = sorted(header, key=lambda name: header[name]["data_offsets"])[:2]
        if lie == "offsets beyond the end":
            header[first]["data_offsets"][1] = 2**62
        elif lie == "overlap":
            header[second]["data_offsets"] = header[first]["data_offsets"]
        elif lie == "a hole":
            del header[first]
        elif lie == "shape too large":
            header[first]["shape"] = [2**31, 2**31, 4]
        elif lie == "negative":
            header[first]["shape"] = [-1]
        elif lie == "unknown kind":
            header[first]["dtype"] = "PYOBJ"
        text = json.dumps(header).encode()
        text = b'{"a":' * 100_000 if lie == "deep" else text
        length = 2**40 if lie == "header" else len(text)
        (copy / BEST).write_bytes(length.to_bytes(8, "little") + text + body)
        assert f"{BEST}: is not a whole safetensors file" in complaint(copy)

    def test_weights_of_another_kind_of_number_or_that_are_none_are_one_line(self, copy: Path) -> None:
        state = load_file(copy / BEST)
        save_file({**state, "head.bias": state["head.bias"].double()}, copy / BEST)
        assert "head.bias is of float64, expected float32" in complaint(copy)
        save_file({**state, "head.bias": torch.full((10,), torch.nan)}, copy / BEST)
        assert "head.bias holds what isn't a finite number" in complaint(copy)

    def test_a_report_imports_no_model(self) -> None:
        code = "import bench.report.side_by_side, sys; sys.exit('torch' in sys.modules or 'models' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
