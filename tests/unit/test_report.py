"""What a report promises: everything is in it, as it is, and nothing of it is read as markup."""

import base64
import gzip
import hashlib
import json
import logging
import math
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from typer.testing import CliRunner

import mlobs
from mlobs.cli.app import app
from mlobs.errors import MissingPackage, StoreError, UsageError
from mlobs.reporting import document, pictures
from mlobs.reporting.colours import DARK, DASHES, LIGHT
from mlobs.reporting.curves import curves_of
from mlobs.reporting.thinning import thin
from mlobs.repro.run_diff import diff_runs

NASTY = "a\"b'</script><img src=x onerror=alert(1)>&amp; \U0001f30a \ud800"


class Page(HTMLParser):
    """A page, parsed: its elements, and its text without style and scripts."""

    def __init__(self, path):
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.elements, self.texts, self._within = [], [], ""
        self.feed(self.source)
        self.text = " ".join(self.texts)

    def handle_starttag(self, tag, attrs):
        self._within = tag
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, _tag):
        self._within = ""

    def handle_data(self, data):
        if self._within not in ("script", "style"):
            self.texts.append(data)

    @property
    def data(self):
        packed = re.search(r'id="packed-data">([^<]*)<', self.source)[1]
        return json.loads(gzip.decompress(base64.b64decode(packed)))


@pytest.fixture
def tracker(tmp_path):
    return mlobs.Tracker("churn", store=tmp_path / "store", mode="offline", on_error="raise")


def report(tmp_path, runs=None, **options):
    return Page(mlobs.report(runs, tmp_path / "report.html", store=tmp_path / "store", **options))


def test_everything_of_a_run_is_in_the_page(tracker, tmp_path):
    with tracker.start_run("bad", params={"lr": 0.125}, tags={"team": "x"}) as run:
        run.log_metrics({"loss": 0.75, "acc": 0.5}, step=3)
        run.log_confusion_matrix("cm", [[51, 2], [3, 46]], labels=["cat", "dog"])
        run.log_image("sample", np.zeros((40, 60, 3), "uint8"), step=7)
        run.log_dataset("train", np.arange(12))
        run.log_artifact(__file__)
        run.finish("FAILED", "division by zero", traceback="ZeroDivisionError: here")

    page = report(tmp_path)

    for text in (
        "bad",
        run.id,
        "FAILED",
        "ZeroDivisionError",
        "0.125",
        "team",
        "0.75",
        "cat",
        "51",
        "step 7",
        "train",
        "test_report.py",
    ):
        assert text in page.text, text
    images = [attrs for tag, attrs in page.elements if tag == "img"]
    assert [one["alt"] for one in images] == [
        "sample.png of bad, step 7"
    ]  # the matrix's heat map is no image
    assert images[0]["src"].startswith("data:image/png;base64,")
    assert page.data["curves"]["loss"] == [
        {"r": 0, "n": 1, "s": [3], "t": page.data["curves"]["loss"][0]["t"], "v": [0.75]}
    ]


def test_text_of_users_is_never_markup(tracker, tmp_path):
    with tracker.start_run(NASTY, params={NASTY: NASTY, "\x01": "\x00"}, tags={NASTY: NASTY}) as run:
        run.log_metric("m</script>", math.nan)
        run.log_confusion_matrix("cm", [[1]], labels=[NASTY])
    other = tracker.start_run("other")
    other.finish("FAILED", NASTY)

    page = report(tmp_path, title=NASTY)

    assert not [
        attrs for tag, attrs in page.elements if tag == "img" or any(key.startswith("on") for key in attrs)
    ]
    assert sum(tag == "script" for tag, _ in page.elements) == 3
    assert page.text.count("\"b'</script><img src=x onerror=alert(1)>&amp; \U0001f30a") > 8
    assert "\x00" not in page.source


