"""Vision Transformer from scratch: "An Image is Worth 16x16 Words" (Dosovitskiy et al. 2021), read downwards.

Shape letters: B batch, C channels, H W image, P patch_size, N tokens, D embed_dim, h heads, d head_dim, K classes.
"""

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

# Up to this many attention weights per image (heads x N x N) the explicit product beats the fused kernel on a CPU in
# fp32: the fused one pays a fixed cost per head and image, the explicit one writes every weight. In half precision the
# CPU's fused kernel is slower at any size (2 to 5 times with 50 tokens). Measured for forward + backward on two cores,
# embed_dim 16 to 192, 1 to 4 heads, 5 to 197 tokens, torch 2.14; between 6,000 and 12,000 weights on an AMD EPYC alone.
# There, with 50 tokens or more and one thread, the fused one was quicker by some 5% (training) and 10% (inference).
EXPLICIT_ATTENTION_MAX_WEIGHTS = 12_000
# Up to so many tokens the explicit product keeps a row for each key, so that its softmax runs along columns: on a CPU
# up to a third faster for short rows (10 tokens), and up to a third slower for long ones (50).
COLUMN_SOFTMAX_MAX_TOKENS = 24


class ViTConfig(BaseModel):
    """Settings of a ViT; `image_size`, `in_channels` and `num_classes` come from the dataset.

    Raises:
        ValueError: `num_heads` doesn't divide `embed_dim`, an MLP without a hidden unit, or sin-cos positions whose
            `embed_dim` isn't divisible by 4.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    patch_size: int = Field(7, ge=1, description="side of a square patch, pixels; must divide the image")
    embed_dim: int = Field(32, ge=1, description="width of a token")
    depth: int = Field(4, ge=1, le=1000, description="number of encoder blocks")
    num_heads: int = Field(2, ge=1, description="attention heads; must divide embed_dim")
    mlp_ratio: float = Field(4.0, gt=0, allow_inf_nan=False, description="hidden width of the MLP over embed_dim")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout after embedding, attention and MLP")
    pool: Literal["mean", "class"] = Field("mean", description="mean of all tokens, or a class token")
    positions: Literal["learned", "sincos"] = Field("learned", description="position embedding")
    attention: Literal["auto", "explicit", "fused"] = Field("auto", description="auto takes the faster one")
    init: Literal["xavier", "torch"] = Field(
        "xavier", description="weights at the start; torch: as its layers make them"
    )

    @property
    def hidden_dim(self) -> int:
        """Width of the MLP's hidden layer."""
        return int(self.embed_dim * self.mlp_ratio)

    @model_validator(mode="after")
    def _widths_fit(self) -> "ViTConfig":
        if self.embed_dim % self.num_heads:
            raise ValueError(f"num_heads {self.num_heads} does not divide embed_dim {self.embed_dim}")
        if self.hidden_dim < 1:
            raise ValueError(f"mlp_ratio {self.mlp_ratio} leaves no hidden unit at embed_dim {self.embed_dim}")
        if self.positions == "sincos" and self.embed_dim % 4:
            raise ValueError(f"positions 'sincos' need an embed_dim divisible by 4, found {self.embed_dim}")
        return self


