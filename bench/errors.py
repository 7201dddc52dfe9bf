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


# What it is called here -> what other programs call it.
USUAL = {
    "learning_rate": {"lr", "learningrate", "rate"},
    "batch_size": {"bs", "batch", "batchsize"},
    "patch_size": {"patch", "patchsize"},
    "num_heads": {"heads", "n_heads", "nhead"},
    "embed_dim": {"dim", "hidden_dim", "hidden_size", "d_model", "emb_dim"},
    "depth": {"layers", "num_layers", "n_layers", "blocks", "num_blocks"},
    "width": {"channels", "num_filters", "filters"},
    "device": {"gpu", "accelerator"},
    "dtype": {"precision", "amp", "fp16", "bf16"},
    "weight_decay": {"wd", "l2"},
    "optimizer": {"optim", "opt"},
    "schedule": {"scheduler", "lr_scheduler"},
    "num_threads": {"threads", "n_threads"},
    "augment": {"augmentation", "augmentations", "transforms"},
    "seeds": {"seed", "random_state", "num_seeds"},
    "epochs": {"n_epochs", "num_epochs", "max_epochs"},
    "model": {"arch", "architecture", "backbone", "net"},
    "world_size": {"gpus", "num_gpus", "n_gpus"},
    "cuda": {"gpu", "nvidia"},
    "mps": {"gpu", "metal"},
    "fp32": {"float32", "float", "single", "32"},
    "fp16": {"float16", "half", "16"},
    "bf16": {"bfloat16"},
    "amp-bf16": {"amp", "mixed", "autocast"},
}
NEEDLESS = {"num_workers": "leave it out: images are read ahead by as many processes as help"}


def nearest(found: object, known: Iterable[str]) -> str:
    """End of a message: the nearest known name, or all of them when nothing is near."""
    names, wanted = sorted(known), str(found)[:200]
    if wanted in NEEDLESS:
        return NEEDLESS[wanted]
    close = [name for name in names if wanted.casefold() in (name.casefold(), *USUAL.get(name, ()))]
    close = close or get_close_matches(wanted, names, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(names)}"
