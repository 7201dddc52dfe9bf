"""Our ViT computes what other people's do: equal logits and equal gradients with the same weights."""

import re

import peers
import pytest
import torch
from peers import Shape
from torch import nn
from torch.nn import functional as F

LIBRARIES = {"timm": "timm", "torchvision": "torchvision", "vit-pytorch": "vit_pytorch"}
SHAPES = [
    Shape(image_size=28, patch_size=7, embed_dim=16, num_heads=4, depth=2),
    Shape(image_size=12, patch_size=4, embed_dim=24, num_heads=3, depth=3, in_channels=3),
]


def their_name(peer: str, name: str) -> str:
    for pattern, theirs in peers.NAMES[peer]:
        name = re.sub(pattern, theirs, name)
    return name


def twins(peer: str, shape: Shape) -> tuple[nn.Module, nn.Module, dict[str, str]]:
    """Our model and a peer with the same random weights, and the peer's name for each of our parameters."""
    if peer in LIBRARIES:
        pytest.importorskip(LIBRARIES[peer], reason="the optional extra `peers` brings it")
    torch.manual_seed(0)
    mine, theirs = peers.ours(shape).double(), peers.PEERS[peer](shape).double()
    if peer == "vit-pytorch":  # what it has and the others haven't is taken out, on both sides
        embedding = theirs.get_submodule("to_patch_embedding")
        assert isinstance(embedding, nn.Sequential)
        embedding[1], embedding[3] = nn.Identity(), nn.Identity()
        for module in theirs.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = 1e-6
    their_parameters = dict(theirs.named_parameters())
    names = {}
    with torch.no_grad():
        for name, parameter in mine.named_parameters():
            parameter.normal_(std=0.3)
            if peer == "vit-pytorch" and name.endswith("qkv.bias"):
                parameter.zero_()
                continue
            names[name] = their_name(peer, name)
            their_parameters[names[name]].copy_(parameter.view_as(their_parameters[names[name]]))
    assert set(names.values()) == their_parameters.keys(), "a parameter of the peer's has no partner"
    return mine, theirs, names


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("peer", peers.PEERS)
def test_logits_and_gradients_equal_those_of_a_peer_with_the_same_weights(peer: str, shape: Shape) -> None:
    if peer == "vit-pytorch" and shape.in_channels > 1:
        pytest.skip("vit-pytorch lists the pixels of a patch in another order, which only one channel hides")
    mine, theirs, names = twins(peer, shape)
    images = torch.randn(5, shape.in_channels, shape.image_size, shape.image_size, dtype=torch.float64)
    labels = torch.randint(shape.num_classes, (5,))
    logits = {}
    for model in (mine, theirs):
        logits[model] = model(images)
        F.cross_entropy(logits[model], labels).backward()
    torch.testing.assert_close(logits[mine], logits[theirs], rtol=0, atol=1e-10)
    their_parameters = dict(theirs.named_parameters())
    for name, parameter in mine.named_parameters():
        if name in names:
            partner = their_parameters[names[name]].grad
            assert parameter.grad is not None
            assert partner is not None
            assert parameter.grad.abs().max() > 1e-8 or name.endswith("qkv.bias"), f"{name} has no gradient to compare"
            torch.testing.assert_close(parameter.grad, partner.view_as(parameter.grad), rtol=0, atol=1e-10, msg=name)


@pytest.mark.parametrize("peer", peers.PEERS)
def test_inference_equals_that_of_a_peer_on_its_fast_path(peer: str) -> None:
    mine, theirs, _ = twins(peer, SHAPES[0])
    images = torch.randn(5, 1, 28, 28, dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(mine.eval()(images), theirs.eval()(images), rtol=0, atol=1e-10)