def test_log_lines_are_shown_as_they_were(tmp_path):
    tracker = mlobs.Tracker("churn", store=tmp_path / "store", mode="offline", capture_logs=True)
    with tracker.start_run("one"):
        for line in range(30):
            logging.getLogger("train").warning("line %d </script><b>", line)

    page = report(tmp_path)

    assert "line 29 </script><b>" in page.text
    assert "line 9 " not in page.text  # the last 20 are there


def test_the_page_allows_its_own_scripts_and_nothing_from_a_network(tracker, tmp_path):
    tracker.start_run("one").finish()

    page = report(tmp_path)

    policy = next(
        attrs["content"] for _, attrs in page.elements if attrs.get("http-equiv") == "Content-Security-Policy"
    )
    script = re.search(r"<script>(.*)</script></body>", page.source, re.DOTALL)[1]
    for code in (script, document.plotly_js()):
        assert f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'" in policy
    assert policy.startswith("default-src 'none';")
    assert "unsafe-eval" not in policy
    assert "script-src 'unsafe-inline'" not in policy
    places = [attrs[key] for _, attrs in page.elements for key in ("src", "href") if key in attrs]
    assert all(one.startswith(("#", "data:")) for one in places)


def test_the_same_runs_make_the_same_file(tracker, tmp_path):
    with tracker.start_run("one", params={"lr": 1}) as run:
        run.log_metric("loss", 1.0)

    pages = [re.sub(r"Made [^<]*", "", report(tmp_path).source) for _ in range(2)]

    assert pages[0] == pages[1]


@given(
    values=arrays(
        "f8",
        st.integers(1, 3_000),
        elements=st.floats(width=32) | st.just(math.nan),
        fill=st.floats(width=32),
    ),
    most=st.integers(8, 200),
)
def test_thinning_keeps_extremes_gaps_and_both_ends(values, most):
    steps = np.arange(len(values))

    thinned = thin(steps, values, steps.astype("f8"), most)

    kept, finite = values[thinned.steps], values[np.isfinite(values)]
    assert np.array_equal(kept, thinned.values, equal_nan=True)
    assert (thinned.steps[0], thinned.steps[-1]) == (0, len(values) - 1)
    if len(finite):
        assert finite.min() == kept[np.isfinite(kept)].min()
        assert finite.max() == kept[np.isfinite(kept)].max()
    assert np.isfinite(kept).all() == np.isfinite(values).all()
    assert len(kept) <= max(8, most * 1.5 + 5)
    assert thinned.recorded == len(values)


def test_a_single_spike_among_100_000_points_stays():
    values = np.zeros(100_000)
    values[31_415] = 7.0

    thinned = thin(np.arange(100_000), values, np.arange(100_000.0), 500)

    assert thinned.values.max() == 7.0
    assert thinned.steps[thinned.values.argmax()] == 31_415
    assert thinned.means.max() == pytest.approx(7.0 / 400)


def test_points_come_by_step_and_those_of_one_step_as_they_came():
    thinned = thin(np.array([5, 1, 5, 0]), np.array([1.0, 2.0, 3.0, 4.0]), np.arange(4.0), 100)

    assert thinned.steps.tolist() == [0, 1, 5, 5]
    assert thinned.values.tolist() == [4.0, 2.0, 1.0, 3.0]
    assert thinned.means is None


def test_values_that_are_no_numbers_reach_the_page(tracker, tmp_path):
    with tracker.start_run("one") as run:
        for step, value in enumerate([1.0, math.nan, math.inf, -math.inf, 1e-30]):
            run.log_metric("loss", value, step=step)

    curve = report(tmp_path).data["curves"]["loss"][0]

    assert curve["v"] == [1, None, "Infinity", "-Infinity", 1e-30]
    assert curve["s"] == [0, 1, 1, 1, 1]


def test_the_page_says_what_was_thinned(tracker, tmp_path):
    with tracker.start_run("one") as run:
        for step in range(5_000):
            run.log_metric("loss", step % 7, step=step)

    page = report(tmp_path)

    shown = len(page.data["curves"]["loss"][0]["v"])
    assert shown <= 2_005
    assert f"{shown:,} of 5,000 recorded points are here" in page.text


