"""People's mistakes: one exception family, one line each, raised before any work starts."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

LONGEST_MESSAGE = 590  # characters
BREAKS = re.compile("[ \t]*[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]+[ \t]*")
# What a terminal acts on, or a line can't hold: controls, halves of characters, what turns the writing direction.
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]")


def printable(text: str, longest: int = LONGEST_MESSAGE) -> str:
    """Text that comes from a file, its name or an option, fit for a terminal and a log.

    One line; control characters are escaped, since in a terminal they could do more than be read; of a long text
    the beginning and the end.
    """
    if len(text) > 3 * longest:  # before any work on it
        text = f"{text[: 2 * longest]} ... {text[-longest:]}"
    text = UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], BREAKS.sub(" ", text))
    tail = longest // 3
    return text if len(text) <= longest else f"{text[: longest - tail - 5]} ... {text[-tail:]}"


class UserError(Exception):
    """Something that the person at the keyboard can put right; printed as one line, exit status 2."""

    def __init__(self, message: object = "") -> None:
        super().__init__(printable(str(message)))


class SuiteError(UserError):
    """A suite file, a `--set`, or a combination of settings that can't be run."""


class DataError(UserError):
    """A dataset that is missing, cut short, or not what its name says."""


class DeviceError(UserError):
    """A device or numeric mode that this machine doesn't have."""


class StoreError(UserError):
    """A run folder that isn't one, or that belongs to something else."""


# Names that other programs have for what is called otherwise here.
USUAL = {
    **dict.fromkeys(("lr", "learningrate", "rate"), "learning_rate"),
    **dict.fromkeys(("bs", "batch", "batchsize"), "batch_size"),
    **dict.fromkeys(("patch", "patchsize"), "patch_size"),
    **dict.fromkeys(("heads", "n_heads", "nhead"), "num_heads"),
    **dict.fromkeys(("dim", "hidden_dim", "hidden_size", "d_model", "emb_dim"), "embed_dim"),
    **dict.fromkeys(("layers", "num_layers", "n_layers", "blocks", "num_blocks"), "depth"),
    **dict.fromkeys(("channels", "num_filters", "filters"), "width"),
    **dict.fromkeys(("gpu", "cuda", "accelerator"), "device"),
    **dict.fromkeys(("precision", "amp", "fp16", "bf16"), "dtype"),
    **dict.fromkeys(("wd", "l2"), "weight_decay"),
    **dict.fromkeys(("optim", "opt"), "optimizer"),
    **dict.fromkeys(("scheduler", "lr_scheduler"), "schedule"),
    **dict.fromkeys(("threads", "n_threads"), "num_threads"),
    **dict.fromkeys(("augmentation", "augmentations", "transforms"), "augment"),
    **dict.fromkeys(("seed", "random_state", "num_seeds"), "seeds"),
    **dict.fromkeys(("n_epochs", "num_epochs", "max_epochs"), "epochs"),
    **dict.fromkeys(("arch", "architecture", "backbone", "net"), "model"),
    "gpus": "world_size",
}


def nearest(found: object, known: Iterable[str]) -> str:
    """End of a message: the nearest known name, or all of them when nothing is near."""
    names, wanted = sorted(known), str(found)[:200]
    close = [name for name in names if name.casefold() == wanted.casefold() or name == USUAL.get(wanted.casefold())]
    close = close or get_close_matches(wanted, names, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(names)}"
