"""Samples: a source image of a person with a tracker's errors, and target images of the same
person."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from likeness.head_models import shaped_head
from likeness.one_shot.inputs import (
    NetworkInputs,
    SourceImage,
    SourcePerson,
    network_inputs,
    resized,
)
from likeness.one_shot.queries import QueryPoints, make_queries
from likeness.scene.camera import Camera
from likeness.scene.capture import MANIFEST, Capture, Identity
from likeness.scene.errors import UserError
from likeness.scene.frame_images import load_rgba
from likeness.scene.head_state import HeadState
from likeness.scene.reading import read_text
from likeness.scene.transforms import (
    make_transform,
    multiply_quats,
    rotvecs_to_matrices,
    rotvecs_to_quats,
)
from likeness.training.config import TrainConfig


@dataclasses.dataclass(frozen=True)
class Sample:
    """One source and T targets of a person; N queries.

    inputs: of the source. head_logits: [N]. colours: [T, H, W, 3] premultiplied; mattes: [T, H, W,
    1]; cameras: [T], in the head frame; displacements: [T, N, 3] of the queries; T_head_body: [T,
    4, 4]. vertices: [V, 3] at rest.
    """

    inputs: NetworkInputs
    head_logits: Tensor
    colours: Tensor
    mattes: Tensor
    cameras: Camera
    displacements: Tensor
    T_head_body: Tensor
    vertices: Tensor


def find_captures(sources: list[Path]) -> list[Path]:
    """Capture folders among the paths, which are captures, folders that hold some, or text files
    that list some.

    Raises UserError when one of them is none of these or nothing is found.
    """
    roots: list[Path] = []
    for source in map(Path, sources):
        if (source / MANIFEST).is_file():
            roots.append(source)
        elif source.is_dir():
            roots += sorted(
                path.parent for path in source.rglob(MANIFEST) if (path.parent / "images").is_dir()
            )
        elif source.is_file():
            lines = [line.strip() for line in read_text(source, "list of captures").splitlines()]
            roots += [source.parent / line for line in lines if line and not line.startswith("#")]
        else:
            raise UserError(
                f"{source}: not found; expected a capture, a folder of captures, or a list of them"
            )
    if not roots:
        raise UserError(
            f"{', '.join(map(str, sources))}: no captures in it; make people with --people N"
        )
    return list(dict.fromkeys(roots))


class Samples(torch.utils.data.Dataset[Sample]):
    """Samples by their number; the same number always gives the same one. Captures are read when
    they are needed."""

    def __init__(self, roots: list[Path], config: TrainConfig, seed: int, group: int) -> None:
        """group: samples that make one step, over all processes; they share the number of
        queries."""
        self.roots, self.config, self.seed, self.group = roots, config, seed, group
        self._captures: dict[int, Capture] = {}
        self._images: dict[tuple[int, int], np.ndarray] = {}
        self._room = config.data.cache_gb * 1e9

    def __len__(self) -> int:
        return 2**31

    def queries_of(self, number: int, head_model: str) -> QueryPoints:
        """The queries of a sample."""
        model, step = self.config.model, number // self.group
        rng = np.random.default_rng((self.seed, 1, step))
        fewest = max(round(model.queries * self.config.data.fewest_queries), model.tokens)
        if model.tokens == 0 or fewest >= model.queries:
            return make_queries(head_model, model.queries, model.tokens)
        return make_queries(head_model, model.queries, model.tokens).first(
            int(rng.integers(fewest, model.queries))
        )

    def __getitem__(self, number: int) -> Sample:
        data, rng = self.config.data, np.random.default_rng((self.seed, 2, number))
        which = int(rng.integers(len(self.roots)))
        capture = self.capture(which)
        if len(capture.frames) < 2:
            raise UserError(f"{capture.root}: one frame; expected two or more to learn from")
        order = rng.permutation(len(capture.frames))
        source, targets = int(order[0]), [int(k) for k in order[1 : 1 + data.targets]]
        jitter = _colour_change(data.colour_jitter, rng)
        queries = self.queries_of(number, capture.head_model)
        state, identity = tracked_with_errors(capture, source, self.config, rng)
        person = SourcePerson.of(queries.model.shaped(identity))
        colour, matte = self.image(which, source)
        image = SourceImage(jitter(colour), matte, capture.frames[source].camera, state)
        states, size = capture.states[targets], data.target_size
        cameras = capture.cameras[targets].in_frame(states.T_world_head).resized(size, size)
        images = [self.image(which, k) for k in targets]
        truth = torch.stack([resized(torch.cat([jitter(c) * m, m], -1), size) for c, m in images])
        displacements = [queries.of(person.moved(expression)) for expression in states.expression]
        return Sample(
            inputs=network_inputs(queries, person, image, self.config.model),
            head_logits=person.query_logits(queries),
            colours=truth[..., :3],
            mattes=truth[..., 3:],
            cameras=cameras,
            displacements=torch.stack(displacements),
            T_head_body=states.T_head_body,
            vertices=person.head.vertices,
        )

    def capture(self, which: int) -> Capture:
        """The capture number ``which``. Raises UserError when it is damaged or of another head
        model's names."""
        if which not in self._captures:
            capture = Capture.load(self.roots[which])
            shaped_head(capture)  # of a model and version that are known
            self._captures[which] = capture
        return self._captures[which]

    def image(self, which: int, frame: int) -> tuple[Tensor, Tensor]:
        """Straight colour [H, W, 3] and matte [H, W, 1] in [0, 1]."""
        rgba = self._images.get((which, frame))
        if rgba is None:
            rgba = load_rgba(self.capture(which).frames[frame])
            if self._room > rgba.nbytes:
                self._images[which, frame] = rgba
                self._room -= rgba.nbytes
        pixels = torch.from_numpy(rgba).float() / 255
        return pixels[..., :3], pixels[..., 3:]


