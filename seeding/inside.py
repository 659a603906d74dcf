"""Seeds of the mouth's inside: teeth, gums, tongue and the dark cavity behind them.

They lie on the head model's parts and move with these alone: the upper teeth with the head, the
lower ones and the tongue with the jaw, the cavity between palate and jaw. Their colours suit the
person until frames say better.
"""

from __future__ import annotations

import torch
from torch import Tensor

from likeness.head_models import shaped_head
from likeness.head_models.base import HeadModel, ShapedHead
from likeness.head_models.farthest_first import farthest_first
from likeness.head_models.inside import TEETH, exposed_faces, inside_faces, inside_mouth, wide_open
from likeness.head_models.landmarks import LIPS
from likeness.head_models.regions import REGIONS
from likeness.head_models.sampling import face_areas, face_normals, interpolate, sample_triangles
from likeness.scene.capture import Capture
from likeness.scene.frame_images import FrameStore
from likeness.scene.rig_binding import RigBinding
from likeness.scene.seeds import Seeds
from likeness.seeding.mesh import evenly_spread
from likeness.seeding.source_view import SourceView
from likeness.seeding.unprojection.patches import flat_cloud
from likeness.seeding.vertex_colours import VertexColours, vertex_colours

_SHARE = 0.12  # of all seeds, unless there were more
_DENSITY = {"teeth_upper": 4.0, "teeth_lower": 4.0, "tongue": 1.5, "mouth_cavity": 0.35}
_HIDDEN = 0.05  # density, times it, of what no open mouth shows
LARGEST_M = {"teeth_upper": 1e-3, "teeth_lower": 1e-3, "tongue": 3.5e-3, "mouth_cavity": 5e-3}
_SPREAD = 0.75  # deviation over spacing
_OF_DEPTH, _LEAST_M = 0.35, 1.2e-3  # deviation over the distance from the skin, at most; at least
OPACITY = 0.97
_RIM_M, _RIM_GAIN = 0.008, 5.0  # from the skin: there the cavity has so many more
_CANDIDATES = 4  # per seed
_VIEWS = 4

# sRGB in the light that the whites of eyes are (0.80, 0.77, 0.75) in; see vertex_colours
_COLOURS = {
    "teeth_upper": (0.76, 0.71, 0.63),
    "teeth_lower": (0.72, 0.67, 0.60),
    "tongue": (0.60, 0.33, 0.32),
    "mouth_cavity": (0.20, 0.08, 0.07),
}
_GUM = (0.62, 0.36, 0.35)
_USUAL_LIPS = (0.68, 0.42, 0.40)
_LIP_HUE = (0.7, 1.3)  # lips over the usual ones: what is believed of it for tongue and gums
_SHADE, _SHADE_M = 0.6, 0.045  # what light is lost so far behind the front teeth
_LIP_DEPTH_M = 0.006  # from the skin, where the cavity begins to be dark


def with_inside(seeds: Seeds, capture: Capture, frames: FrameStore, seed: int) -> Seeds:
    """The same with the mouth's inside made anew. Seeds that were bound to it go; where there were
    none, and for a head model without such parts, nothing changes."""
    head = shaped_head(capture)
    own = inside_mouth(head.model)[seeds.rig.vertices].all(-1)
    if not own.any():
        return seeds
    count = max(int(own.sum()), round(_SHARE * len(own)))
    colours = person_colours(capture, frames, head)
    inside = inside_seeds(head, colours, seeds.rig.shapes, count, seed)
    if seeds.features is not None:  # those of what was there
        nearest = torch.cdist(inside.cloud.means, seeds.cloud.means[own]).argmin(1)
        inside = Seeds(inside.cloud, inside.head_weights, inside.rig, seeds.features[own][nearest])
    return Seeds.cat([seeds.select(~own), inside])


def person_colours(capture: Capture, frames: FrameStore, head: ShapedHead) -> VertexColours:
    """What a few training frames show of the person's colours."""
    chosen = evenly_spread(capture.train, _VIEWS)
    views = [SourceView.of(capture.frames[index], frames.get(index), head) for index in chosen]
    return vertex_colours(head, views)


