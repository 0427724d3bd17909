"""Images, figures, matrices and histograms: what was handed over is what the store gives back."""

import io
import json

import numpy as np
import pytest
from PIL import Image

import mlobs
from mlobs.encoding import pictures
from mlobs.encoding.finishing import finished
from mlobs.errors import UsageError
from mlobs.journal.blobs import INLINE_BYTES
from mlobs.payloads import images

RNG = np.random.default_rng(7)


@pytest.fixture
def run(tmp_path):
    with mlobs.Tracker("pictures", store=tmp_path / "store", on_error="raise").start_run() as run:
        yield run


def artifact(run, path):
    """The artifact of this path, as a reader of the store finds it."""
    (found,) = [one for one in load(run).artifacts if one.path == path]
    return found


def load(run):
    return mlobs.load_run(run.id, store=run._opened.folder.store)


def pixels(content):
    return np.asarray(Image.open(io.BytesIO(content)))


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (5, 7, 4), (200, 160, 3)])
def test_an_image_of_bytes_comes_back_to_the_last_sample(run, shape):
    samples = RNG.integers(0, 256, shape, dtype=np.uint8)
    run.log_image("sample", samples, step=3)

    kept = artifact(run, "sample.png")
    assert (kept.role, kept.media_type, kept.step) == ("image", "image/png", 3)
    assert np.array_equal(pixels(kept.read_bytes()), samples)
    assert (kept.file is not None) == (samples.nbytes > INLINE_BYTES)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_are_rounded_to_the_nearest_of_256_steps(run, dtype):
    exact = np.arange(256, dtype=np.uint8).reshape(16, 16)
    run.log_image("ramp", (exact / 255).astype(dtype))

    kept = artifact(run, "ramp.png")
    assert np.array_equal(pixels(kept.read_bytes()), exact)
    assert kept.raw["from"] == f"{np.dtype(dtype)}, rounded to 8 bits"


def test_floats_beyond_the_range_are_cut_and_that_is_said(run, caplog):
    run.log_image("odd", np.array([[-1.0, 0.5], [2.0, np.nan]]))

    kept = artifact(run, "odd.png")
    assert pixels(kept.read_bytes()).tolist() == [[0, 128], [255, 0]]
    assert kept.raw["outside"] == 3
    assert "has 3 samples outside of [0, 1] or NaN" in caplog.text


def test_channels_in_front_are_found_or_said(run):
    samples = RNG.integers(0, 256, (3, 8, 6), dtype=np.uint8)
    run.log_image("guessed", samples)
    run.log_image("said", samples[:, :3, :4], layout="CHW")
    run.log_image("grey", samples[:1])

    assert np.array_equal(pixels(artifact(run, "guessed.png").read_bytes()), samples.transpose(1, 2, 0))
    assert pixels(artifact(run, "said.png").read_bytes()).shape == (3, 4, 3)
    assert np.array_equal(pixels(artifact(run, "grey.png").read_bytes()), samples[0])


def test_a_tensor_of_torch_is_an_image_and_its_graph_does_not_matter(run):
    torch = pytest.importorskip("torch")
    samples = torch.arange(0, 3 * 8 * 6, dtype=torch.float32).reshape(3, 8, 6) / 255
    run.log_image("tensor", samples.requires_grad_())
    run.log_histogram("values", samples, bins=4)

    wanted = np.arange(0, 3 * 8 * 6, dtype=np.uint8).reshape(3, 8, 6).transpose(1, 2, 0)
    assert np.array_equal(pixels(artifact(run, "tensor.png").read_bytes()), wanted)
    assert sum(load(run).histograms[0].counts) == 3 * 8 * 6


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "1", "P", "CMYK", "LA"])
def test_a_pil_image_looks_the_same(run, mode):
    source = Image.fromarray(RNG.integers(0, 256, (9, 11, 3), dtype=np.uint8)).convert(mode)
    run.log_image("pil", source)

    back = Image.open(io.BytesIO(artifact(run, "pil.png").read_bytes()))
    assert back.size == source.size
    assert np.array_equal(np.asarray(back.convert("RGBA")), np.asarray(source.convert("RGBA")))


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "webp"])
def test_a_file_stays_as_it_is(run, tmp_path, kind):
    path = tmp_path / "picture.bin"
    Image.new("RGB", (4, 4), (10, 20, 30)).save(path, kind)
    run.log_image("file", path)

    suffix = {"jpeg": "jpg"}.get(kind, kind)
    kept = artifact(run, f"file.{suffix}")
    assert kept.read_bytes() == path.read_bytes()
    assert kept.media_type == f"image/{kind}"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.zeros((2, 4, 4, 3)), "log one image a call"),
        (np.zeros((3, 9, 3)), "say layout='HWC' or layout='CHW'"),
        (np.zeros((5, 5, 2)), r"expected \[H, W\]"),
        (np.zeros((0, 4)), "expected pixels"),
        (np.full((2, 2), 300), "from 300 to 300; expected 0 to 255"),
        (np.zeros((2, 2), complex), "array of real numbers"),
        ("not there.png", "there is no"),
        (None, "array of real numbers"),
        (np.float64(1), r"shape \(\)"),
        (Image.new("I;16", (2, 2)), "8 bits"),
    ],
)
def test_what_is_no_image_is_refused_with_what_to_do(value, words):
    with pytest.raises(UsageError, match=words):
        images.image("x", value)


