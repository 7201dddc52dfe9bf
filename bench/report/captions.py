"""What stands above and below the gallery's pictures, in plain words."""

from collections.abc import Callable
from typing import NamedTuple

from bench.analysis.formatting import listed
from bench.inference.gallery_file import Gallery, Shown
from bench.report import alt_text as alts

Say = Callable[[Gallery], str]


class Words(NamedTuple):
    title: str
    caption: Say
    alt: Say


def who(gallery: Gallery) -> str:
    """ "ViT p7 d4 fp32 (seed 1, of 3 the one of median validation accuracy) and CNN d2 fp32 (its only seed)"."""

    def chosen(model: Shown) -> str:
        if model.num_seeds == 1:
            return "its only seed"
        return f"seed {model.seed}, of {model.num_seeds} the one of median validation accuracy"

    return listed([f"{model.label} ({chosen(model)})" for model in gallery.models])


def label_distribution(gallery: Gallery) -> str:
    return (
        f"How the images of {gallery.dataset} are spread over its classes. A class with few training images is harder "
        "to learn; one with few test images has an accuracy that is known less well."
    )


def confusion(gallery: Gallery) -> str:
    return (
        f"{who(gallery)}, on {_images(gallery)}, with the weights that validation chose. Rows are the truth; only "
        "mistakes are coloured, on one scale for all."
    )


def class_accuracy(gallery: Gallery) -> str:
    return f"{_images(gallery)} in all. Where intervals overlap widely, a class has too few test images to tell."


def samples(gallery: Gallery) -> str:
    return f"{len(gallery.samples)} of {_images(gallery)}, drawn once at random, not chosen."


def worst_mistakes(gallery: Gallery) -> str:
    return (
        f"Of {_images(gallery)} those that each got wrong with the most confidence. Some of these labels people would "
        "dispute, too."
    )


def disagreements(gallery: Gallery) -> str:
    return f"{alts.agreement_words(gallery)} {_images(gallery)}."


def attention_heads(gallery: Gallery) -> str:
    return (
        "Where the answer looks, as multiples of an equal share for every patch: the class token's attention or, in a "
        "net without one, the mean over all tokens."
    )


def attention_rollout(gallery: Gallery) -> str:
    return (
        "Attention multiplied through all blocks, with their shortcuts counted as half (Abnar & Zuidema 2020): an "
        f"estimate of what reaches the answer, no proof of what it rests on. n = {len(gallery.looked)} images."
    )


def saliency(gallery: Gallery) -> str:
    return (
        "The gradient of the true class's logit by each pixel (Simonyan et al. 2014): where a small change of the "
        f"image would move the answer most. n = {len(gallery.looked)} images."
    )


def patch_filters(gallery: Gallery) -> str:
    return "Each number of a token starts as the sum of a patch's pixels, weighted like this."


def position_similarity(gallery: Gallery) -> str:
    return (
        "If a net has learned where patches lie, near ones have more similar embeddings than far ones; a falling line "
        "on the right shows it."
    )


def first_filters(gallery: Gallery) -> str:
    return "The kernels of the first convolution and, below each, what it makes of a test image."


def _images(gallery: Gallery) -> str:
    return f"n = {int(gallery.confusion[0].sum()):,} test images"


WORDS = {
    "label_distribution": Words("Label distribution", label_distribution, alts.label_distribution),
    "confusion": Words("Confusion matrices", confusion, alts.confusion),
    "class_accuracy": Words("Accuracy by class", class_accuracy, alts.class_accuracy),
    "samples": Words("Sample predictions", samples, alts.samples),
    "worst_mistakes": Words("Worst mistakes", worst_mistakes, alts.worst_mistakes),
    "disagreements": Words("Disagreements", disagreements, alts.disagreements),
    "attention_heads": Words("Attention by head and block", attention_heads, alts.attention_heads),
    "attention_rollout": Words("Attention rollout", attention_rollout, alts.attention_rollout),
    "saliency": Words("Saliency", saliency, alts.saliency),
    "patch_filters": Words("Patch filters", patch_filters, alts.patch_filters),
    "position_similarity": Words("Position similarity", position_similarity, alts.position_similarity),
    "first_filters": Words("First filters", first_filters, alts.first_filters),
}
