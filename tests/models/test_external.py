"""Other people's models: planned, sized to the dataset, trained in the same loop; what is said where they don't fit."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bench.config.plan import Plan, load_plan
from bench.config.suite_file import read_suite
from bench.data.dataset import load_dataset
from bench.errors import SuiteError
from bench.execution.local import Subprocess
from bench.inference.predict import probabilities
from bench.inference.saved_model import load_trial
from bench.training.optim import FusedAdam
from bench.training.run import run_trial
from models import build_meta_model, build_model, find_model, source_of, starts_alike
from models.external import RepeatedChannels

pytest.importorskip("timm", reason="timm's models are an extra")

PlanOf = Callable[..., Plan]

# name -> keyword arguments that make it small
TIMM_VIT = {"patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 2}
SMALL: dict[str, dict[str, Any]] = {
    "timm:resnet10t": {"channels": [[8, 8, 16, 16]]},  # a list is a sweep, so a value that is one stands in a list
    "timm:vit_tiny_patch16_224": TIMM_VIT,
    "torchvision:mobilenet_v3_small": {"reduced_tail": True},
}

MODULE = """\
import copy
import numpy
import torch
from torch import nn

def make(image_size, in_channels, num_classes, hidden=8):
    sizes = in_channels * image_size**2, hidden
    return nn.Sequential(nn.Flatten(), nn.Linear(*sizes), nn.ReLU(), nn.Linear(hidden, num_classes))

class Net(nn.Sequential):
    def __init__(self, num_classes, depth=1, **rest):
        self.told = dict(rest)
        super().__init__(nn.Flatten(), nn.LazyLinear(4) if depth > 9 else nn.Linear(64, num_classes))

class Family:
    @staticmethod
    def small(num_classes):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))

def looks_at_numbers(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, int(torch.tensor(float(num_classes)).item())))

