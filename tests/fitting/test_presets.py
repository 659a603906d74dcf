"""The papers' presets beside the papers: every setting, what the paper says of it, and where.

A setting that changes, or a new one, must be entered here with what the paper says.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from likeness.fitting.avatars import AVATARS
from likeness.fitting.avatars.gaussianhead import GaussianHeadConfig
from likeness.fitting.config import FitConfig
from likeness.fitting.densify import DENSIFIERS
from likeness.fitting.seedings import SEEDINGS
from likeness.scene.config_files import fields, load_preset
from likeness.scene.errors import UserError
from likeness.scene.extent import SCENE_CENTRE_M, SCENE_EXTENT_M, SCENE_RADIUS_M
from tests import toys


@dataclasses.dataclass(frozen=True)
class Said:
    """The paper gives this value, in these words or at this place."""

    value: Any
    where: str


@dataclasses.dataclass(frozen=True)
class Silent:
    """The paper gives none: this one is ours, or of what it builds on."""

    value: Any
    why: str


OFF = "not of the paper; off"
UNUSED = "not used by this preset"
SPLATTING = "Kerbl et al. 2023, which the paper follows"
PROGRAM = "the paper's text lost it: its program"

COMMON = {
    "seeds.mesh_share": Silent(0.6, UNUSED),
    "seeds.sources": Silent(3, UNUSED),
    "seeds.weights": Silent(None, UNUSED),
    "optimizer.epsilon": Silent(1e-15, SPLATTING),
    "densifier": Said("adaptive", "as Kerbl et al. 2023"),
    "densify.min_observations": Silent(40, "acts in fits of a few thousand iterations alone"),
    "densify.gradient_threshold": Silent(2e-4, SPLATTING),
    "densify.absolute_gradients": Silent(False, SPLATTING),
    "densify.split_scale": Silent(0.01 * SCENE_EXTENT_M, f"{SPLATTING}: 1% of the scene"),
    "densify.max_gaussians": Silent(None, "no limit is mentioned"),
    "objective.matte": Silent(0.0, OFF),
    "objective.scale_penalty": Silent(0.0, OFF),
    "objective.basis_penalty": Silent(0.0, OFF),
    "schedule.cpu_minutes": Silent(0.0, "no budget but the iterations"),
    "schedule.half_resolution_until": Silent(0, OFF),
    "schedule.short_fit_exponent": Silent(0.0, OFF),
    "schedule.expressions": Said(True, "the expression drives the avatar"),
    "networks.backend": Silent("auto", "of playback alone, which gives the same"),
    "networks.tolerance": Silent(0.01, "of playback alone"),
}


def anchoring(avatar: str) -> dict[str, Said | Silent]:
    """Head fixed, camera moving (both papers), and nothing beside that."""
    names = ("two_frames", "rigged", "swaying", "pose_correction")
    off = {f"{avatar}.anchoring.{name}": Silent(False, OFF) for name in names}
    unused = {
        "anchoring.correction_components": 10,
        "rates.head_logits": (2e-2, 2e-3),
        "rates.anchoring": (1e-3, 1e-4),
    }
    return off | {f"{avatar}.{name}": Silent(value, UNUSED) for name, value in unused.items()}


HEADGAS = {
    **COMMON,
    **anchoring("headgas"),
    "avatar": Said("headgas", "Dhamo et al., ECCV 2024"),
    "headgas.feature_size": Said(32, "Feature Blending: f_dim = 32"),
    "headgas.hidden_size": Said(64, "MLP: 64-channel hidden layers"),
    "headgas.hidden_layers": Said(2, "MLP: two-layer"),
    "headgas.encoding_frequencies": Silent(4, "ψ is not specified; 4 resolve 3 cm"),
    "headgas.encoding_gradient": Said(True, "MLP: f_i and ψ(μ) are fed in, no stop of gradients"),
    "headgas.sh_degree": Said(3, "MLP: SH coefficients, k = 3"),
    "headgas.blending": Said(
        "features", "Feature Blending: in the latent feature space, with a bias f_0"
    ),
    "headgas.changes": Said(
        "appearance", "Modeling Motion via Opacity Variation: colour and opacity alone"
    ),
    "headgas.expression_codes": Said(0, "Feature Blending: the coefficients themselves, B = 52"),
    "headgas.limited": Silent(False, OFF),
    "headgas.base_appearance": Said(False, "MLP: its output consists of colour and opacity"),
    "headgas.rates.means": Silent((1.6e-4, 1.6e-6), f"{SPLATTING}, its units as metres"),
    "headgas.rates.log_scales": Silent((5e-3, 5e-3), SPLATTING),
    "headgas.rates.quats": Silent((1e-3, 1e-3), SPLATTING),
    "headgas.rates.linear": Silent((), SPLATTING),
    "headgas.rates.features": Silent((2.5e-3, 2.5e-3), "as Kerbl's of colours"),
    "headgas.rates.basis": Silent((2.5e-3, 2.5e-3), "as Kerbl's of colours"),
    "headgas.rates.base_colors": Silent((2.5e-3, 2.5e-3), UNUSED),
    "headgas.rates.harmonics": Silent(1.0, UNUSED),
    "headgas.rates.base_opacities": Silent((2.5e-2, 2.5e-2), UNUSED),
    "headgas.rates.mlp": Silent((1e-3, 1e-4), "ours"),
    "initializer": Said("mesh", "Initialization: subsampled from 3DMM mesh vertices, F = 0"),
    "seeds.num_gaussians": Said(2500, "Initialization"),
    "seeds.frames": Silent(12, "for the mean colour that the first picture shows"),
    "seeds.opacity": Silent(0.5, "ours"),
    "densify.start": Said(500, "Densification: between 500 ..."),
    "densify.stop": Said(15_000, "... and 15K iterations"),
    "densify.every": Silent(100, SPLATTING),
    "densify.prune_opacity": Silent(0.005, SPLATTING),
    "densify.prune_scale": Silent(0.1 * SCENE_EXTENT_M, f"{SPLATTING}: 10% of the scene"),
    "objective.l1": Said(0.8, "λ_1"),
    "objective.dssim": Said(0.2, "λ_s"),
    "objective.perceptual": Said(0.1, "λ_p"),
    "objective.perceptual_region": Said("head", "L_p: only within the head's box"),
    "objective.perceptual_from": Said(10_000, "L_p: after 10K iterations"),
    "objective.background": Silent("white", "as the figures show"),
    "schedule.iterations": Said(50_000, "50K total"),
    "schedule.min_iterations": Silent(10_000, "a fifth, where the perceptual loss begins"),
    "schedule.batch": Silent(1, SPLATTING),
}

GAUSSIANHEAD = {
    **COMMON,
    **anchoring("gaussianhead"),
    "avatar": Said("gaussianhead", "Wang et al., TVCG 2025"),
    "gaussianhead.deformation": Said(True, "4.1"),
    "gaussianhead.deform_from": Silent(3000, "its program's warm-up"),
    "gaussianhead.deform_width": Said(256, "A.3"),
    "gaussianhead.deform_layers": Said(8, "A.3"),
    "gaussianhead.deform_skip": Said(4, "A.3: skip in the fourth layer"),
    "gaussianhead.encoding_frequencies": Said(10, "A.3"),
    "gaussianhead.deform_by_pose": Said(False, "equation 3: expression and encoded position alone"),
    "gaussianhead.triplane": Said(True, "4.2"),
    "gaussianhead.channels": Silent(32, PROGRAM),
    "gaussianhead.resolution": Silent(64, PROGRAM),
    "gaussianhead.scales": Said((1, 2, 4, 8), "A.3"),
    "gaussianhead.derivations": Silent(4, "5.4: neither few nor 8 and 16; 4 in its program"),
    "gaussianhead.derivation_schedule": Said(
        False, "5.4: equation 12 did not yield superior outcomes"
    ),
    "gaussianhead.derivation_kind": Said(
        "riemannian", "equation 5: Riemannian Adam, an exponential term"
    ),
    "gaussianhead.shared_channels": Said(
        False, "4.2: K divides C, sub-features of each are concatenated"
    ),
    "gaussianhead.hidden_size": Said(64, "A.3: both networks"),
    "gaussianhead.sh_degree": Said(3, "4.3: 4th-order coefficients, 16 of each colour"),
    "gaussianhead.scene_radius": Silent(SCENE_EXTENT_M / 2, "ours: the box is not given in metres"),
    "gaussianhead.rates.means": Silent(
        (1.5e-4, 1.5e-6), f"{PROGRAM}: 8e-4 to 8e-6 in a box of 2.6"
    ),
    "gaussianhead.rates.linear": Said(
        ("means",), "A.2: linearly; the tri-plane and quaternions end at 0"
    ),
    "gaussianhead.rates.log_scales": Silent((5e-3, 5e-3), PROGRAM),
    "gaussianhead.rates.quats": Silent((1e-3, 1e-3), PROGRAM),
    "gaussianhead.rates.deformation": Silent((8e-4, 1.6e-6), f"{PROGRAM}; A.2: gradually"),
    "gaussianhead.rates.planes": Said(
        (1e-3, 0.0), f"A.3: linearly to 0 at the last iteration; 1e-3: {PROGRAM}"
    ),
    "gaussianhead.rates.derivations": Said(
        (1e-3, 0.0), f"A.4: to 0 at the last iteration; 1e-3: {PROGRAM}"
    ),
    "gaussianhead.rates.scene_derivations": Silent((1e-3, 0.0), "of an ablation, as the others"),
    "gaussianhead.rates.opacity_mlp": Silent((1e-4, 1e-4), PROGRAM),
    "gaussianhead.rates.color_mlp": Silent((1e-3, 1e-3), PROGRAM),
    "gaussianhead.rates.sh_dc": Silent((1e-3, 1e-3), PROGRAM),
    "gaussianhead.rates.sh_rest": Silent((5e-5, 5e-5), PROGRAM),
    "gaussianhead.rates.own_sh": Silent((2.5e-3, 2.5e-3), f"of an ablation; {SPLATTING}"),
    "gaussianhead.rates.own_opacities": Silent((5e-2, 5e-2), f"of an ablation; {SPLATTING}"),
    "initializer": Said("random", "4.1: randomly initialised"),
    "seeds.num_gaussians": Said(10_000, "A.2"),
    "seeds.frames": Silent(12, UNUSED),
    "seeds.opacity": Silent(0.1, SPLATTING),
    "densify.start": Said(3000, "A.2: after 3000 iterations"),
    "densify.stop": Silent(15_000, SPLATTING),
    "densify.every": Said(500, "A.2"),
    "densify.prune_opacity": Said(0.0002, "A.2"),
    "densify.prune_scale": Said(0.01 * SCENE_EXTENT_M, "A.2: 1% of the scene"),
    "objective.l1": Silent(0.8, PROGRAM),
    "objective.dssim": Silent(0.2, PROGRAM),
    "objective.perceptual": Silent(0.01, PROGRAM),
    "objective.perceptual_region": Silent("frame", PROGRAM),
    "objective.perceptual_from": Silent(0, PROGRAM),
    "objective.background": Silent("white", PROGRAM),
    "schedule.iterations": Silent(80_000, "its program's; A.2: about 3 hours on an RTX 3090"),
    "schedule.min_iterations": Silent(16_000, "a fifth, as of HeadGaS"),
    "schedule.batch": Said(1, "A.2"),
}


def effective(preset: str) -> dict[str, Any]:
    """Every setting of a preset that its avatar has, by its key."""
    config, found = load_preset(preset, FitConfig), {}
    for field in fields(FitConfig):
        section, *names = field.key.split(".")
        if section not in AVATARS or section == config.avatar:
            value = getattr(config, section)
            for name in names:
                value = getattr(value, name)
            found[field.key] = value
    return found


@pytest.mark.parametrize("preset, table", [("headgas", HEADGAS), ("gaussianhead", GAUSSIANHEAD)])
def test_the_papers_preset_is_the_papers(preset, table):
    settings = effective(preset)
    assert set(settings) == set(table), "a setting without an entry, or an entry without a setting"
    for key, entry in table.items():
        assert settings[key] == pytest.approx(entry.value), (key, entry)


def test_gaussians_that_start_at_random_may_grow_before_they_are_pruned(tmp_path):
    config, capture = (
        load_preset("gaussianhead", FitConfig),
        toys.make_capture(tmp_path, frames=3, size=16, test=1),
    )
    cloud = SEEDINGS["random"](
        capture, None, dataclasses.replace(config.seeds, num_gaussians=500), 0
    ).cloud
    assert 1.5 * float(cloud.scales.max()) < config.densify.prune_scale
    inside = (cloud.means - torch.tensor(SCENE_CENTRE_M)).abs().amax(0)
    # the planes' whole box
    assert (inside <= SCENE_RADIUS_M).all() and (inside > 0.95 * SCENE_RADIUS_M).all()
    assert GaussianHeadConfig().scene_radius == SCENE_RADIUS_M


@pytest.mark.parametrize(
    "field, known", [("avatar", AVATARS), ("initializer", SEEDINGS), ("densifier", DENSIFIERS)]
)
def test_a_variant_that_is_listed_can_be_chosen(field, known):
    for name in known:
        assert getattr(load_preset("default", FitConfig, [f"{field}={name}"]), field) == name
    with pytest.raises(UserError, match=f"{field}: expected one of {', '.join(known)}, got 'x'"):
        load_preset("default", FitConfig, [f"{field}=x"])


def test_a_new_setting_needs_an_entry():
    assert "densify.start" in effective("headgas") and "gaussianhead.channels" not in effective(
        "headgas"
    )
    assert len(effective("headgas")) > 50 and len(effective("gaussianhead")) > 60
