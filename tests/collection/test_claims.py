"""Claims: one owner at a time, whatever dies, on one machine and on several."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from likeness.collection import claims
from likeness.scene.errors import UserError


def test_a_claim_is_exclusive_until_released(tmp_path):
    claim = claims.take(tmp_path, "fit")
    assert claim is not None and claims.take(tmp_path, "fit") is None
    assert claims.take(tmp_path, "preprocess") is not None  # another task
    assert str(os.getpid()) in claims.owner(tmp_path, "fit")
    claim.release()
    assert claims.take(tmp_path, "fit") is not None


def _claim_and_die(folder: Path, machine: str | None = None) -> None:
    """A claim whose owner ended without releasing it; of another machine, if named."""
    code = f"from pathlib import Path; from fleet import claims; claims.take(Path({str(folder)!r}), 'fit')"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
    (path,) = folder.glob("fit.claim-*")
    if machine is not None:
        path.write_text(json.dumps({"machine": machine, "processes": [[1, "1"]]}))


def test_a_dead_owner_on_this_machine_is_known_at_once(tmp_path):
    _claim_and_die(tmp_path)
    claim = claims.take(tmp_path, "fit", stale_s=1e9)
    assert claim is not None and claim.number == 2


def test_a_child_that_outlives_its_owner_keeps_the_claim(tmp_path):
    _claim_and_die(tmp_path)
    (path,) = tmp_path.glob("fit.claim-*")
    child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    entry = json.loads(path.read_text())
    path.write_text(
        json.dumps(
            {**entry, "processes": [*entry["processes"], [child.pid, claims._started(child.pid)]]}
        )
    )
    assert claims.take(tmp_path, "fit") is None
    child.communicate(b"\n")
    assert claims.take(tmp_path, "fit") is not None


def test_an_owner_on_another_machine_is_judged_by_its_heartbeat(tmp_path):
    _claim_and_die(tmp_path, machine="elsewhere/boot/pid")
    (path,) = tmp_path.glob("fit.claim-*")
    assert claims.take(tmp_path, "fit", stale_s=60) is None
    os.utime(path, (time.time() - 100, time.time() - 100))
    assert claims.take(tmp_path, "fit", stale_s=200) is None
    assert claims.take(tmp_path, "fit", stale_s=60) is not None


def test_beats_keep_a_claim_and_notice_a_successor(tmp_path):
    claim = claims.take(tmp_path, "fit", beat_s=0.0)
    os.utime(claim.path, (0, 0))
    assert claim.beat() and time.time() - claim.path.stat().st_mtime < 60
    (tmp_path / "fit.claim-2").write_text("{}")  # we slept, and another machine took us for dead
    assert not claim.beat()
    claim.path.unlink()
    assert not claim.beat()


def test_a_slow_taker_withdraws(tmp_path, monkeypatch):
    """It looked when number 1 was stale; by now 2 came and was stale in its turn, and 3 is at
    work."""
    _claim_and_die(tmp_path)
    (tmp_path / "fit.claim-3").write_text("{}")
    tops = iter([1, 3])
    monkeypatch.setattr(claims, "_top", lambda *_: next(tops))
    assert claims.take(tmp_path, "fit") is None
    assert {path.name for path in tmp_path.glob("fit.claim-*")} == {"fit.claim-1", "fit.claim-3"}


def _race(folder: Path) -> bool:
    claim = claims.take(folder, "fit")
    time.sleep(0.5)  # nobody lets go before all have tried
    return claim is not None


def test_of_many_that_take_over_at_once_one_does(tmp_path):
    folders = [tmp_path / str(number) for number in range(3)]
    with ProcessPoolExecutor(4) as pool:
        for folder in folders:
            folder.mkdir()
            _claim_and_die(folder, machine="elsewhere/boot/pid")
            os.utime(folder / "fit.claim-1", (0, 0))
            assert sum(pool.map(_race, [folder] * 4)) == 1


def test_a_number_used_again_is_not_the_same_process():
    assert claims._started(os.getpid()) == claims._started(os.getpid()) is not None
    done = subprocess.Popen([sys.executable, "-S", "-c", ""])
    done.wait()
    assert claims._started(done.pid) is None


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file/tasks"):
        claims.take(tmp_path / "file" / "tasks", "fit")