SHARED = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
def shared(num_classes): return SHARED
def tied(num_classes): return nn.Sequential(nn.Flatten(), SHARED[1], nn.Linear(10, num_classes))
class Squeezes(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.head = nn.Linear(64, num_classes)
    def forward(self, x): return self.head(x.flatten(1)).squeeze()
def leaves(num_classes): raise SystemExit("no licence")
class LeavesLater(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.head, self.calls = nn.Linear(64, num_classes), 0
    def forward(self, x):
        self.calls += 1
        if self.calls > 5: raise SystemExit("enough")
        return self.head(x.flatten(1))
class Keeps(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.head, self.kept = nn.Linear(64, num_classes), {"times": 0}
    def forward(self, x): return self.head(x.flatten(1))
    def get_extra_state(self): return self.kept
    def set_extra_state(self, kept): self.kept = kept
class Fourier(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.filter = nn.Parameter(torch.ones(8, 5, dtype=torch.complex64))
        self.head = nn.Linear(64, num_classes)
    def forward(self, x):
        return self.head(torch.fft.irfft2(torch.fft.rfft2(x) * self.filter, s=x.shape[-2:]).flatten(1))

def plain(num_classes): return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, num_classes))
TEMPLATE, ARRAY, LAYER = plain(10), numpy.ones((10, 64), "float32"), nn.Linear(64, 64)
KEPT = TEMPLATE.state_dict()
def assigned(num_classes):
    net = plain(num_classes)
    net.load_state_dict(KEPT, assign=True)
    return net
def wraps(num_classes):
    net = plain(num_classes)
    net[2].weight = nn.Parameter(KEPT["2.weight"][:num_classes])
    return net
def from_array(num_classes):
    net = plain(num_classes)
    net[2].weight = nn.Parameter(torch.as_tensor(ARRAY))
    return net
def one_statistic(num_classes):
    net = plain(num_classes)
    net[1].running_var = KEPT["1.running_var"]
    return net
def one_table(num_classes):
    net = plain(num_classes)
    net.register_buffer("table", KEPT["1.running_var"])
    net[1].weight = nn.Parameter(KEPT["1.weight"], requires_grad=False)
    return net
def sure(num_classes): return nn.Sequential(plain(num_classes), nn.Softmax(dim=1))
def copies(num_classes): return copy.deepcopy(TEMPLATE)
def loads(num_classes):
    net = plain(num_classes)
    net.load_state_dict(KEPT)
    return net
POOL = [plain(10) for _ in range(100)]
for each in POOL: each.load_state_dict(KEPT)
def pool(num_classes): return POOL.pop()

class Lists(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.layers = [nn.Linear(64, 64), nn.Linear(64, 64)]
        self.head = nn.Linear(64, num_classes)
    def forward(self, x):
        x = x.flatten(1)
        for layer in self.layers: x = layer(x).relu()
        return self.head(x)
class Everybodys(Lists):
    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.layers = [LAYER]
class Tensor(Lists):
    def __init__(self, num_classes):
        super().__init__(num_classes)
        scale = torch.ones(64, requires_grad=True)
        self.layers = [lambda x: x * scale]
class Registered(Lists):
    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.layers = nn.ModuleList(self.layers)
        self.again = [*self.layers]
class Frozen(Lists):
    def __init__(self, num_classes):
        super().__init__(num_classes)
        for layer in self.layers: layer.requires_grad_(False)
class Teacher(Lists):
    def forward(self, x):
        with torch.no_grad(): taught = self.layers[0](x.flatten(1))
        return self.head(taught)
def unsigned(num_classes, **rest): return plain(num_classes)
unsigned.__signature__ = "whatever you like"
class Auxiliary(Lists):
    def forward(self, x):
        x = x.flatten(1)
        return (self.head(x), self.layers[0](x)) if self.training else self.head(x)
class Pairs(Lists):
    def forward(self, x):
        if len(x) < 2: raise ValueError("too few")
        return self.head(x.flatten(1))
class AsksForMore(Lists):
    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.layers = [lambda x: x.detach().requires_grad_()]

def without_classes(image_size): return nn.Flatten()
def fails(num_classes): raise RuntimeError("no\\n  luck")
def nothing(num_classes): return None
def untrainable(num_classes): return nn.Flatten()
def too_few(num_classes): return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes - 1))
def for_colour(num_classes): return nn.Sequential(nn.Conv2d(3, num_classes, 8), nn.Flatten())
def two_outputs(num_classes): return nn.LSTM(8, num_classes)
a_number = 3
"""


@pytest.fixture
def plan_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlanOf:
    """The plan of one entry on digits, with my_net.py in the current folder."""
    (tmp_path / "my_net.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "net.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / "broken.py").write_text("import no_such_library\n", encoding="utf-8")
    (tmp_path / "leaves.py").write_text("raise SystemExit(3)\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("my_net", "package", "package.net", "broken", "leaves"):
        monkeypatch.delitem(sys.modules, name, raising=False)

    def make(entry: dict[str, Any] | str, *options: str) -> Plan:
        if isinstance(entry, dict):
            entry = f"dataset: digits\nmodels:\n  - {json.dumps(entry)}\nepochs: 1\nbatch_size: 250\n"
        (tmp_path / "mine.yaml").write_text(entry, encoding="utf-8")
        return load_plan(read_suite(Path("mine.yaml"), ["instrument_seconds=0", *options]))

    return make


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.slow
def test_a_librarys_model_is_planned_and_trained(name: str, plan_of: PlanOf) -> None:
    plan = plan_of({"model": name} | SMALL[name], "evaluations_per_epoch=1", "num_threads=1")
    [trial] = plan.trials
    library = name.partition(":")[0]
    assert trial.label.startswith(name)
    assert (trial.source or "").startswith(f"{library} {sys.modules[library].__version__.partition('+')[0]}")
    result = run_trial(trial)
    assert result.status == "ok", result.error
    assert result.num_params == plan.num_params[trial.config_id]
    assert (result.patch_size, result.depth) == (SMALL[name].get("patch_size"), SMALL[name].get("depth"))
    assert len(result.evaluations) == 1


def test_keyword_arguments_are_swept(plan_of: PlanOf) -> None:
    plan = plan_of({"model": "my_net:make", "hidden": [4, 8], "learning_rate": [1e-3, 1e-2]})
    found = [(trial.settings["hidden"], trial.training.learning_rate) for trial in plan.trials]
    assert found == [(4, 1e-3), (4, 1e-2), (8, 1e-3), (8, 1e-2)]
    assert [plan.num_params[trial.config_id] for trial in plan.trials] == [65 * 4 + 50, 65 * 4 + 50] + [65 * 8 + 90] * 2
    assert {trial.recipe for trial in plan.trials} == {"plain"}
    assert {trial.label for trial in plan.trials} == {"make fp32"}


@pytest.mark.parametrize(
    "name", ["my_net:make", "my_net:Net", "my_net:Family.small", "my_net:unsigned", "package.net:make"]
)
def test_a_factory_is_a_function_or_a_class_of_any_module(name: str, plan_of: PlanOf) -> None:
    plan = plan_of({"model": name})
    assert all(count > 0 for count in plan.num_params.values())


def test_a_factory_is_told_what_it_takes(plan_of: PlanOf) -> None:
    plan_of({"model": "my_net:Net"})
    model = build_model("my_net:Net", {"other": "x"}, image_size=8, in_channels=1, num_classes=10)
    assert model.told == {"image_size": 8, "in_channels": 1, "other": "x"}


def test_what_cannot_be_built_without_numbers_is_built_with_them(plan_of: PlanOf) -> None:
    before = torch.get_rng_state()
    [trial] = plan_of({"model": "my_net:looks_at_numbers"}).trials
    assert run_trial(trial).status == "ok"
    sketched = build_meta_model("my_net:looks_at_numbers", {}, 8, 1, 10)
    assert {parameter.device.type for parameter in sketched.parameters()} == {"cpu"}
    torch.set_rng_state(before)
    build_meta_model("my_net:looks_at_numbers", {}, 8, 1, 10)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.slow
def test_a_users_model_is_trained_in_a_process_of_its_own(plan_of: PlanOf) -> None:
    [trial] = plan_of({"model": "my_net:make", "hidden": 4}).trials
    executor = Subprocess()
    result = executor.run(trial, None, lambda message: None)
    executor.close()
    assert result.status == "ok", result.error
    assert result.num_params == 65 * 4 + 50
    assert result.model == "my_net:make"
    assert result.source == trial.source


def test_a_changed_file_is_another_configuration(plan_of: PlanOf, tmp_path: Path) -> None:
    [before] = plan_of({"model": "my_net:make"}).trials
    assert plan_of({"model": "my_net:make"}).trials[0].trial_id == before.trial_id
    (tmp_path / "my_net.py").write_text(MODULE + "# changed\n", encoding="utf-8")
    [after] = plan_of({"model": "my_net:make"}).trials
    assert after.config_id != before.config_id
    assert len(after.source or "") == len("sha256:") + 12


def test_a_factory_imported_from_elsewhere_has_both_files_as_its_source(plan_of: PlanOf, tmp_path: Path) -> None:
    (tmp_path / "front.py").write_text("from my_net import make\n", encoding="utf-8")
    plan_of({"model": "front:make"})
    before = source_of("front:make")
    (tmp_path / "my_net.py").write_text(MODULE + "# changed\n", encoding="utf-8")
    assert source_of("front:make") != before


def test_grey_images_become_three_equal_channels_for_torchvision() -> None:
    images = torch.randn(2, 1, 4, 4)
    assert torch.equal(RepeatedChannels(nn.Identity())(images), images.repeat(1, 3, 1, 1))
    grey = build_model("torchvision:squeezenet1_1", {}, image_size=28, in_channels=1, num_classes=10)
    colour = build_model("torchvision:squeezenet1_1", {}, image_size=28, in_channels=3, num_classes=10)
    colour.load_state_dict({key.removeprefix("model."): value for key, value in grey.state_dict().items()})
    images = torch.randn(2, 1, 28, 28)
    torch.testing.assert_close(grey.eval()(images), colour.eval()(images.repeat(1, 3, 1, 1)))


def test_models_are_sized_to_the_image_where_the_library_allows() -> None:
    vit = build_meta_model("timm:vit_tiny_patch16_224", TIMM_VIT | {"patch_size": 7}, 28, 1, 10)
    assert vit.get_parameter("pos_embed").shape == (1, 17, 32)
    large = build_meta_model("torchvision:vit_b_32", {}, 64, 3, 10)
    assert large.get_parameter("encoder.pos_embedding").shape == (1, 5, 768)
    for name in ("timm:resnet10t", "torchvision:resnet18"):
        assert build_meta_model(name, {}, 32, 3, 10).training


ENTRY = """\
dataset: digits
models:
  - model: my_net:make
    hidden: 4
"""


@pytest.mark.parametrize(
    ("written", "instead", "said"),
    [
        ("my_net:make", "mynet:make", "mine.yaml:3: there is no module 'mynet', neither in "),
        ("my_net:make", "package.nett:make", "mine.yaml:3: there is no module 'package.nett', neither in "),
        ("my_net:make", "my_net.x:make", "mine.yaml:3: there is no module 'my_net.x'"),
        (
            "my_net:make",
            "broken:make",
            "mine.yaml:3: module 'broken' can't be imported: ModuleNotFoundError: No module",
        ),
        ("my_net:make", "leaves:make", "mine.yaml:3: module 'leaves' can't be imported: SystemExit: 3"),
        ("my_net:make", "my_net:mak", "my_net.py) has no 'mak'; did you mean 'make'?"),
        ("my_net:make", "my_net:a_number", "mine.yaml:3: my_net:a_number can't be called: it is of type int"),
        ("my_net:make", "'my_net:'", "mine.yaml:3: 'my_net:' is no name of a model; they look like timm:NAME, "),
        ("my_net:make", "'a b:c'", "mine.yaml:3: 'a b:c' is no name of a model"),
        ("hidden: 4", "hiden: 4", "mine.yaml:4: my_net:make takes no 'hiden'; did you mean 'hidden'?"),
        ("hidden: 4", "hidden: x", "mine.yaml:3: my_net:make can't be built: TypeError: "),
        ("hidden: 4", "num_classes: 4", "mine.yaml:4: num_classes of my_net:make is the dataset's; leave it out"),
        (
            "make\n    hidden: 4",
            "without_classes",
            "mine.yaml:3: my_net:without_classes takes no 'num_classes'; it has",
        ),
        ("make\n    hidden: 4", "fails", "mine.yaml:3: my_net:fails can't be built: RuntimeError: no luck"),
        ("make\n    hidden: 4", "nothing", "my_net:nothing gives an object of type NoneType; expected a torch.nn.Mod"),
        ("make\n    hidden: 4", "untrainable", "mine.yaml:3: my_net:untrainable has no parameters to train"),
        ("make\n    hidden: 4", "Net\n    depth: 10", "my_net:Net leaves sizes open (a lazy module)"),
        (
            "make\n    hidden: 4",
            "too_few",
            "gives a tensor of shape (2, 9) for 2 images in evaluation; expected logits",
        ),
        ("make\n    hidden: 4", "for_colour", "my_net:for_colour can't take images of 1x8x8: RuntimeError: "),
        ("make\n    hidden: 4", "two_outputs", "can't take images of 1x8x8: "),
        ("make\n    hidden: 4", "shared", "my_net:shared gives the same parameters each time that it is called"),
        ("make\n    hidden: 4", "assigned", "my_net:assigned gives the same parameters each time that it is called"),
        ("make\n    hidden: 4", "wraps", "clone() what they are made of"),
        (
            "make\n    hidden: 4",
            "from_array",
            "my_net:from_array gives the same parameters each time that it is called",
        ),
        (
            "make\n    hidden: 4",
            "one_statistic",
            "my_net:one_statistic shares '1.running_var' among all its models, and",
        ),
        (
            "make\n    hidden: 4",
            "Lists",
            "my_net:Lists computes with 4 tensors that aren't among its parameters, one of",
        ),
        ("make\n    hidden: 4", "Everybodys", "my_net:Everybodys computes with 2 tensors that aren't among its param"),
        ("make\n    hidden: 4", "Tensor", "one of shape (64,), and would never train them: put layers into nn.Modul"),
        (
            "make\n    hidden: 4",
            "sure",
            "my_net:sure gives probabilities; the loss expects logits: leave out its softmax",
        ),
        ("make\n    hidden: 4", "tied", "my_net:tied gives the same parameters each time that it is called"),
        (
            "make\n    hidden: 4",
            "Squeezes",
            "a tensor of shape (10,) for 1 image in evaluation; expected logits (1, 10)",
        ),
        ("make\n    hidden: 4", "Pairs", "my_net:Pairs can't take images of 1x8x8 one by one: ValueError: too few"),
        (
            "make\n    hidden: 4",
            "Auxiliary",
            "my_net:Auxiliary gives tuple for 2 images in training; expected logits (2, 10)",
        ),
        ("make\n    hidden: 4", "leaves", "my_net:leaves can't be built: SystemExit: no licence"),
        ("my_net:make", "timm:resnet10", "has no model 'resnet10'; did you mean 'resnet10t'?"),
        ("my_net:make", "timm:hf-hub/x", "has no model 'hf-hub/x'; see timm.list_models()"),
        ("my_net:make", "timm:resnet10t", "mine.yaml:4: timm:resnet10t takes no 'hidden'"),
        (
            "my_net:make\n    hidden: 4",
            "timm:resnet10t\n    pretrained: true",
            "mine.yaml:4: pretrained of timm:resnet",
        ),
        (
            "my_net:make\n    hidden: 4",
            "timm:vit_tiny_patch16_224",
            "patch_size 16 of timm:vit_tiny_patch16_224 does no",
        ),
        ("my_net:make", "torchvision:resnet", "mine.yaml:3: torchvision has no classifier 'resnet'; did you mean 'res"),
        ("my_net:make\n    hidden: 4", "torchvision:alexnet", "torchvision:alexnet can't take images of 1x8x8: "),
        (
            "my_net:make\n    hidden: 4",
            "torchvision:vit_b_16",
            "can't be built: AssertionError: Input shape indivisibl",
        ),
        (
            "my_net:make\n    hidden: 4",
            "torchvision:resnet18\n    weights: x",
            "mine.yaml:4: weights of torchvision:res",
        ),
        ("my_net:make", "my_net", "mine.yaml:3: unknown model 'my_net'; known: cnn, package.module:factory, timm:NAME"),
    ],
    ids=lambda text: " ".join(str(text).split())[:50],
)
def test_a_mistake_is_one_line_with_its_place(written: str, instead: str, said: str, plan_of: PlanOf) -> None:
    assert ENTRY.count(written) == 1
    with pytest.raises(SuiteError) as caught:
        plan_of(ENTRY.replace(written, instead))
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_library_that_is_not_installed_is_named_with_the_way_to_get_it(
    plan_of: PlanOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(SuiteError) as caught:
        plan_of({"model": "timm:resnet10t"})
    assert str(caught.value) == (
        "mine.yaml:3: timm's models need timm, which isn't installed: pip install \"timm>=1.0.9\""
    )


def test_a_model_with_dots_in_its_name_can_be_set(plan_of: PlanOf) -> None:
    for key in ("models.package.net:make.hidden", "models.0.hidden"):
        plan = plan_of({"model": "package.net:make"}, f"{key}=[2, 3]")
        assert [trial.settings["hidden"] for trial in plan.trials] == [2, 3]
    with pytest.raises(SuiteError, match=r"models\.0\.KEY means the first entry"):
        plan_of({"model": "package.net:make"}, "models.package.hidden=2")


@pytest.mark.slow
def test_libraries_are_not_loaded_before_they_are_named() -> None:
    code = "import sys, models; sys.exit('timm' in sys.modules or 'torchvision' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


def test_any_model_has_settings_and_a_builder() -> None:
    for name in ("vit", "cnn", "timm:resnet10t", "torchvision:resnet18"):
        settings_class, builder = find_model(name)
        assert callable(builder)
        assert isinstance(settings_class().model_dump(), dict)
    assert source_of("vit") is None


@pytest.mark.parametrize("name", ["Keeps", "Fourier"])
def test_what_a_module_keeps_besides_and_complex_weights_are_trained_and_saved(
    name: str, plan_of: PlanOf, tmp_path: Path
) -> None:
    [trial] = plan_of({"model": f"my_net:{name}"}).trials
    result = run_trial(trial, tmp_path / "trial")
    assert result.status == "ok", result.error
    saved = load_trial(tmp_path / "trial", trust=True)
    assert any("keeps more than tensors" in note for note in saved.notes) == (name == "Keeps")
    assert probabilities(saved, load_dataset("digits").test).shape == (297, 10)
    if name == "Fourier":
        assert not torch.equal(saved.model.state_dict()["filter"], torch.ones(8, 5, dtype=torch.complex64))


def test_a_model_that_ends_the_program_in_training_is_a_failed_trial(plan_of: PlanOf) -> None:
    [trial] = plan_of({"model": "my_net:LeavesLater"}).trials
    result = run_trial(trial)
    assert (result.status, result.error) == ("failed", "SystemExit: enough")


def test_complex_weights_take_the_steps_of_torchs_adam() -> None:
    torch.manual_seed(0)
    ours, theirs = (nn.Parameter(torch.ones(4, dtype=torch.complex64)) for _ in range(2))
    adam = FusedAdam([{"params": [ours]}], 1e-2, (0.9, 0.999), decoupled=False)
    torchs = torch.optim.Adam([theirs], 1e-2)
    for _ in range(5):
        gradient = torch.randn(4, dtype=torch.complex64)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        adam.step()
        torchs.step()
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("name", ["one_table", "Registered", "Frozen", "Teacher", "AsksForMore"])
def test_what_is_read_alone_or_frozen_or_made_by_each_pass_may_lie_where_it_likes(name: str, plan_of: PlanOf) -> None:
    plan = plan_of({"model": f"my_net:{name}"})
    assert len(plan.trials) == 1
    assert not plan.notes


@pytest.mark.parametrize("name", ["copies", "loads", "pool"])
def test_a_start_that_seeds_do_not_change_is_told(name: str, plan_of: PlanOf) -> None:
    plan = plan_of({"model": f"my_net:{name}", "learning_rate": [1e-3, 1e-2]}, "seeds=2")
    assert len(plan.trials) == 4
    assert plan.notes == (
        f"my_net:{name}: seeds don't change its start, so they tell only of the order of images and of dropout",
    )
    state = torch.get_rng_state()
    assert starts_alike(f"my_net:{name}", {}, 8, 1, 10)
    assert torch.equal(torch.get_rng_state(), state)
    for other in ("my_net:plain", "timm:resnet10t", "cnn"):
        assert plan_of({"model": other}).notes == ()


def test_probabilities_of_two_classes_are_refused_too_and_one_class_is_always_certain(plan_of: PlanOf) -> None:
    plan_of({"model": "my_net:plain"})
    with pytest.raises(ValueError, match="my_net:sure gives probabilities"):
        starts_alike("my_net:sure", {}, 8, 1, 2)
    assert not starts_alike("my_net:sure", {}, 8, 1, 1)


@pytest.mark.parametrize("name", ["models", "bench"])
def test_a_folder_that_ours_hides_is_named(name: str, plan_of: PlanOf, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "small.py").write_text(MODULE, encoding="utf-8")
    with pytest.raises(SuiteError, match=f"'{name}' is the package in .*, which hides your .*{name}: rename it"):
        plan_of({"model": f"{name}.small:make"})


@pytest.mark.parametrize("factory", ["make", "CNN"])  # ours has a CNN, too
@pytest.mark.parametrize("name", ["models", "bench", "test", "code", "copy", "time"])
def test_a_file_that_another_module_hides_is_named(name: str, factory: str, plan_of: PlanOf, tmp_path: Path) -> None:
    (tmp_path / f"{name}.py").write_text(MODULE + "class CNN(Lists): pass\n", encoding="utf-8")
    what = "(package|module) (in .*|built into Python)"
    with pytest.raises(SuiteError, match=rf"'{name}' is the {what}, which hides your .*{name}\.py: rename it"):
        plan_of({"model": f"{name}:{factory}"})


def test_a_module_of_a_package_that_ours_hides_is_named_even_where_ours_has_one(
    plan_of: PlanOf, tmp_path: Path
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "cnn.py").write_text(MODULE, encoding="utf-8")
    with pytest.raises(SuiteError, match=r"'models' is the package in .*, which hides your .*models: rename it"):
        plan_of({"model": "models.cnn:make"})


def test_a_typing_mistake_beside_a_folder_of_that_name_is_no_hidden_file(plan_of: PlanOf, tmp_path: Path) -> None:
    (tmp_path / "json").mkdir()
    with pytest.raises(SuiteError, match=r"module 'json' .* has no 'dump5'; did you mean 'dump"):
        plan_of({"model": "json:dump5"})