def inside_seeds(
    head: ShapedHead, colours: VertexColours, shapes: Tensor, count: int, seed: int
) -> Seeds:
    """``count`` opaque flat seeds on the mouth's inside, evenly spread over what open mouths show.
    shapes: of the rig."""
    model, generator = head.model, torch.Generator().manual_seed(seed)
    shown = torch.where(exposed_faces(model), 1.0, _HIDDEN)
    density = model.values_by_part(_DENSITY, 0.0) * shown * inside_faces(model)
    # What shows of the cavity first is the inner side of the lips.
    cavity = model.values_by_part({"mouth_cavity": 1.0}, 0.0) > 0
    rim = _skin_distance(head, head.vertices[model.faces].mean(1)) < _RIM_M
    density = torch.where(cavity & rim, density * _RIM_GAIN, density)
    # The cavity stretches: evenly spread, and closed, it must be in the open mouth.
    wide = head.posed(wide_open(model)).vertices
    weights = face_areas(wide, model.faces) * density
    triangles, barycentrics = sample_triangles(weights, _CANDIDATES * count, generator)
    points = interpolate(wide, model.faces[triangles], barycentrics)
    order = farthest_first(points.numpy(), density[triangles].sqrt().numpy(), count)
    triangles, barycentrics = triangles[order], barycentrics[order]
    points = interpolate(head.vertices, model.faces[triangles], barycentrics)
    normals = torch.nn.functional.normalize(face_normals(head.vertices, model.faces), dim=-1)
    spacing = (weights.sum() / count / density[triangles]).sqrt()
    largest = model.values_by_part(LARGEST_M, 0.0)[triangles]
    # None of the cavity's may stand over the rim of a lip, before the teeth.
    near = (_OF_DEPTH * _skin_distance(head, points)).clamp_min(_LEAST_M)
    sizes = (_SPREAD * spacing).minimum(largest).minimum(near)[:, None].repeat(1, 2)
    rig = RigBinding(shapes, model.faces[triangles], barycentrics)
    rgb = inside_colours(head, colours, rig.vertices, rig.weights)
    cloud = flat_cloud(points, normals[triangles], sizes, rgb, opacities=OPACITY)
    return Seeds(cloud, torch.full((count,), 0.98), rig)


def inside_colours(
    head: ShapedHead, colours: VertexColours, corners: Tensor, barycentrics: Tensor
) -> Tensor:
    """Colours [N, 3] of places on the inside that nobody has seen: teeth as bright as the whites of
    the eyes say, tongue and gums of the lips' hue, the cavity dark; all darker further in.

    corners, barycentrics: [N, 3] vertices of the inside around the places, and their weights.
    """
    model, light = head.model, torch.from_numpy(colours.light).float()
    parts = model.vertex_part[corners[:, 0]]
    place = interpolate(model.template, corners, barycentrics)
    lips = lip_colour(head, colours)
    hue = (lips / (torch.tensor(_USUAL_LIPS) * light)).clamp(*_LIP_HUE)
    rgb = torch.zeros(len(place), 3)
    for name, colour in _COLOURS.items():
        if name not in model.part_names:
            continue
        here = parts == model.part_names.index(name)
        rgb[here] = torch.tensor(colour) * light * (1.0 if name in TEETH else hue)
        if name in TEETH and model.name in REGIONS:
            upper, lower = REGIONS[model.name].gum_lines
            y = 1000 * place[:, 1]
            gum = y > upper if name == "teeth_upper" else y < lower
            rgb[here & gum] = torch.tensor(_GUM) * light * hue
        if name == "mouth_cavity":
            # the lips go on inside
            points = interpolate(head.vertices, corners, barycentrics)[here]
            near = (1.8 - _skin_distance(head, points) / _LIP_DEPTH_M).clamp(0, 1)[:, None]
            rgb[here] = rgb[here] + near * (lips - rgb[here])
    front = _front(model)
    depth = ((front - place[:, 2]) / _SHADE_M).clamp(0, 1)[:, None]
    return (rgb * (1 - _SHADE * depth)).clamp(0, 1)


def _skin_distance(head: ShapedHead, points: Tensor) -> Tensor:
    """Distances [N] in metres of points [N, 3] from the nearest vertices of the skin."""
    from scipy.spatial import KDTree

    model = head.model
    skin = model.vertex_part == model.part_names.index("skin")
    return torch.from_numpy(KDTree(head.vertices[skin].numpy()).query(points.numpy())[0]).float()


def lip_colour(head: ShapedHead, colours: VertexColours) -> Tensor:
    """The median colour [3] of the lips: halfway between their outer and inner border."""
    at = head.model.landmark_vertices(torch.from_numpy(colours.rgb))
    outer, inner = (list(LIPS[:20]), list(LIPS[20:]))
    return (0.5 * (at[outer] + at[inner])).median(0).values


def _front(model: HeadModel) -> float:
    """How far the front teeth reach in the template, or else the inside as a whole; metres."""
    teeth = [model.part_names.index(name) for name in TEETH if name in model.part_names]
    vertices = torch.isin(model.vertex_part, torch.tensor(teeth)) if teeth else inside_mouth(model)
    return float(model.template[vertices, 2].max())