def test_a_layout_that_is_none_is_refused():
    with pytest.raises(UsageError, match="expected HW, HWC, CHW"):
        images.image("x", np.zeros((2, 2)), "WH")


def test_a_figure_of_matplotlib_is_a_picture_and_stays_open(run):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2, 1), dpi=50)
    axes = figure.subplots()
    axes.plot([1, 2, 3])
    run.log_figure("roc", figure, step=1)
    run.log_figure("axes.png", axes)

    kept = artifact(run, "roc.png")
    assert (kept.role, kept.step) == ("figure", 1)
    assert pixels(kept.read_bytes()).shape[2] == 4
    assert artifact(run, "axes.png").role == "figure"


def test_a_figure_of_plotly_is_a_page(run, caplog):
    plotly = pytest.importorskip("plotly.graph_objects")
    run.log_figure("scatter", plotly.Figure(plotly.Scatter(x=[1, 2], y=[3, 4])))

    page = artifact(run, "scatter.html")
    assert (page.role, page.media_type) == ("figure", "text/html")
    assert '"y":[3,4]' in page.text()
    has_picture = any(one.path == "scatter.png" for one in load(run).artifacts)
    assert has_picture or "pip install kaleido" in caplog.text


def test_what_is_no_figure_is_refused(run):
    with pytest.raises(UsageError, match="log_image takes arrays"):
        run.log_figure("x", [1, 2])


def test_a_matrix_keeps_its_numbers_and_its_labels(run):
    run.log_matrix("attention", np.array([[0.1, np.nan], [np.inf, -2]]), rows=["a", "b"], columns=[1, 2])

    frame = artifact(run, "attention.json").frame()
    assert frame.loc["a", "1"] == 0.1
    assert np.isnan(frame.loc["a", "2"])
    assert frame.loc["b"].tolist() == [np.inf, -2.0]
    picture = pixels(artifact(run, "attention.png").read_bytes())
    assert picture.shape[2] == 3


def test_a_confusion_matrix_is_bright_where_there_is_much(run):
    run.log_confusion_matrix("cm", [[8, 0], [1, 5]], labels=["cat", "dog"])

    kept = artifact(run, "cm.json")
    assert kept.role == "confusion_matrix"
    assert json.loads(kept.read_bytes()) == {"matrix": [[8, 0], [1, 5]], "labels": ["cat", "dog"]}
    assert kept.frame().loc["dog", "cat"] == 1
    colours = {tuple(one) for one in pixels(artifact(run, "cm.png").read_bytes()).reshape(-1, 3).tolist()}
    assert {(253, 231, 37), (68, 1, 84)} <= colours  # the ends of the scale


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda run: run.log_matrix("m", [1, 2]), "expected two dimensions"),
        (lambda run: run.log_matrix("m", [[1, 2]], rows=["a", "b"]), "2 labels for 1 rows"),
        (lambda run: run.log_matrix("m", np.zeros((0, 2))), "expected 1 to 1,000,000 cells"),
        (lambda run: run.log_confusion_matrix("m", [[1, 2]]), "as many rows as columns"),
        (lambda run: run.log_confusion_matrix("m", [[1]], ["a", "b"]), "2 labels"),
    ],
)
def test_what_is_no_matrix_is_refused_with_what_to_do(run, call, words):
    with pytest.raises(UsageError, match=words):
        call(run)


def test_a_matrix_larger_than_a_screen_is_drawn_within_it():
    size = Image.open(io.BytesIO(pictures.heat_map([[0.0] * 3000] * 2, None, None))).size
    assert size[0] <= 3100
    assert size[1] <= 100


