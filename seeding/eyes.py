"""Seeds of eyes and lids that no frame needs to have shown: what is hidden of an eye is white, and
a lid has skin enough to shut."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from likeness.head_models import shaped_head
from likeness.head_models.base import ShapedHead
from likeness.head_models.sampling import face_areas, interpolate, sample_triangles
from likeness.head_models.sides import sides_of
from likeness.head_models.surface import RestSurface
from likeness.ops import harmonics
from likeness.renderers.mesh import rasterize_camera
from likeness.scene.capture import Capture
from likeness.scene.frame_images import FrameStore
from likeness.scene.gaze import EYES
from likeness.scene.rig_binding import RigBinding
from likeness.scene.seeds import Seeds
from likeness.seeding.mesh import evenly_spread, round_cloud
from likeness.seeding.source_view import SourceView
from likeness.seeding.vertex_colours import vertex_colours

_OPACITY = 0.97
_VIEWS = 4  # training frames that colours come from
_MAX_EYE_M = 2.5e-3  # deviation
_HIDDEN_M = 1e-3  # behind what is seen
# Round seeds on shut lids: small enough not to reach far below the rim while the eye is open.
_LID_M, _PER_M2, _MAX_SHARE = 7e-4, 1.2e6, 0.12
_MIN_MOTION_M = 5e-4  # of skin that shuts


def with_eyes(seeds: Seeds, capture: Capture, frames: FrameStore, seed: int) -> Seeds:
    """The same with whole eyes and with lids that shut. Nothing changes where nothing is bound to
    eyes.

    Seeds of eyes are made no larger than they should be; those that a few training frames do not
    show lie on the eyeball, opaque, in the colour that is guessed there. Those on the inner side of
    the lids, which nobody sees, go. On the upper lids come more: evenly spread over them when they
    are shut, where their skin has far more area than it shows at rest.
    """
    head = shaped_head(capture)
    names = head.model.part_names
    numbers = [names.index(f"eye_{eye}") for eye in EYES if f"eye_{eye}" in names]
    eyes = torch.isin(head.model.vertex_part[seeds.rig.vertices], torch.tensor(numbers)).all(-1)
    if not eyes.any():
        return seeds
    chosen = evenly_spread(capture.train, _VIEWS)
    views = [SourceView.of(capture.frames[index], frames.get(index), head) for index in chosen]
    rgb = torch.from_numpy(vertex_colours(head, views).rgb)
    shown = ~eyes
    shown[eyes] = _shown(seeds.rig.select(eyes), capture, chosen, head)
    whole = _with_whites(seeds, head, eyes, shown, rgb)
    lining = sides_of(head.model.name).lining[seeds.rig.vertices].any(-1)
    whole = whole.select(~lining)
    return Seeds.cat([whole, *_lid_seeds(whole, head, rgb, seed)])


def _with_whites(seeds: Seeds, head: ShapedHead, eyes: Tensor, shown: Tensor, rgb: Tensor) -> Seeds:
    """eyes: which seeds [N] are theirs. shown: which [N] some frame shows. rgb: [V, 3] colours of
    the vertices."""
    cloud, rig = seeds.cloud, seeds.rig
    sh = torch.zeros_like(cloud.sh)
    sh[:, 0] = harmonics.from_rgb(interpolate(rgb, rig.vertices, rig.weights))
    cloud = dataclasses.replace(
        cloud,
        means=torch.where(shown[:, None], cloud.means, RestSurface(head).place(rig)),
        scales=torch.where(eyes[:, None], cloud.scales.clamp_max(_MAX_EYE_M), cloud.scales),
        opacities=torch.where(shown, cloud.opacities, _OPACITY),
        sh=torch.where(shown[:, None, None], cloud.sh, sh),
    )
    return dataclasses.replace(seeds, cloud=cloud)


def _shown(rig: RigBinding, capture: Capture, chosen: list[int], head: ShapedHead) -> Tensor:
    """Which of M places on the mesh some of the chosen frames shows, [M] bool."""
    shown = torch.zeros(len(rig.vertices), dtype=torch.bool)
    for number in chosen:
        state = capture.states[number]
        camera = capture.cameras[number].in_frame(state.T_world_head)
        vertices = head.posed(state).vertices
        raster = rasterize_camera(vertices, head.model.faces, camera)
        pixels, depth = camera.project(interpolate(vertices, rig.vertices, rig.weights))
        column, row = pixels.floor().long().unbind(-1)
        inside = (column >= 0) & (row >= 0) & (column < camera.width) & (row < camera.height)
        nearest = torch.from_numpy(raster.depth)[row[inside], column[inside]]
        shown[inside] |= depth[inside] < nearest + _HIDDEN_M
    return shown


def _lid_seeds(seeds: Seeds, head: ShapedHead, rgb: Tensor, seed: int) -> list[Seeds]:
    """More seeds on the upper lids; none for a model whose lids do not shut."""
    model, shapes = head.model, seeds.rig.shapes
    names = [f"eyeBlink{eye.capitalize()}" for eye in EYES]
    blinks = [model.expression_names.index(n) for n in names if n in model.expression_names]
    shut = shapes[blinks].sum(0)
    lids = (shut.norm(dim=-1) > _MIN_MOTION_M) & ~sides_of(model.name).lining
    skin = model.face_part == model.part_names.index("skin")
    areas = face_areas(head.vertices + shut, model.faces) * (skin & lids[model.faces].all(-1))
    wanted = round(float(areas.sum()) * _PER_M2)
    count = min(wanted, round(_MAX_SHARE * len(seeds.head_weights)))
    if count == 0:
        return []
    generator = torch.Generator().manual_seed(seed)
    triangles, barycentrics = sample_triangles(areas, count, generator)
    rig = RigBinding(shapes, model.faces[triangles], barycentrics)
    points = interpolate(head.vertices, rig.vertices, rig.weights)
    colours = interpolate(rgb, rig.vertices, rig.weights)
    sizes = torch.full((count,), _LID_M * (wanted / count) ** 0.5)
    cloud = round_cloud(points, colours, sizes, _OPACITY)
    if (own := seeds.cloud.sh.shape[1]) > 1:
        sh = torch.nn.functional.pad(cloud.sh, (0, 0, 0, own - 1))
        cloud = dataclasses.replace(cloud, sh=sh)
    features = None
    if seeds.features is not None:  # those of the nearest
        features = seeds.features[torch.cdist(points, seeds.cloud.means).argmin(1)]
    return [Seeds(cloud, torch.full((count,), 0.98), rig, features)]
