"""The examples do what they say: Kaggle-style files, a checker of submissions, a notebook that runs."""

import copy
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from bench.data.download import Fetched, is_here
from bench.data.spec import Arrays
from examples import check_submission, make_kaggle_csv

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "examples" / "vit_vs_cnn.ipynb"


def digits(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (count, 784), each with its number in its first two pixels, and labels."""
    dice = np.random.default_rng(0)
    images = dice.integers(0, 256, (count, 784)).astype(np.uint8)
    images[:, 0], images[:, 1] = np.arange(count) // 256, np.arange(count) % 256
    return images, dice.integers(0, 10, count).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kaggle")
    make_kaggle_csv.write_files(folder, *digits(700), rows=300, seed=0)
    return folder


class TestKaggleFiles:
    def test_files_hold_images_and_labels_as_they_are(self, folder: Path) -> None:
        images, labels = digits(700)
        train, test = pd.read_csv(folder / "train.csv"), pd.read_csv(folder / "test.csv")
        assert list(train.columns) == ["label", *(f"pixel{i}" for i in range(784))]
        assert list(test.columns) == list(train.columns[1:])
        assert (len(train), len(test)) == (300, 200)
        places = 256 * train["pixel0"] + train["pixel1"]
        assert (images[places] == train.drop(columns="label").to_numpy()).all()
        assert (labels[places] == train["label"]).all()
        to_predict = 256 * test["pixel0"] + test["pixel1"]
        solution = pd.read_csv(folder / "solution.csv")
        assert (labels[to_predict] == solution["Label"]).all()
        assert len({*places, *to_predict}) == 500, "an image is in both files, or twice in one"

    def test_the_same_seed_deals_out_the_same(self, folder: Path, tmp_path: Path) -> None:
        make_kaggle_csv.write_files(tmp_path / "again", *digits(700), rows=300, seed=0)
        make_kaggle_csv.write_files(tmp_path / "other", *digits(700), rows=300, seed=1)
        for name in make_kaggle_csv.FILES:
            assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()
        assert (tmp_path / "other" / "train.csv").read_bytes() != (folder / "train.csv").read_bytes()

    def test_files_that_are_there_are_left_alone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        images, labels = digits(60)
        arrays = Arrays(
            images[:50].reshape(-1, 1, 28, 28), labels[:50], images[50:].reshape(-1, 1, 28, 28), labels[50:]
        )
        monkeypatch.setattr(make_kaggle_csv, "fetch", lambda name, folder: Fetched(tmp_path, "0"))
        monkeypatch.setattr(make_kaggle_csv, "read_arrays", lambda name, folder: arrays)
        (tmp_path / "train.csv").write_text("mine")
        runner = CliRunner()
        refused = runner.invoke(make_kaggle_csv.main, [str(tmp_path), "--rows", "30"])
        assert refused.exit_code != 0
        assert "train.csv is there already; name another folder" in refused.output
        assert (tmp_path / "train.csv").read_text() == "mine"
        done = runner.invoke(make_kaggle_csv.main, [str(tmp_path), "--rows", "30", "--overwrite"])
        assert done.exit_code == 0, done.output
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(make_kaggle_csv.FILES), (
            "a partial file is left"
        )

    def test_whole_program_with_mnist(self, tmp_path: Path) -> None:
        if not is_here("mnist"):
            pytest.skip("MNIST isn't on this machine, and tests download nothing")
        command = [sys.executable, str(ROOT / "examples" / "make_kaggle_csv.py"), "small", "--rows", "30"]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
        command = [sys.executable, str(ROOT / "examples" / "check_submission.py"), "small/solution.csv"]
        command += ["--test", "small/test.csv", "--solution", "small/solution.csv"]
        done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
        assert done.stdout == "ok: small/solution.csv has 20 predictions, accuracy 100.00%\n"
        assert done.returncode == 0


class TestSubmission:
    @pytest.fixture
    def check(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
        """Contents of a submission for three images -> exit status, what was printed."""
        (tmp_path / "test.csv").write_text("pixel0,pixel1\n1,2\n3,4\n5,6\n")
        (tmp_path / "solution.csv").write_text("ImageId,Label\n1,7\n2,0\n3,9\n")

        def run(contents: str | bytes, *more: str) -> tuple[int, str]:
            path = tmp_path / "submission.csv"
            path.write_bytes(contents if isinstance(contents, bytes) else contents.encode())
            status = check_submission.main([str(path), "--test", str(tmp_path / "test.csv"), *more])
            return status, capsys.readouterr().out.replace(str(tmp_path / "submission.csv"), "FILE")

        return run

    @pytest.mark.parametrize(
        "contents",
        [
            "ImageId,Label\n1,7\n2,0\n3,9\n",
            "ImageId,Label\r\n3,9\r\n1,7\r\n2,0",
            '"ImageId","Label"\n1,7\n2,"0"\n3,9\n',
        ],
    )
    def test_kaggles_format_is_taken(self, check: Any, contents: str) -> None:
        assert check(contents) == (0, "ok: FILE has 3 predictions\n")

    def test_with_the_solution_it_tells_the_accuracy(self, check: Any, tmp_path: Path) -> None:
        status, said = check("ImageId,Label\n1,7\n2,1\n3,9\n", "--solution", str(tmp_path / "solution.csv"))
        assert (status, said) == (0, "ok: FILE has 3 predictions, accuracy 66.67%\n")

    @pytest.mark.parametrize(
        ("contents", "fault"),
        [
            ("", "the first line is '', not 'ImageId,Label'"),
            ("1,7\n2,0\n3,9\n", "the first line is '1,7'"),
            ("imageid,label\n1,7\n2,0\n3,9\n", "the first line is 'imageid,label'"),
            (",ImageId,Label\n0,1,7\n1,2,0\n2,3,9\n", "the first line is ',ImageId,Label'"),
            ("ImageId,Label\n1,7\n2,0\n", "2 predictions, not 3; the first that is missing is 3"),
            ("ImageId,Label\n1,7\n2,0\n3,9\n4,1\n", "line 5: ImageId '4' is not a whole number from 1 to 3"),
            ("ImageId,Label\n0,7\n1,0\n2,9\n", "line 2: ImageId '0'"),
            ("ImageId,Label\n1,7\n1,0\n3,9\n", "line 3: ImageId 1 is there twice"),
            ("ImageId,Label\n1.0,7\n2,0\n3,9\n", "line 2: ImageId '1.0'"),
            ("ImageId,Label\n1,7.0\n2,0\n3,9\n", "line 2: label '7.0' is not a whole number from 0 to 9"),
            ("ImageId,Label\n1,7\n2,10\n3,9\n", "line 3: label '10'"),
            ("ImageId,Label\n1,7\n2, 0\n3,9\n", "line 3: label ' 0'"),
            ("ImageId,Label\n1,7\n2,\n3,9\n", "line 3: label ''"),
            ("ImageId,Label\n1,7\n\n2,0\n3,9\n", "line 3: 0 columns, not 2"),
            ("ImageId,Label\n1,٧\n2,0\n3,9\n", "line 2: label '٧'"),
            ('ImageId,Label\n1,"7\n2,0\n3,9\n', "not CSV"),
            (b"\xef\xbb\xbfImageId,Label\n1,7\n2,0\n3,9\n", "byte order mark"),
            (b"\xff\xfeI\x00", "byte order mark"),
            (b"ImageId,Label\n1,\xe9\n", "byte 17 is not UTF-8"),
        ],
    )
    def test_anything_else_is_one_line_that_says_where(self, check: Any, contents: str | bytes, fault: str) -> None:
        status, said = check(contents)
        assert status == 1
        assert fault in said
        assert said.count("\n") == 1

    def test_a_test_file_that_is_missing_is_another_matter(self, tmp_path: Path) -> None:
        assert check_submission.main([str(tmp_path / "any.csv"), "--test", str(tmp_path / "none.csv")]) == 2


@pytest.fixture(scope="module")
def notebook() -> Any:
    if not all(map(find_spec, ("nbformat", "nbclient", "ipykernel"))):
        pytest.skip("nbformat, nbclient and ipykernel aren't installed")
    import nbformat

    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run of the notebook's suite, without its report, whose pictures take most of the time."""
    from bench import session

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "_summarise_and_report", lambda *arguments: [])
        wishes = ["seeds=1", "models.vit.patch_size=4", "models.cnn.depth=1", "instrument_seconds=0.05", "epochs=1"]
        folder = tmp_path_factory.mktemp("notebook") / "run"
        session.run_session(session.Request("smoke", out=folder, settings=wishes, executor="in-process", quiet=True))
    from bench.analysis.summary import write_summary

    return write_summary(folder).folder