def test_values_are_counted_and_what_is_not_finite_is_said(run):
    values = np.array([0.0, 0.1, 0.9, 1.0, np.nan, np.inf])
    run.log_histogram("weights", values, step=2, bins=2)

    (kept,) = load(run).histograms
    assert (kept.counts, kept.edges, kept.step) == ([2.0, 2.0], [0.0, 0.5, 1.0], 2)
    assert kept.meta == {"not_finite": 2}


def test_counts_are_taken_as_they_are(run):
    run.log_histogram("mine", counts=[1, 2.5], edges=[0, 1, 4])

    (kept,) = load(run).histograms
    assert (kept.counts, kept.edges) == ([1.0, 2.5], [0.0, 1.0, 4.0])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "takes values, or counts and edges"),
        ({"values": [1], "counts": [1]}, "takes values, or counts and edges"),
        ({"values": [np.nan]}, "no finite value out of 1"),
        ({"values": ["a"]}, "array of real numbers"),
        ({"values": [1], "bins": 0}, "bins is 0"),
        ({"counts": [1], "edges": [1]}, "one more edge"),
        ({"counts": [1], "edges": [1, 0]}, "to grow"),
        ({"counts": [-1], "edges": [0, 1]}, "0 or more"),
    ],
)
def test_what_is_no_histogram_is_refused(run, arguments, words):
    with pytest.raises(UsageError, match=words):
        run.log_histogram("h", **arguments)


def test_bars_are_as_high_as_their_counts():
    picture = pixels(pictures.bars([1, 4], [0.0, 1.0, 2.0]))
    blue = (picture == (49, 104, 142)).all(axis=2)
    left, right = (blue[:, : blue.shape[1] // 2].sum(), blue[:, blue.shape[1] // 2 :].sum())
    assert 3.8 < right / left < 4.2


def test_masks_in_any_memory_order_are_images(run):
    mask = RNG.random((3, 8, 6)) > 0.5
    run.log_image("chw", mask)
    run.log_image("turned", mask[0].T)

    assert np.array_equal(pixels(artifact(run, "chw.png").read_bytes()), mask.transpose(1, 2, 0) * 255)
    assert np.array_equal(pixels(artifact(run, "turned.png").read_bytes()), mask[0].T * 255)


def test_a_sound_in_a_riff_file_is_no_image(run, tmp_path):
    (tmp_path / "a.wav").write_bytes(b"RIFF\x24\x00\x00\x00WAVEfmt ")
    with pytest.raises(UsageError, match="is no PNG, JPEG, GIF or WebP"):
        run.log_image("sound", tmp_path / "a.wav")


def test_a_layout_does_not_make_a_number_an_image():
    with pytest.raises(UsageError, match=r"got shape \(\) as CHW"):
        images.image("x", np.float64(1), "CHW")


@pytest.mark.parametrize(
    "values",
    [
        np.array([1, np.nextafter(np.float32(1), np.float32(2))], dtype=np.float32),
        np.full(5, 1e8, dtype=np.float32),
        np.array([1.0, 1 + 2.3e-16]),
        np.full(5, 1e17),
        np.full(5, -1e300),
    ],
)
def test_values_that_hardly_differ_are_counted(run, values):
    run.log_histogram("narrow", values)

    (found,) = load(run).histograms
    assert sum(found.counts) == values.size
    assert found.edges[0] <= values.min() <= values.max() <= found.edges[-1]


def test_the_largest_numbers_have_a_heat_map_and_bars(run):
    run.log_matrix("large", [[1e308, -1e308]])

    picture = pixels(artifact(run, "large.png").read_bytes()).reshape(-1, 3).tolist()
    assert [253, 231, 37] in picture
    assert [68, 1, 84] in picture
    assert pixels(pictures.bars([1.0, 3.0], [-1.5e308, 0.0, 1.5e308])).any()


@pytest.mark.parametrize("log", ["log_image", "log_matrix"])
def test_the_file_of_a_picture_is_there_before_and_after_the_sender_made_it(run, log):
    getattr(run, log)("large", RNG.random((200, 300)))
    kept = artifact(run, "large.png")
    before = kept.file
    assert before.exists()

    finished(*kept._place)

    assert kept.file.read_bytes() == kept.read_bytes()
    assert kept.file.read_bytes().startswith(b"\x89PNG")
    assert not before.exists()
