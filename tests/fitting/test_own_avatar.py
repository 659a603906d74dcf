"""The avatar of docs/extending.md, as its readers would list it: it keeps the contract of avatars
and is fitted."""

from __future__ import annotations

import inspect

import pytest
import torch

from likeness.fitting.avatars import AVATARS
from likeness.fitting.avatars.anchoring import AnchoringConfig
from likeness.fitting.config import FitConfig
from likeness.fitting.loop import Budget, fit
from likeness.renderers import create
from tests import toys
from tests.contract import test_avatars
from tests.documentation import code_under

CONTRACT = [name for name in vars(test_avatars.TestEveryAvatar) if name.startswith("test_")]


@pytest.fixture
def listed(monkeypatch) -> str:
    namespace: dict = {"__name__": "shading"}
    (code,) = code_under("docs/extending.md", "An avatar")
    exec(compile(code, "docs/extending.md", "exec", dont_inherit=True), namespace)
    monkeypatch.setitem(AVATARS, "shading", namespace["Shading"])
    return "shading"


@pytest.mark.parametrize(
    "anchoring", [AnchoringConfig(), test_avatars.EXTENDED], ids=["head", "two_frames"]
)
def test_it_keeps_the_contract(listed, anchoring, tmp_path):
    for name in CONTRACT:
        check = getattr(test_avatars.TestEveryAvatar(), name)
        given = {"dtype": torch.float64, "tmp_path": tmp_path}
        wanted = inspect.signature(check).parameters
        check(listed, anchoring, **{key: given[key] for key in wanted if key in given})


def test_it_is_fitted(listed, tmp_path):
    capture = toys.make_capture(tmp_path, frames=6, size=32)
    infos = []

    class Listener:
        def on_step(self, info, avatar):
            infos.append(info)

        def on_end(self, avatar):
            assert avatar.kind == listed

    budget = Budget(iterations=8)
    fit(capture, create("cpu", "cpu"), FitConfig(avatar=listed), budget, listeners=[Listener()])
    assert infos[-1].figures.loss < infos[0].figures.loss


def test_what_is_not_listed_is_refused():
    with pytest.raises(ValueError, match="avatar: expected one of headgas, .*, got 'shading'"):
        FitConfig(avatar="shading")