def tracked_with_errors(
    capture: Capture, index: int, config: TrainConfig, rng: np.random.Generator
) -> tuple[HeadState, Identity]:
    """State and identity of a frame as a tracker might have found them."""
    data, state = config.data, capture.frames[index].state
    identity = capture.identity

    def noise(shape, sigma) -> Tensor:
        return torch.from_numpy(rng.normal(0, sigma, tuple(shape))).float()

    coefficients = identity.coefficients + noise(identity.coefficients.shape, data.identity_noise)
    tilt = rotvecs_to_matrices(noise((3,), np.radians(data.pose_noise_deg)))
    view_shift = noise((3,), data.shift_noise_m) * torch.tensor([1.0, 1.0, 3.0])
    rotation = capture.frames[index].camera.T_cam_world[:3, :3].T
    T_world_head = state.T_world_head @ make_transform(tilt, torch.zeros(3))
    T_world_head = make_transform(T_world_head[:3, :3], T_world_head[:3, 3] + rotation @ view_shift)
    expression = (state.expression + noise(state.expression.shape, data.expression_noise)).clamp(
        0, 1
    )
    glance = rotvecs_to_quats(noise((3,), 0.03) * torch.tensor([1.0, 1.0, 0.0]))
    joints = multiply_quats(glance.expand_as(state.joints), state.joints)
    noisy = dataclasses.replace(
        state, expression=expression, joints=joints, T_world_head=T_world_head
    )
    return noisy, Identity(coefficients, identity.offsets)


def _colour_change(strength: float, rng: np.random.Generator):
    """One change of colours for all images of a sample."""
    gain = torch.from_numpy(
        np.exp(strength * (rng.normal() * 0.6 + 0.4 * rng.normal(size=3)))
    ).float()
    gamma = float(np.exp(strength * rng.normal()))
    return lambda colour: (colour.clamp(0, 1) ** gamma * gain).clamp(0, 1)
