"""A model built again from what its trial left: the same one, or one clear line."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from trained import untrained_trial

from bench.artefacts import BEST, INPUTS, LAST, TRIAL, Inputs, save_trial
from bench.data import load_dataset
from bench.errors import StoreError
from bench.saved import load_trial


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


@pytest.mark.parametrize("normalization", ["standard", "symmetric"])
def test_without_its_file_the_statistics_come_from_the_dataset(copy: Path, normalization: str) -> None:
    (copy / INPUTS).unlink()
    training = json.loads((copy / TRIAL).read_text())["training"] | {"normalization": normalization}
    changed(copy / TRIAL, training=training)
    saved = load_trial(copy)
    images = load_dataset("digits").train.images  # type: ignore[union-attr]
    pixels = saved.normalized(images)
    assert pixels.dtype == torch.float32
    if normalization == "symmetric":
        assert (float(pixels.min()), float(pixels.max())) == (-1, 1)
    else:
        assert abs(float(pixels.mean())) < 1e-4
        assert abs(float(pixels.std()) - 1) < 1e-3


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
        ({"model": "no_such_module:build"}, "there is no module 'no_such_module'"),
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


def test_images_of_ones_own_cannot_be_normalised_without_their_statistics(copy: Path) -> None:
    sizes = {"image_size": 8, "in_channels": 1, "class_names": ["a"], "num_train": 9, "num_val": 1, "num_test": 1}
    changed(copy / TRIAL, data={"name": "mine", "kind": "csv", "path": "/gone.csv", "checksum": "0", **sizes})
    assert load_trial(copy).inputs.num_classes == 10  # its own file is all that is needed
    (copy / INPUTS).unlink()
    assert "nobody knows how mine's images were normalised" in complaint(copy)


def test_a_model_whose_code_changed_since_says_so(made: Path, copy: Path) -> None:
    assert load_trial(made).notes == ()
    changed(copy / TRIAL, source="timm 0.1")
    assert "was trained as timm 0.1" in load_trial(copy).notes[0]