class TestNotebook:
    def test_it_is_committed_without_outputs(self, notebook: Any) -> None:
        cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert cells
        assert not any(cell.outputs or cell.execution_count for cell in cells)

    def test_its_command_is_one_that_the_program_takes(
        self, notebook: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (cell,) = [cell for cell in notebook.cells if "run_bench.py" in cell.source and "command =" in cell.source]
        names: dict[str, Any] = {"sys": sys, "root": ROOT, "suite": "smoke", "run": tmp_path / "new"}
        names["options"] = ["--help"]  # it answers at once, after a look at all the others
        exec(cell.source, names)  # noqa: S102 - the project's own cell
        assert names["done"].returncode == 0, names["done"].stderr
        assert "Usage:" in capsys.readouterr().out

    @pytest.mark.slow
    def test_every_cell_runs_and_pictures_are_shown(self, notebook: Any, run: Path) -> None:
        from nbclient import NotebookClient

        notebook = copy.deepcopy(notebook)
        (chosen,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
        chosen.source += f"\nrun = Path({str(run)!r})"
        NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
        assert not [output for output in outputs if output.output_type == "error"]
        assert sum("image/png" in output.get("data", {}) for output in outputs) == 4
        assert any("ViT" in output.get("text", "") for output in outputs), "the verdict isn't there"
