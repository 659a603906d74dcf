"""The mouth's inside and the eyes in a fit: learned from what frames show of them, and from nothing
else.

What lips and lids hide must not be painted by what is seen of these. So Gaussians of the inside
that the tracked head hides in a frame learn nothing there: they are drawn in the colours that suit
the person, or left out, by turns, so that lips and lids come to be opaque without them. At the end
of the fit, what no frame has shown has those colours, moved as far as frames have moved its part's.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from likeness.fitting.avatars import AvatarModel
from likeness.fitting.occlusion import EYES_BEHIND_LIDS, MOUTH, Occlusion
from likeness.head_models import shaped_head
from likeness.head_models.inside import inside_mouth
from likeness.head_models.sampling import interpolate
from likeness.ops import harmonics
from likeness.renderers.output import ScreenStats
from likeness.scene.capture import Capture
from likeness.scene.cloud import GaussianCloud
from likeness.scene.frame_images import FrameStore
from likeness.seeding.inside import OPACITY, inside_colours, person_colours

_BEHIND_M = 4e-3  # the skin, and nearer to the mouth's inside than to it: astray
# Frames that show a Gaussian, after which it is believed as much as its part. Eyes look about.
_FRAMES, _FRAMES_EYES = 20.0, 1.0
_MEMBERS = 10.0  # Gaussians of a part that were seen, likewise
_AT_MOST = 200  # frames that are looked at for that
_LOGIT = 12.0
_OPENINGS, _NONE = (MOUTH, *EYES_BEHIND_LIDS), -1


@dataclasses.dataclass(frozen=True)
class _Members:
    """The M Gaussians of an avatar that are bound to the inside alone: their indices, numbers of
    parts, numbers of the openings that they lie behind, and the harmonics [M, 3] of the colours
    that suit the person."""

    index: Tensor
    parts: Tensor
    openings: Tensor
    harmonics: Tensor


class Inside:
    """The mouth's inside and the eyes in the fit of a rigged avatar to a capture."""

    def __init__(self, capture: Capture, frames: FrameStore, device: torch.device | str) -> None:
        self._capture, self._device, self._head = capture, device, shaped_head(capture)
        self._occlusion = Occlusion(capture, self._head, device, _OPENINGS)
        self._colours = person_colours(capture, frames, self._head)
        model = self._head.model
        opening = torch.full((len(model.template),), _NONE)
        for number, each in enumerate(_OPENINGS):
            opening[each.behind(model)] = number
        self._opening, self._parts = opening.to(device), model.vertex_part.to(device)
        self._near = _tree(self._head.vertices[inside_mouth(model)])
        self._skin = _tree(self._head.vertices[model.skin_faces.unique()])
        self._known: tuple[Tensor, int, _Members] | None = None

    @torch.no_grad()
    def members(self, avatar: AvatarModel) -> _Members:
        """Those of an avatar; looked up again when its binding has changed."""
        assert (rig := avatar.rig) is not None
        bound, version = rig.vertices, rig.vertices._version
        if self._known is None or self._known[0] is not bound or self._known[1] != version:
            index = (self._opening[rig.vertices] != _NONE).all(-1).nonzero()[:, 0]
            corners, weights = rig.vertices[index], rig.weights[index]
            openings, parts = self._opening[corners[:, 0]], self._parts[corners[:, 0]]
            suited = harmonics.from_rgb(self._suited(corners.cpu(), weights.cpu(), openings.cpu()))
            members = _Members(index, parts, openings, suited.to(self._device))
            self._known = bound, version, members
        return self._known[2]

    def _suited(self, corners: Tensor, weights: Tensor, openings: Tensor) -> Tensor:
        """Colours [M, 3] that suit the person at places on the inside."""
        rgb = interpolate(torch.from_numpy(self._colours.rgb), corners, weights)
        mouth = openings == _OPENINGS.index(MOUTH)
        rgb[mouth] = inside_colours(self._head, self._colours, corners[mouth], weights[mouth])
        return rgb

    @torch.no_grad()
    def remove_strays(self, avatar: AvatarModel) -> None:
        """Makes transparent what has strayed into the mouth, behind its skin, without being bound
        to the inside. Nothing happens where a network alone gives opacities."""
        if (logits := avatar.base_opacities()) is None:
            return
        means = avatar.per_gaussian["means"].detach().cpu()
        others = torch.ones(len(means), dtype=torch.bool)
        members = self.members(avatar)
        others[members.index[members.openings == _OPENINGS.index(MOUTH)].cpu()] = False
        behind = torch.from_numpy(self._skin.query(means.numpy())[0])
        others &= behind > _BEHIND_M
        index = others.nonzero()[:, 0]
        inner = torch.from_numpy(self._near.query(means[index].numpy())[0])
        logits[index[inner < behind[index]].to(logits.device)] = -_LOGIT

    def learns(self, cloud: GaussianCloud, avatar: AvatarModel, frames: Sequence[int]) -> Tensor:
        """Which of the inside's Gaussians (``members``) learn from frames with these clouds
        [*b, N]: those that they do not hide, [*b, M] bool."""
        members = self.members(avatar)
        means = cloud.means.detach()[..., members.index, :]
        frames_of = means.reshape(len(frames), -1, 3)
        hidden = [self._hidden(members, frame, points) for frame, points in zip(frames, frames_of)]
        return ~torch.stack(hidden).view(means.shape[:-1])

    def _hidden(self, members: _Members, frame: int, points: Tensor) -> Tensor:
        """Whether a frame hides members at points [M, 3] of its head frame, [M] bool."""
        hidden = torch.zeros(len(points), dtype=torch.bool, device=points.device)
        for number in range(len(_OPENINGS)):
            hidden |= (members.openings == number) & self._occlusion.hidden(frame, points, number)
        return hidden

    def drawn(
        self, cloud: GaussianCloud, avatar: AvatarModel, frames: Sequence[int], suited: bool
    ) -> GaussianCloud:
        """The clouds [*b, N] of frames as they are rendered: what does not learn is without
        gradients, and either in the colours that suit or left out."""
        members, learns = self.members(avatar), self.learns(cloud, avatar, frames)
        opacities = torch.full_like(learns, OPACITY if suited else 0.0, dtype=cloud.opacities.dtype)
        sh = cloud.sh.new_zeros(*learns.shape, *cloud.sh.shape[-2:])
        sh[..., 0, :] = members.harmonics.to(sh)
        instead = {"opacities": opacities, "sh": sh}
        fields = {
            name: _Learned.apply(value, members.index, learns, instead.get(name))
            for name, value in cloud.fields().items()
        }
        return dataclasses.replace(cloud, **fields)

    def silence(
        self, screen: ScreenStats, cloud: GaussianCloud, avatar: AvatarModel, frames: Sequence[int]
    ) -> None:
        """Takes the gradients of screen positions from what does not learn: a densifier must not
        grow it for them."""
        index, learns = self.members(avatar).index, self.learns(cloud, avatar, frames)
        for gradient in (screen.means2d.grad, screen.absgrad):
            if gradient is not None:
                gradient.copy_(_masked(gradient, index, learns))

    @torch.no_grad()
    def complete(self, avatar: AvatarModel) -> None:
        """Changes the constant colours and opacities of what the training frames did not show, as
        far as they did not. Nothing happens where a network alone gives these."""
        rig, colours, logits = avatar.rig, avatar.base_colours(), avatar.base_opacities()
        if rig is None or colours is None or logits is None:
            return
        members = self.members(avatar)
        if len(members.index) == 0:
            return
        evidence, colour, logit = self._observed(avatar.subset(members.index), members)
        mouth = members.openings == _OPENINGS.index(MOUTH)
        seen = evidence / (evidence + torch.where(mouth, _FRAMES, _FRAMES_EYES))
        wanted = members.harmonics.clone()
        for part in members.parts.unique():
            here = members.parts == part
            known, change = seen[here, None], (colour - members.harmonics)[here]
            wanted[here] += (known * change).sum(0) / (known.sum() + _MEMBERS)
        colours[members.index] += (1 - seen)[:, None] * (wanted - colour)
        opaque = math.log(OPACITY / (1 - OPACITY))
        logits[members.index] += (1 - seen) * (opaque - logit)

    def _observed(self, inside: AvatarModel, members: _Members) -> tuple[Tensor, Tensor, Tensor]:
        """Of an avatar of the M members alone: how many training frames show each [M],
        and its mean harmonics [M, 3] and logit of opacity [M] there, or over all frames where none
        does."""
        train = list(self._capture.train)
        chosen = train[:: -(-len(train) // _AT_MOST)]
        states = self._capture.states.to(self._device)
        cameras = self._capture.cameras.to(self._device)
        shown, colours, logits = [], [], []
        for frame in chosen:
            state = states[frame]
            cloud = inside(state, cameras[frame].in_frame(state.T_world_head).center)
            shown.append(~self._hidden(members, frame, cloud.means))
            colours.append(cloud.sh[:, 0])
            logits.append(torch.logit(cloud.opacities).clamp(-_LOGIT, _LOGIT))
        weight = torch.stack(shown).to(colours[0])
        evidence = weight.sum(0)
        weight = torch.where(evidence > 0, weight, 1.0)
        weight = weight / weight.sum(0)
        colour = (weight[..., None] * torch.stack(colours)).sum(0)
        logit = (weight * torch.stack(logits)).sum(0)
        return evidence * (len(train) / len(chosen)), colour, logit


class _Learned(torch.autograd.Function):
    """Values [*b, N, ...] in which those of Gaussians that do not learn are replaced, and get no
    gradient. index: [M]; learns: [*b, M]; instead: [*b, M, ...], None: the values stay."""

    @staticmethod
    def forward(
        ctx: Any, value: Tensor, index: Tensor, learns: Tensor, instead: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(index, learns)
        return value.view_as(value) if instead is None else _masked(value, index, learns, instead)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        index, learns = ctx.saved_tensors
        return _masked(grad_outputs[0], index, learns), None, None, None


def _tree(points: Tensor):
    from scipy.spatial import KDTree

    return KDTree(points.numpy())


def _masked(value: Tensor, index: Tensor, learns: Tensor, instead: Tensor | float = 0.0) -> Tensor:
    """The values [*b, N, ...], ``instead`` [*b, M, ...] where those of ``index`` [M] do not learn
    ([*b, M])."""
    dim = learns.ndim - 1
    mask = learns.view(*learns.shape, *[1] * (value.ndim - learns.ndim))
    rows = torch.where(mask, value.index_select(dim, index), instead)
    return value.index_copy(dim, index, rows)
