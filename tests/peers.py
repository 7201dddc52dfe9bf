"""Other people's Vision Transformers at a shape of ours, and our weights put into them.

Each builder returns a module (B, C, H, W) -> logits (B, num_classes) with a class token, learned positions, pre-norm
blocks and GELU, and no dropout. torch itself has no whole ViT: its nn.TransformerEncoder stands between our patches
and our head.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from models.vit import ViT, ViTConfig


@dataclass(frozen=True)
class Shape:
    image_size: int
    patch_size: int
    embed_dim: int
    num_heads: int
    in_channels: int = 1
    depth: int = 4
    mlp_ratio: int = 4
    num_classes: int = 10

    @property
    def num_tokens(self) -> int:
        """Patches and the class token."""
        return (self.image_size // self.patch_size) ** 2 + 1


def ours(shape: Shape) -> ViT:
    config = ViTConfig(
        patch_size=shape.patch_size,
        embed_dim=shape.embed_dim,
        depth=shape.depth,
        num_heads=shape.num_heads,
        mlp_ratio=float(shape.mlp_ratio),
        pool="class",
    )
    return ViT(config, shape.image_size, shape.in_channels, shape.num_classes)


def timm(shape: Shape, fused: bool = True) -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    model = VisionTransformer(
        img_size=shape.image_size,
        patch_size=shape.patch_size,
        in_chans=shape.in_channels,
        num_classes=shape.num_classes,
        embed_dim=shape.embed_dim,
        depth=shape.depth,
        num_heads=shape.num_heads,
        mlp_ratio=float(shape.mlp_ratio),
    )
    for name, module in model.named_modules():
        if name.endswith(".attn"):
            module.fused_attn = fused  # what timm's own switch sets
    return model


def timm_explicit(shape: Shape) -> nn.Module:
    """timm with its switch for fused attention off, which is faster at some sizes."""
    return timm(shape, fused=False)


def torchvision(shape: Shape) -> nn.Module:
    from torchvision.models import VisionTransformer

    model = VisionTransformer(
        image_size=shape.image_size,
        patch_size=shape.patch_size,
        num_layers=shape.depth,
        num_heads=shape.num_heads,
        hidden_dim=shape.embed_dim,
        mlp_dim=shape.embed_dim * shape.mlp_ratio,
        num_classes=shape.num_classes,
    )
    if shape.in_channels != 3:  # the only number of channels that it knows
        model.conv_proj = nn.Conv2d(shape.in_channels, shape.embed_dim, shape.patch_size, shape.patch_size)
    return model


def vit_pytorch(shape: Shape) -> nn.Module:
    """It has no bias in query, key and value, and normalises patches before and after their projection."""
    from vit_pytorch import ViT as TheirViT

    return TheirViT(
        image_size=shape.image_size,
        patch_size=shape.patch_size,
        num_classes=shape.num_classes,
        dim=shape.embed_dim,
        depth=shape.depth,
        heads=shape.num_heads,
        mlp_dim=shape.embed_dim * shape.mlp_ratio,
        channels=shape.in_channels,
        dim_head=shape.embed_dim // shape.num_heads,
    )


class EncoderViT(nn.Module):
    """torch's nn.TransformerEncoder between our patches and our head."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        parts = ours(shape)
        layer = nn.TransformerEncoderLayer(
            shape.embed_dim,
            shape.num_heads,
            shape.embed_dim * shape.mlp_ratio,
            dropout=0.0,
            activation="gelu",
            layer_norm_eps=1e-6,
            batch_first=True,
            norm_first=True,
        )
        self.patch_embed, self.norm, self.head = parts.patch_embed, parts.norm, parts.head
        self.cls_token, self.pos_embed = cast(nn.Parameter, parts.cls_token), parts.pos_embed
        self.blocks = nn.TransformerEncoder(layer, shape.depth, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
        return self.head(self.norm(self.blocks(x)[:, 0]))


PEERS: dict[str, Callable[[Shape], nn.Module]] = {
    "timm": timm,
    "timm, explicit attention": timm_explicit,
    "torchvision": torchvision,
    "vit-pytorch": vit_pytorch,
    "nn.TransformerEncoder": EncoderViT,
}

# Peer -> how its parameters' names come from ours: (regular expression, what to put there), one after another.
NAMES: dict[str, list[tuple[str, str]]] = {
    "timm": [],
    "timm, explicit attention": [],
    "torchvision": [
        ("cls_token", "class_token"),
        ("pos_embed", "encoder.pos_embedding"),
        (r"patch_embed\.proj", "conv_proj"),
        (r"^norm", "encoder.ln"),
        (r"^head", "heads.head"),
        (r"blocks\.", "encoder.layers.encoder_layer_"),
        (r"\.norm", ".ln_"),
        (r"attn\.qkv\.", "self_attention.in_proj_"),
        (r"attn\.proj", "self_attention.out_proj"),
        (r"mlp\.fc1", "mlp.0"),
        (r"mlp\.fc2", "mlp.3"),
    ],
    "vit-pytorch": [
        ("pos_embed", "pos_embedding"),
        (r"patch_embed\.proj", "to_patch_embedding.2"),
        (r"^norm", "transformer.norm"),
        (r"^head", "mlp_head"),
        (r"blocks\.", "transformer.layers."),
        (r"norm1", "0.norm"),
        (r"attn\.qkv", "0.to_qkv"),
        (r"attn\.proj", "0.to_out.0"),
        (r"norm2", "1.net.0"),
        (r"mlp\.fc1", "1.net.1"),
        (r"mlp\.fc2", "1.net.4"),
    ],
    "nn.TransformerEncoder": [
        (r"blocks\.", "blocks.layers."),
        (r"attn\.qkv\.", "self_attn.in_proj_"),
        (r"attn\.proj", "self_attn.out_proj"),
        (r"mlp\.fc", "linear"),
    ],
}