def test_curves_share_the_room(tracker, tmp_path):
    for _ in range(3):
        with tracker.start_run() as run:
            for step in range(400):
                run.log_metrics({f"m{at}": float(step) for at in range(40)}, step=step)

    records = [
        mlobs.load_run(one, store=tmp_path / "store")
        for one in mlobs.runs(store=tmp_path / "store")["run_id"]
    ]
    curves = curves_of(records)

    assert curves.recorded == 48_000
    assert not curves.left_out
    assert curves.most == 1_500


def test_runs_are_chosen_by_id_frame_record_and_experiment(tracker, tmp_path):
    store = tmp_path / "store"
    ids = [tracker.start_run(name) for name in ("a", "b", "c")]
    for run in ids:
        run.finish()
    other = mlobs.Tracker("other", store=store, mode="offline").start_run("d")
    other.finish()
    frame = mlobs.runs(store=store)

    def names(runs=None, **options):
        return [one["name"] for one in report(tmp_path, runs, **options).data["runs"]]

    assert names() == ["a", "b", "c", "d"]
    assert names(limit=2) == ["c", "d"]
    assert names(experiment="churn", limit=2) == ["b", "c"]
    assert names(since="1d", where="experiment == 'churn' and name != 'b'") == ["a", "c"]
    assert names(where=lambda run: run.name == "b") == ["b"]
    assert names([ids[0].id, other.id], status="finished", experiment="other") == ["d"]
    assert names([ids[2].id, ids[0].id, ids[2].id]) == ["c", "a"]
    assert names("latest") == ["d"]
    assert names(frame[frame["name"] == "b"]) == ["b"]
    assert names(mlobs.load_run(ids[1].id, store=store)) == ["b"]


def test_page_and_command_say_that_older_runs_are_left_out(tracker, tmp_path):
    for name in ("a", "b", "c"):
        tracker.start_run(name).finish()

    assert "The newest 2 runs, experiment churn; older ones are left out." in report(tmp_path, limit=2).text
    assert "left out" not in report(tmp_path, limit=3).text
    store = str(tmp_path / "store")
    arguments = ["report", "-o", str(tmp_path / "x.html"), "--store", store, "--limit"]
    assert "it has the newest 2 - type --limit 0" in CliRunner().invoke(app, [*arguments, "2"]).output
    assert "newest" not in CliRunner().invoke(app, [*arguments, "0"]).output


def test_the_command_says_which_of_the_named_runs_a_condition_left_out(tracker, tmp_path):
    ids = [tracker.start_run(name) for name in ("a", "b")]
    for run in ids:
        run.finish()
    named = [*(run.id for run in ids), "--store", str(tmp_path / "store"), "-o", str(tmp_path / "x.html")]

    done = CliRunner().invoke(app, ["report", *named, "--where", "name == 'b'"])

    assert done.stderr == f"not in it, as other runs were asked for: {ids[0].id}\n"


def test_what_cannot_be_reported_says_what_to_type(tracker, tmp_path):
    tracker.start_run("a").finish()
    store = tmp_path / "store"

    with pytest.raises(UsageError, match=r"no runs of experiment 'no' in .* - type: mlobs runs"):
        mlobs.report(path=tmp_path / "x.html", store=store, experiment="no")
    with pytest.raises(UsageError, match=r"no such runs in .* - type: mlobs runs"):
        mlobs.report(path=tmp_path / "x.html", store=store, status="failed")
    slip = ["report", "--store", str(store), "-o", str(tmp_path / "x.html"), "--where", "params.lrr > 1"]
    assert "none has params.lrr" in CliRunner().invoke(app, slip).stderr
    with pytest.raises(UsageError, match="limit is -1; expected the number of runs, or 0 for all"):
        mlobs.report(path=tmp_path / "x.html", store=store, limit=-1)
    with pytest.raises(UsageError):
        mlobs.report(["nope"], tmp_path / "x.html", store=store)
    with pytest.raises(UsageError, match="no column 'run_id'"):
        mlobs.report(mlobs.runs(store=store)[["name"]], tmp_path / "x.html", store=store)
    with pytest.raises(StoreError, match="cannot be written"):
        mlobs.report(path=tmp_path / "missing" / "x.html", store=store)
    assert not list(tmp_path.glob("*.html"))


