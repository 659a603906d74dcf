from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser

import pytest

from likeness.fitting.report import contents, write_report
from likeness.fitting.report.charts import Series, line_chart, running_mean
from tests.fitting import synthetic_run

_VOID = {"meta", "img", "input", "br", "link", "line", "rect", "path"}


class _Page(HTMLParser):
    """Collects what a page refers to, and checks that its tags are balanced."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.addresses += [value for key, value in attributes if key in ("src", "href")]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.addresses += [value for key, value in attributes if key in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return synthetic_run.make_run(tmp_path_factory.mktemp("runs") / "subject")


def test_report_of_a_whole_run(run):
    path = write_report(run)
    assert path == run / "report.html"
    page = _Page(path.read_text())
    assert all(address.startswith(("data:image/", "#")) for address in page.addresses), (
        "refers to something outside"
    )
    metrics = json.loads((run / "metrics.json").read_text())
    for expected in (
        f"{metrics['headline']['psnr']:.2f}",
        f"{metrics['heldout']['psnr']:.2f}",
        "12,345",
        "3.2 MB",
        "look left & right while filming",
        "worst frame",
        "mouth open widest",
        "on green",
        "preprocessing: matting",
        "l1: 0.8",
        "jawOpen",
        "perceptual loss: off",
        "truth › rotation_degrees › median 1.234",
    ):
        assert expected.lower() in page.text.lower(), expected
    assert "no expressions" in page.text and "missing" not in page.text.lower()
    assert (
        page.text.count("undefined") == 0
        and "None" not in page.text
        and "nan" not in page.text.split()
    )
    pictures = [address for address in page.addresses if address.startswith("data:")]
    assert len(pictures) >= 2 * 3 + 2 + 6  # held-out, mesh, mattes


def test_the_first_card_is_what_a_driver_reaches(run):
    metrics = json.loads((run / "metrics.json").read_text())
    assert (
        metrics["headline"]["psnr"]
        == metrics["unswayed"]["heldout"]["psnr"]
        != metrics["heldout"]["psnr"]
    )
    tiles = contents.gather(run)["tiles"]
    assert tiles[0] == {
        "label": "held-out PSNR",
        "value": f"{metrics['headline']['psnr']:.1f} dB",
        "note": "+0.0 dB against no expressions",
    }
    assert tiles[1]["label"] == "with tracked secondary motion"
    assert tiles[1]["value"] == f"{metrics['heldout']['psnr']:.1f} dB"


def test_times_say_on_what_machine(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "copy")
    assert contents.gather(copy)["machine"] is None
    found = {"processor": "Abacus <9>", "cores": 2, "instructions": ["avx2"], "date": "2001-02-03"}
    for settings in ({"machine": found}, {"machine": {"cores": 2}}, {"machine": [1]}, {}):
        (copy / "run.json").write_text(json.dumps(settings))
        page = write_report(copy).read_text()
        assert ("Machine: Abacus &lt;9&gt;, 2 cores, avx2, 2001-02-03" in page) == (
            settings == {"machine": found}
        )


def test_metrics_of_older_runs_are_shown(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "copy")
    metrics = json.loads((run / "metrics.json").read_text())
    for key in ("headline", "unswayed"):
        del metrics[key]
    del metrics["baseline"]["unswayed"]
    without_frames = metrics | {"unswayed": {"heldout": {"psnr": 20.0}, "regions": {}}}
    for content, psnr in ((metrics, metrics["heldout"]["psnr"]), (without_frames, 20.0)):
        (copy / "metrics.json").write_text(json.dumps(content))
        found = contents.gather(copy)
        assert found["tiles"][0]["value"] == f"{psnr:.1f} dB" and found["heldout"]
        assert ("secondary motion" in found["tiles"][1]["label"]) == (content is without_frames)


def test_charts_hold_the_curves(run):
    text = write_report(run).read_text()
    for label in (
        "degrees over seconds",
        "coefficient over seconds",
        "loss over step",
        "number over step",
    ):
        chart = text.split(f'aria-label="{label}"')[1].split("</svg>")[0]
        assert re.search(r'd="M[\d.]+ [\d.]+L', chart), label


@pytest.mark.parametrize(
    "gone, said",
    [
        ("metrics.json", "There is no metrics.json yet"),
        ("heldout", "There are no held-out images yet"),
        ("capture", "There is no capture in this run directory"),
        ("log.jsonl", "There is no log of a fit yet"),
        ("config.yaml", "There is no config.yaml"),
    ],
)
def test_a_missing_part_is_said(run, tmp_path, gone, said):
    copy = shutil.copytree(run, tmp_path / "copy")
    shutil.rmtree(copy / gone) if (copy / gone).is_dir() else (copy / gone).unlink()
    assert said in _Page(write_report(copy).read_text()).text


def test_an_empty_run_still_gives_a_page(tmp_path):
    page = _Page(write_report(tmp_path).read_text())
    assert "There is no metrics.json yet" in page.text and "There is no capture" in page.text


def test_damaged_files_are_said_and_texts_escaped(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "<b>me&you")
    (copy / "metrics.json").write_text('{"heldout": ')
    (copy / "config.yaml").write_text("name: <script>alert(1)</script>\n")
    text = write_report(copy).read_text()
    page = _Page(text)
    assert "damaged" in page.text and "<script>alert" not in text and "<b>me" not in text


def test_values_of_other_kinds_do_no_harm(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "copy")
    metrics = {
        "heldout": {"psnr": None},
        "baseline": None,
        "regions": [],
        "per_frame": [{"psnr": 3}],
        "seconds": {},
    }
    (copy / "metrics.json").write_text(json.dumps(metrics))
    assert "Nothing was measured" in _Page(write_report(copy).read_text()).text


def test_a_chart_leaves_gaps_and_survives_constant_values():
    svg = line_chart(
        [Series("a", [0, 1, 2, 3], [1.0, None, float("nan"), 1.0])], x_label="x", y_label="y"
    )
    assert svg.count("M") == 2 and "nan" not in svg
    assert line_chart([Series("a", [], [])], x_label="x", y_label="y") == ""
    assert (
        line_chart([Series("a", [0, 1], [0.0, -1.0])], x_label="x", y_label="y", log_y=True) == ""
    )


def test_running_mean_has_no_bias_at_its_start():
    assert running_mean([2.0] * 5 + [None] + [2.0] * 200) == pytest.approx(
        [2.0] * 5 + [None] + [2.0] * 200
    )
