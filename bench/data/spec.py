"""Data that people bring: what is asked of it, and what was found; a CSV, IDX files, folders of images, an .npz."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Kind = Literal["csv", "idx", "folder", "npz"]
Share = Annotated[float, Field(gt=0, lt=1)]


class Wishes(BaseModel):
    """The keys of `dataset` in a suite where it isn't the name of a known dataset; `--data PATH` is `{path: PATH}`.

    Attributes:
        path: a CSV, an .npz, a folder of IDX files, or a folder with a folder of images for each class; it may have
            `train` and `test` (and `val`) folders or files inside.
        test: the same for a labelled test set; None takes `test_fraction` of each class out of `path`.
        unlabelled: images to predict after training, such as Kaggle's test.csv.
        made_by: the command that makes the files, for the message that they aren't there.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    path: str
    test: str | None = None
    unlabelled: str | None = None
    name: Annotated[
        str | None, Field(description="how the report calls it; the file's or folder's name if left out")
    ] = None
    image_size: Annotated[int | None, Field(ge=1, le=1024, description="pixels a side, after resizing")] = None
    channels: Annotated[Literal["auto", "grey", "rgb"], Field(description="auto: rgb where any image has colour")] = (
        "auto"
    )
    val_fraction: Annotated[Share, Field(description="of the training images, each class its share")] = 0.1
    test_fraction: Annotated[Share, Field(description="where no test set is given")] = 0.1
    stream: Annotated[bool | Literal["auto"], Field(description="read images while training; auto: if too large")] = (
        "auto"
    )
    made_by: str | None = None


class OwnData(BaseModel):
    """A dataset of somebody's own as it was found: all that a trial, a table or a report says about it.

    It has the sizes and names of a DatasetSpec, so that whoever asks for those takes either.

    Attributes:
        path, test_path, unlabelled_path: absolute; where the files lie determines no result and isn't in a trial's id.
        num_train: labelled images that aren't test images; `num_val` of them are set aside.
        checksum: 12 hex digits over the contents of all files and what was asked of them.
        notes: what a reader of the report should know, as sentences: "resized from 17 sizes to 32 x 32 pixels".
        stream: the images are read while training, since they don't fit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    kind: Kind
    path: str
    test_path: str | None = None
    unlabelled_path: str | None = None
    image_size: int
    in_channels: int
    class_names: tuple[str, ...]
    num_train: int
    num_val: int
    num_test: int
    test_fraction: float | None = None
    checksum: str
    stream: bool = False
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return self.name

    @property
    def num_classes(self) -> int:
        return len(self.class_names)