def test_without_plotly_it_says_what_to_install(tracker, tmp_path, monkeypatch):
    with tracker.start_run("a") as run:
        run.log_metric("loss", 1.0)
    for name in ("plotly", "plotly.offline", "plotly.graph_objects"):
        monkeypatch.setitem(sys.modules, name, None)
    document.plotly_js.cache_clear()

    with pytest.raises(MissingPackage, match=r"pip install 'mlobs\[report\]'"):
        mlobs.report(path=tmp_path / "x.html", store=tmp_path / "store")
    with pytest.raises(MissingPackage, match=r"pip install 'mlobs\[report\]'"):
        mlobs.load_run("latest", store=tmp_path / "store").plot()


def test_of_one_name_every_dataset_and_every_step_is_in_the_page(tracker, tmp_path):
    with tracker.start_run("a") as run:
        run.log_dataset("data", np.arange(3), context="train")
        run.log_dataset("data", np.arange(4), context="test")
        for step in (1, 2):
            run.log_text("notes", "some", step=step)
    page = Page(mlobs.report(run.id, tmp_path / "one.html", store=tmp_path / "store"))

    assert all(text in page.text for text in ("train, 3 rows", "test, 4 rows", "step 1", "step 2"))


def test_what_differs_is_said_beside_the_first_run(tracker, tmp_path):
    for name, size in (("a", 10), ("b", 11)):
        with tracker.start_run(name, params={"same": 1, "size": size}) as run:
            run.log_dataset("train", np.arange(size))

    page = report(tmp_path)

    assert "param size: 10 -> 11" in page.text
    assert "dataset train: 10 rows -> 11 rows" in page.text
    assert "not captured" in page.text  # MLOBS_REPRO is off in these tests
    assert page.data["varying"] == ["size"]


def test_images_are_thinned_by_step_and_shrunk(tracker, tmp_path):
    with tracker.start_run("a") as run:
        for step in range(20):
            run.log_image("big", np.full((500, 900, 3), step, "uint8"), step=step)

    page = report(tmp_path)

    images = [attrs for tag, attrs in page.elements if tag == "img"]
    assert len(images) == pictures.MOST_STEPS
    assert (images[0]["alt"], images[-1]["alt"]) == ("big.png of a, step 0", "big.png of a, step 19")
    assert (images[0]["width"], images[0]["height"]) == ("360", "200")
    assert "12 more are not in this file" in page.text


def test_an_image_whose_content_is_gone_is_counted(tracker, tmp_path):
    with tracker.start_run("a") as run:
        run.log_image("one", np.zeros((300, 300, 3), "uint8"))
    for path in (tmp_path / "store").rglob("blobs/*"):
        path.unlink() if path.is_file() else None

    page = report(tmp_path)

    assert "1 more are not in this file" in page.text


def contrast(one, two):
    def luminance(colour):
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(two)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_colours_stand_out_from_the_page_and_texts_can_be_read():
    style = document._asset("style.css")
    pairs = dict(re.findall(r"--([\w-]+):light-dark\((#\w+,#\w+)\)", style))
    pairs = {
        name: [one if len(one) == 7 else "#" + "".join(c * 2 for c in one[1:]) for one in pair.split(",")]
        for name, pair in pairs.items()
    }

    for theme, colours in enumerate((LIGHT, DARK)):
        assert all(contrast(colour, pairs["page"][theme]) >= 3 for colour in colours)
        for name in ("text", "quiet", "link", "good", "bad", "odd"):
            for ground in ("page", "raised"):
                assert contrast(pairs[name][theme], pairs[ground][theme]) >= 4.5, (name, ground)
    assert len(LIGHT) * len(DASHES) == 50


