"""Every avatar's evaluation on a device is one graph of operations for torch.compile, and gives the
same by it."""

from __future__ import annotations

import pytest
import torch

from likeness.fitting.avatars import AVATARS
from likeness.fitting.avatars.anchoring import AnchoringConfig
from likeness.playback.evaluators import compiled
from tests import toys
from tests.contract.test_avatars import EXTENDED, EYE, fields_close, make

# What all avatars share is traced with one of them, which is quickest.
ANCHORING = {"rigged": EXTENDED, "gaussianhead": AnchoringConfig(two_frames=True)}


@pytest.mark.parametrize("kind", AVATARS)
def test_the_compiled_evaluation_is_the_same(kind):
    """In double precision, which takes the way of CUDA."""
    avatar = make(kind, ANCHORING.get(kind, AnchoringConfig())).double().compile()
    states, eye = toys.random_states((3,)).to(torch.float64), EYE.double()
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    with torch.no_grad():
        evaluate = compiled(avatar, states[0], eye, backend="aot_eager")
        for index in range(3):
            fields_close(evaluate(states[index], eye), avatar(states[index], eye), 1e-9)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_the_turn_of_harmonics_is_not_solved_for_again():
    """torch.compile looks past ``functools`` caches: what they keep would be computed in every
    picture."""
    from likeness.ops import harmonics

    seen = []

    def record(graph, inputs):
        seen.extend(str(node.target) for node in graph.graph.nodes if node.op == "call_function")
        return graph.forward

    turn = toys.head_pose(0.3)[:3, :3]
    expected = harmonics.rotation_matrices(turn, 2)
    torch._dynamo.reset()
    found = torch.compile(
        lambda matrices: harmonics.rotation_matrices(matrices, 2), fullgraph=True, backend=record
    )(turn)
    torch.testing.assert_close(found, expected)
    assert seen and not any("pinv" in name or "arange" in name for name in seen)


def test_inductor_on_cuda_needs_triton(cuda, monkeypatch):
    monkeypatch.setattr("likeness.playback.evaluators.importlib.util.find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match="triton is missing"):
        compiled(make("rigged").compile("cuda"), toys.random_states(()).to("cuda"), EYE.to("cuda"))
