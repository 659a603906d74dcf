"""Backbones, DINOv2's with synthetic weights."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from likeness.one_shot.backbones import BACKBONES, dinov2
from likeness.one_shot.config import BackboneConfig
from likeness.scene.errors import UserError

# Some of the names and shapes in the published dinov2_vits14_pretrain.pth.
PUBLISHED = {
    "cls_token": (1, 1, 384),
    "pos_embed": (1, 1370, 384),
    "mask_token": (1, 384),
    "patch_embed.proj.weight": (384, 3, 14, 14),
    "patch_embed.proj.bias": (384,),
    "blocks.0.norm1.weight": (384,),
    "blocks.0.attn.qkv.weight": (1152, 384),
    "blocks.0.attn.proj.bias": (384,),
    "blocks.0.ls1.gamma": (384,),
    "blocks.11.norm2.bias": (384,),
    "blocks.11.mlp.fc1.weight": (1536, 384),
    "blocks.11.mlp.fc2.weight": (384, 1536),
    "blocks.11.ls2.gamma": (384,),
    "norm.weight": (384,),
    "norm.bias": (384,),
}


def test_names_and_size_are_the_published_ones():
    state = dinov2.Dinov2().state_dict()
    assert {name: tuple(state[name].shape) for name in PUBLISHED} == PUBLISHED
    assert len(state) == 5 + 2 + 12 * 14
    # 88 283 115 bytes of float32 and a pickle around them.
    assert 88.0e6 < 4 * sum(value.numel() for value in state.values()) < 88.3e6


def test_weights_load_and_others_are_refused(tmp_path):
    torch.manual_seed(0)
    small = dinov2.Dinov2(dim=24, depth=2, heads=2, grid=4)
    torch.nn.init.normal_(small.pos_embed)
    torch.save(small.state_dict(), tmp_path / "a.pth")
    again = dinov2.load(tmp_path / "a.pth", dinov2.Dinov2(dim=24, depth=2, heads=2, grid=4))
    pictures = torch.randn(2, 3, 56, 56)
    with torch.no_grad():
        assert torch.equal(small(pictures, (2,))[0], again(pictures, (2,))[0])
    with pytest.raises(UserError, match="not the weights of dinov2"):
        dinov2.load(tmp_path / "a.pth", dinov2.Dinov2(dim=24, depth=3, heads=2, grid=4))
    (tmp_path / "b.pth").write_bytes(b"nonsense")
    with pytest.raises(UserError, match="b.pth"):
        dinov2.load(tmp_path / "b.pth", small)


def test_position_encodings_follow_the_picture():
    small = dinov2.Dinov2(dim=8, depth=1, heads=1, grid=6)
    # rises to the right
    ramp = torch.linspace(0, 1, 6)[None, :, None].expand(6, 6, 8).reshape(1, 36, 8)
    with torch.no_grad():
        small.pos_embed.copy_(torch.cat([torch.full((1, 1, 8), 5.0), ramp], 1))
    assert torch.equal(small.positions(6, 6), small.pos_embed)
    wide = small.positions(3, 12)
    assert wide.shape == (1, 37, 8) and (wide[:, 0] == 5).all()
    grid = wide[0, 1:, 0].reshape(3, 12)
    assert torch.allclose(grid[0], grid[2], atol=1e-5) and (grid[1].diff() > -1e-3).all()
    assert [tuple(m.shape) for m in small(torch.randn(1, 3, 42, 168), (1,))] == [(1, 8, 3, 12)]


def test_attention_is_pytorchs():
    torch.manual_seed(0)
    ours, theirs = dinov2._Attention(12, 3), torch.nn.MultiheadAttention(12, 3, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.qkv.weight), theirs.in_proj_bias.copy_(ours.qkv.bias)
        theirs.out_proj.weight.copy_(ours.proj.weight), theirs.out_proj.bias.copy_(ours.proj.bias)
        x = torch.randn(2, 7, 12)
        assert torch.allclose(ours(x), theirs(x, x, x)[0], atol=1e-6)


@pytest.mark.parametrize("kind", BACKBONES)
def test_every_backbone_gives_levels_and_a_fine_map(kind):
    torch.manual_seed(0)
    config = dataclasses.replace(BackboneConfig(), kind=kind, fine_channels=6)
    backbone = BACKBONES[kind](config)
    levels, fine = backbone(torch.rand(1, 4, 64, 64), torch.rand(1, 4, 64, 64))
    assert [m.shape[1] for m in levels] == list(backbone.level_channels)
    assert fine.shape[:2] == (1, 6) and fine.shape[-1] >= 16
    fine.sum().backward()
    trained = [
        name for name, p in backbone.named_parameters() if p.requires_grad and p.grad is not None
    ]
    assert trained and not any(name.startswith("vision.") for name in trained)


def test_missing_published_weights_are_said(tmp_path):
    with pytest.raises(UserError, match="dinov2_vits14_pretrain.pth"):
        dinov2.pretrained(tmp_path, download=False)