def test_a_record_shows_itself_in_a_notebook(tracker, tmp_path):
    with tracker.start_run(NASTY, params={"lr": 0.1}) as run:
        run.log_metric("loss", 0.25)

    html = mlobs.load_run(run.id, store=tmp_path / "store")._repr_html_()

    assert run.id in html
    assert "0.25" in html
    assert "FINISHED" in html
    assert "<img" not in html
    assert "<script" not in html


def test_a_comparison_shows_itself_in_a_notebook(tracker, tmp_path):
    runs = [tracker.start_run(params={"x": value}) for value in ("<b>", "y")]
    for run in runs:
        run.finish()

    html = diff_runs(runs[0].id, runs[1].id, store=tmp_path / "store")._repr_html_()

    assert "param x: &lt;b&gt; -&gt; y" in html
    assert "no difference: datasets" in html


def test_a_record_plots_its_metrics(tracker, tmp_path):
    with tracker.start_run("a<b>") as run:
        for step in (2, 0, 1):
            run.log_metrics({"loss": float(step), "acc": 1.0}, step=step)
    record = mlobs.load_run(run.id, store=tmp_path / "store")

    figure = record.plot("loss")

    assert list(figure.data[0].x) == [0, 1, 2]
    assert list(figure.data[0].y) == [0.0, 1.0, 2.0]
    assert figure.layout.title.text.startswith("a&lt;b&gt;")
    assert [one.name for one in record.plot(x="time").data] == ["loss", "acc"]
    assert list(record.plot("loss", smooth=0.5).data[0].y) == pytest.approx([0.0, 2 / 3, 10 / 7])
    with tracker.start_run("gap") as gap:
        for step, value in enumerate((1.0, math.inf, 3.0)):
            gap.log_metric("loss", value, step=step)
    (curve,) = mlobs.load_run(gap.id, store=tmp_path / "store").plot("loss", smooth=0.5).data
    assert list(curve.y) == pytest.approx([1.0, math.inf, 7 / 3])
    with pytest.raises(UsageError, match="has no metric 'no'; it has loss, acc"):
        record.plot("no")
    with pytest.raises(UsageError, match="smooth is 1"):
        record.plot(smooth=1)
    with pytest.raises(UsageError, match="x is 'epoch'"):
        record.plot(x="epoch")


def test_the_command_writes_the_file_and_says_where(tracker, tmp_path):
    tracker.start_run("a").finish()
    target = tmp_path / "page.html"

    result = CliRunner().invoke(
        app, ["report", "latest", "-o", str(target), "--store", str(tmp_path / "store"), "--json"]
    )

    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"path": str(target), "size_bytes": target.stat().st_size}
    assert Page(target).data["runs"][0]["name"] == "a"


@pytest.mark.slow
def test_20_runs_of_10_metrics_and_10_000_points_are_at_most_5_mb(tracker, tmp_path):
    rng = np.random.default_rng(0)
    for _ in range(20):
        with tracker.start_run() as run:
            for step, values in enumerate(rng.normal(size=(10_000, 10)).tolist()):
                run.log_metrics({f"metric {at}": value for at, value in enumerate(values)}, step=step)

    path = mlobs.report(path=tmp_path / "x.html", store=tmp_path / "store")

    assert path.stat().st_size <= 5_000_000


def test_what_each_backend_has_is_in_the_page(tmp_path):
    tracker = mlobs.Tracker("churn", backends=["tensorboard"], store=tmp_path / "store", mode="offline")
    with tracker.start_run("a") as run:
        run.log_metric("loss", 1.0)

    page = report(tmp_path)

    assert re.search(r"tensorboard\s+0\s+0\s+0\s+0\s+3\s+pending", page.text)