class PatchEmbedding(nn.Module):
    """Cut the image into patches and project each linearly (section 3.1, equation 1).

    One matrix product over flattened patches: the same map as a convolution whose stride is its kernel size, whose
    weight is this weight viewed as (D, C, P, P), and faster on a CPU.

    Shape: (B, C, H, W) -> (B, N, D) with N = (H / P) * (W / P).
    """

    def __init__(self, patch_size: int, in_channels: int, embed_dim: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Linear(in_channels * patch_size**2, embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        P = self.patch_size
        x = x.view(B, C, H // P, P, W // P, P)
        x = x.permute(0, 2, 4, 1, 3, 5).reshape(B, (H // P) * (W // P), C * P * P)  # (B, N, C*P*P)
        return self.proj(x)  # (B, N, D)


class Attention(nn.Module):
    """Multi-head self-attention (appendix A), scaled by head_dim ** -0.5.

    Only the first `num_queries` tokens ask; all are keys and values. None lets all ask.

    Shape: (B, N, D) -> (B, M, D) with M = num_queries or N.
    """

    def __init__(self, embed_dim: int, num_heads: int, dropout: float, kind: str) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.scale = (embed_dim // num_heads) ** -0.5
        self.kind = kind
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim)
        self.proj = nn.Linear(embed_dim, embed_dim)
        self.drop = dropout_of(dropout)

    def forward(self, x: Tensor, num_queries: int | None = None) -> Tensor:
        B, N, D = x.shape
        h, d, M = self.num_heads, D // self.num_heads, num_queries or N
        qkv = self.qkv(x).view(B, N, 3, h, d).unbind(2)  # in this order the backward pass copies once, not twice
        q, k, v = (part.transpose(1, 2) for part in qkv)  # (B, h, N, d)
        q = q[:, :, :M]
        if self._explicit(k):
            q, k, v = q.reshape(B * h, M, d), k.reshape(B * h, N, d), v.reshape(B * h, N, d)
            if N <= COLUMN_SOFTMAX_MAX_TOKENS:
                weights = self._scores(k, q).softmax(dim=1).transpose(1, 2)
            else:
                weights = self._scores(q, k).softmax(dim=2)
            x = torch.bmm(weights, v).view(B, h, M, d)
        else:
            x = F.scaled_dot_product_attention(q, k, v)  # (B, h, M, d)
        return self.drop(self.proj(x.transpose(1, 2).reshape(B, M, D)))

    def _scores(self, rows: Tensor, columns: Tensor) -> Tensor:
        return torch.baddbmm(rows.new_empty(()), rows, columns.transpose(1, 2), beta=0, alpha=self.scale)

    def _explicit(self, k: Tensor) -> bool:
        if self.kind == "auto":
            num_weights = self.num_heads * k.shape[2] ** 2
            return k.is_cpu and (num_weights <= EXPLICIT_ATTENTION_MAX_WEIGHTS or k.dtype != torch.float32)
        return self.kind == "explicit"


class MLP(nn.Module):
    """Two linear layers with a GELU between (section 3.1). Shape: (B, N, D) -> (B, N, D)."""

    def __init__(self, embed_dim: int, hidden_dim: int, dropout: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(embed_dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, embed_dim)
        self.drop = dropout_of(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.fc2(self.drop(F.gelu(self.fc1(x)))))


class Block(nn.Module):
    """Pre-norm encoder block (equations 2 and 3).

    Only the first `num_tokens` come out, as the whole block would make them, and what doesn't reach them isn't worked
    out. None is for all.

    Shape: (B, N, D) -> (B, M, D) with M = num_tokens or N.
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        D = config.embed_dim
        self.norm1 = nn.LayerNorm(D, eps=1e-6)
        self.attn = Attention(D, config.num_heads, config.dropout, config.attention)
        self.norm2 = nn.LayerNorm(D, eps=1e-6)
        self.mlp = MLP(D, config.hidden_dim, config.dropout)

    def forward(self, x: Tensor, num_tokens: int | None = None) -> Tensor:
        if num_tokens is None:
            x = x + self.attn(self.norm1(x))
        else:
            x = x[:, :num_tokens] + self.attn(self.norm1(x), num_tokens)
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """Patches, positions, encoder blocks, pooling, head (figure 1, equations 1 to 4).

    Shape: (B, C, H, W) -> logits (B, K).

    Raises:
        ValueError: the patch doesn't divide the image.
    """

    def __init__(self, config: ViTConfig, image_size: int, in_channels: int, num_classes: int) -> None:
        super().__init__()
        if image_size % config.patch_size:
            raise ValueError(f"patch_size {config.patch_size} does not divide image_size {image_size}")
        side, D = image_size // config.patch_size, config.embed_dim
        self.config = config
        self.image_size = image_size
        self.patch_embed = PatchEmbedding(config.patch_size, in_channels, D)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, D)) if config.pool == "class" else None
        num_tokens = side**2 + (self.cls_token is not None)
        if config.positions == "learned":
            self.pos_embed = nn.Parameter(torch.zeros(1, num_tokens, D))
        else:
            self.register_buffer("pos_embed", sincos_positions(side, D, num_tokens - side**2))
        self.drop = dropout_of(config.dropout)
        self.blocks = nn.Sequential(*(Block(config) for _ in range(config.depth)))  # each built afresh
        self.norm = nn.LayerNorm(D, eps=1e-6)
        self.head = nn.Linear(D, num_classes)
        self.init_weights()

    def init_weights(self) -> None:
        """Xavier uniform for every linear map, as torch's own attention and encoder; N(0, 1/D) for positions.

        Widths are small here, where the usual 0.02 would start with tokens that all but ignore their place. Biases
        are zero; a class token starts as timm's, at N(0, 0.02). With `init: torch` linear maps stay as torch makes them
        (Kaiming uniform), and positions and class token are torch.randn's, as in many notebooks.
        """
        xavier = self.config.init == "xavier"
        for module in self.modules():
            if isinstance(module, nn.Linear) and xavier:
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        if self.pos_embed.is_meta:
            return  # a meta tensor has no numbers, and torch would load 900 modules, for 2 s, before it draws none
        if isinstance(self.pos_embed, nn.Parameter):
            nn.init.normal_(self.pos_embed, std=self.config.embed_dim**-0.5 if xavier else 1.0)
        if self.cls_token is not None:
            nn.init.normal_(self.cls_token, std=0.02 if xavier else 1.0)

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[-1] == self.image_size, "positions would be broadcast over an image of another size"
        x = self.patch_embed(x)  # (B, N, D)
        if self.cls_token is not None:
            x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)  # (B, 1 + N, D)
        x = self.drop(x + self.pos_embed)
        *blocks, last = self.blocks
        for block in blocks:
            x = block(x)
        # The head sees the class token alone, so the last block works out no other: an exact saving, gradients too.
        x = last(x) if self.cls_token is None else last(x, num_tokens=1)
        return self.head(self.norm(x).mean(dim=1))  # (B, K)


def dropout_of(p: float) -> nn.Module:
    """Dropout, or nothing where there is nothing to drop: its call alone was a hundredth of a small training step."""
    return nn.Dropout(p) if p else nn.Identity()


def sincos_positions(side: int, embed_dim: int, num_prefix: int = 0) -> Tensor:
    """Fixed 2-D sine-cosine positions ("Better plain ViT baselines", Beyer et al. 2022); zeros for a class token.

    Shape: (1, num_prefix + side**2, embed_dim), float32. Half of the width tells the row, half the column.
    """
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    omega = 10_000 ** -(torch.arange(embed_dim // 4) / max(embed_dim // 4 - 1, 1))
    angles = torch.stack([x.flatten(), y.flatten()])[:, :, None] * omega  # (2, N, D/4)
    table = torch.cat([angles[0].sin(), angles[0].cos(), angles[1].sin(), angles[1].cos()], dim=1)  # (N, D)
    return torch.cat([torch.zeros(num_prefix, embed_dim), table])[None]
