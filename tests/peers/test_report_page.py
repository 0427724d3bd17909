"""The report in a real browser: by clicks and keys, without an error, without a network."""

import json
import logging
import shutil
import urllib.parse

import numpy as np
import pytest

import mlobs

selenium = pytest.importorskip("selenium", reason="selenium is not installed")

from selenium.webdriver import ActionChains, Chrome, ChromeOptions, Keys  # noqa: E402 - behind the skip
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.select import Select  # noqa: E402
from selenium.webdriver.support.wait import WebDriverWait  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.skipif(
        CHROMIUM is None or DRIVER is None,
        reason="no Chromium here - type: apt-get install chromium chromium-driver",
    ),
    # selenium leaves the sockets of its driver to the garbage collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
NASTY = 'wide </script><b>"x"</b> \U0001f30a'
WAIT_S = 30
KEEP_DOWNLOADS_JS = """
    window.saved = [];
    const make = URL.createObjectURL;
    URL.createObjectURL = (blob) => {
        blob.text().then((text) => window.saved.push(text));
        return make(blob);
    };
"""
NAMELESS_JS = """
    const all = [...document.querySelectorAll("button, a, input, select, summary")];
    const hasName = (one) => one.textContent.trim() || one.getAttribute("aria-label") || one.labels?.length;
    return all.filter((one) => !hasName(one)).map((one) => one.outerHTML);
"""


def record(store, count, points):
    tracker = mlobs.Tracker("churn", store=store, mode="offline", capture_logs=True)
    rng = np.random.default_rng(0)
    for at in range(count):
        params = {
            "lr": float(10.0 ** rng.uniform(-4, -1)),
            "depth": at % 5,
            "optimizer": ["adam", "sgd"][at % 2],
        }
        run = tracker.start_run(NASTY if at == 1 else f"run {at:02}", params=params)
        losses = 1 / (1 + np.arange(points)) + 0.1 * at + 0.05 * rng.random(points)
        for step, loss in enumerate(losses.tolist()):
            run.log_metrics({"loss": loss, "acc": 1 - loss}, step=step)
        run.log_confusion_matrix("cm", [[50 - at, at], [3, 47]], labels=["cat", "dog"])
        for step in (0, 5):
            run.log_image("sample", np.full((80, 120, 3), step * 40, "uint8"), step=step)
        logging.getLogger("train").warning("epoch 1 <img src=http://example.org/x>")
        run.finish("FAILED" if at == 2 else "FINISHED", "loss is NaN" if at == 2 else "")


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A report of three runs, and one of fifty."""
    made = {}
    for count, points in ((3, 3_000), (50, 40)):
        folder = tmp_path_factory.mktemp(f"runs-{count}")
        record(folder / "store", count, points)
        made[count] = mlobs.report(path=folder / "report.html", store=folder / "store")
    return made


@pytest.fixture(scope="module")
def chromium():
    options = ChromeOptions()
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1280,900",
    ):
        options.add_argument(argument)
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = Chrome(options=options, service=Service(DRIVER))
    yield browser
    browser.quit()


class Report:
    """A report in the browser, as a person uses it."""

    def __init__(self, browser, path, *, dark=False, width=1280):
        self.browser = browser
        for kind in ("browser", "performance"):
            browser.get_log(kind)  # what came before is another page's
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get(path.as_uri())
        self.until(lambda: self.js("return document.documentElement.dataset.ready"))

    def js(self, code, *arguments):
        return self.browser.execute_script(code, *arguments)

    def until(self, is_so):
        return WebDriverWait(self.browser, WAIT_S, 0.02).until(lambda _: is_so())

    def find(self, selector):
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector):
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def click(self, selector):
        element = self.find(selector)
        self.js("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def column(self, key):
        code = """
            const table = document.getElementById("runs-table");
            const at = table.querySelector(`th[data-key='${arguments[0]}']`).cellIndex;
            const rows = [...table.tBodies[0].rows].filter((row) => !row.hidden);
            return rows.map((row) => row.cells[at].innerText.trim());
        """
        return self.js(code, key)

    def chart(self, metric="loss"):
        """The card of a metric, in view and drawn."""
        card = self.browser.find_element(By.XPATH, f"//article[.//h3[text()='{metric}']]")
        self.js("arguments[0].scrollIntoView({block: 'center'})", card)
        self.until(lambda: card.get_attribute("data-drawn"))
        return card

    def lines(self, card):
        return [one.get_attribute("d") for one in card.find_elements(By.CSS_SELECTOR, ".trace path.js-line")]

    def after_drawing(self, card, act):
        """Do something, and wait until the chart was drawn again."""
        before = card.get_attribute("data-drawn")
        act()
        self.until(lambda: card.get_attribute("data-drawn") != before)

    def range(self, card):
        return self.js("return arguments[0].querySelector('.plot').layout.xaxis.range", card)


@pytest.fixture
def three(chromium, pages):
    report = Report(chromium, pages[3])
    yield report
    assert_quiet(chromium, pages[3])


@pytest.fixture
def fifty(chromium, pages):
    report = Report(chromium, pages[50])
    yield report
    assert_quiet(chromium, pages[50])


def assert_quiet(browser, path):
    """No error in the console, and nothing asked for but the file itself and what is in it."""
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [
        one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent"
    ]
    foreign = [one for one in asked if urllib.parse.urlsplit(one).scheme not in ("data", "blob")]
    assert {one.partition("#")[0] for one in foreign} <= {path.as_uri()}


def test_the_first_paint_takes_at_most_two_seconds(fifty):
    paint_ms = fifty.js("return performance.getEntriesByName('first-contentful-paint')[0].startTime")

    assert paint_ms <= 2000


def test_a_click_on_a_heading_sorts_and_another_turns_it_round(three):
    by_size = sorted(three.column("params.lr"), key=float)

    three.click("th[data-key='params.lr'] button")
    up = three.column("params.lr")
    three.click("th[data-key='params.lr'] button")

    assert up == by_size
    assert three.column("params.lr") == by_size[::-1]
    assert three.find("th[data-key='params.lr']").get_attribute("aria-sort") == "descending"


def test_the_enter_key_sorts_too(three):
    three.find("th[data-key='status'] button").send_keys(Keys.ENTER)

    assert three.column("status") == ["FAILED", "FINISHED", "FINISHED"]
    assert three.find("#said").get_attribute("textContent") == "sorted by status, ascending"


def test_columns_are_chosen(three):
    assert not three.find("th[data-key='id']").is_displayed()

    three.click("#columns ~ *, .menu summary")
    three.click("#columns input[value='id']")
    three.click("#columns input[value='status']")

    assert three.find("th[data-key='id']").is_displayed()
    assert not three.find("th[data-key='status']").is_displayed()
    ActionChains(three.browser).send_keys(Keys.ESCAPE).perform()
    assert not three.find("#columns").is_displayed()


def test_rows_are_filtered_by_text(fifty):
    fifty.find("#filter").send_keys("failed ADAM")

    assert fifty.find("#count").text == "1 of 50 runs"
    assert fifty.column("name") == ["run 02"]


def test_smoothing_draws_a_calmer_line_beside_the_recorded_one(three):
    card = three.chart()
    assert len(three.lines(card)) == 3

    three.after_drawing(card, lambda: three.find("#smooth").send_keys(Keys.PAGE_UP))

    assert len(three.lines(card)) == 6
    assert float(three.find("#smooth-value").text) > 0


def test_the_log_scale_and_the_axis_are_chosen(three):
    card = three.chart()
    before = three.lines(card)

    three.after_drawing(card, lambda: three.click("#log"))
    logarithmic = three.lines(card)
    three.after_drawing(card, lambda: Select(three.find("#axis")).select_by_value("time"))

    assert before != logarithmic
    assert card.find_element(By.CSS_SELECTOR, ".xtitle").text.startswith("time since the start (")
    three.after_drawing(card, lambda: Select(three.find("#axis")).select_by_value("clock"))
    assert three.js("return arguments[0].querySelector('.plot').layout.xaxis.type", card) == "date"


def test_a_drag_zooms_and_a_double_click_shows_all_again(three):
    card = three.chart()
    whole = three.range(card)
    plot = card.find_element(By.CSS_SELECTOR, ".nsewdrag")

    actions = ActionChains(three.browser, duration=60)
    actions.move_to_element_with_offset(plot, -80, -60).click_and_hold().move_by_offset(40, 40)
    actions.move_by_offset(60, 60).release().perform()
    three.until(lambda: three.range(card) != whole)
    zoomed = three.range(card)

    assert whole[0] < zoomed[0] < zoomed[1] < whole[1]
    ActionChains(three.browser, duration=20).double_click(plot).perform()
    three.until(lambda: three.range(card) == whole)


def test_buttons_zoom_for_those_without_a_mouse(three):
    card = three.chart()
    whole = three.range(card)
    closer, _, reset, _ = card.find_elements(By.CSS_SELECTOR, ".tools button")

    closer.send_keys(Keys.ENTER)
    three.until(lambda: three.range(card) != whole)
    zoomed = three.range(card)
    reset.send_keys(Keys.ENTER)
    three.until(lambda: three.range(card) == whole)

    assert zoomed[1] - zoomed[0] == pytest.approx((whole[1] - whole[0]) / 2)
    assert closer.get_attribute("aria-label") == "loss: zoom in"


def test_a_zoom_survives_smoothing(three):
    card = three.chart()
    card.find_element(By.CSS_SELECTOR, ".tools button").click()
    zoomed = three.range(card)

    three.after_drawing(card, lambda: three.find("#smooth").send_keys(Keys.PAGE_UP))

    assert three.range(card) == zoomed


def test_a_run_that_is_pointed_at_stands_out_and_a_click_hides_it(three):
    card = three.chart()
    entry = three.find("#legend [data-run='0']")

    ActionChains(three.browser).move_to_element(entry).perform()
    three.until(lambda: len(card.find_elements(By.CSS_SELECTOR, ".trace.behind")) == 2)
    three.after_drawing(card, entry.click)

    assert len(three.lines(card)) == 2
    assert entry.get_attribute("aria-pressed") == "false"
    assert not three.find("tr[data-run='0'] input").is_selected()
    three.after_drawing(card, lambda: three.click("#all"))
    assert len(three.lines(card)) == 3


def test_each_chart_has_its_numbers_and_a_csv(three):
    card = three.chart()

    card.find_element(By.CSS_SELECTOR, "details summary").click()
    three.until(lambda: card.find_elements(By.CSS_SELECTOR, "details td"))
    texts = [one.text for one in card.find_elements(By.CSS_SELECTOR, "tbody th")]
    three.js(KEEP_DOWNLOADS_JS)
    card.find_elements(By.CSS_SELECTOR, ".tools button")[3].click()
    csv = three.until(lambda: three.js("return window.saved[0]"))

    assert texts == ["run 00", NASTY, "run 02"]
    lines = csv.splitlines()
    assert lines[0] == "run_id,run,step,at,value"
    assert {line.count(",") for line in lines if NASTY[:4] not in line} == {4}
    assert '"wide </script><b>""x""</b>' in csv


def test_params_are_drawn_against_a_metric(three):
    three.js("document.getElementById('params').scrollIntoView()")
    three.until(lambda: len(three.all("#scatter .point")) == 3)
    assert len(three.all("#parallel path.js-line")) == 3

    Select(three.find("#target")).select_by_value("acc")
    Select(three.find("#param")).select_by_value("optimizer")

    assert three.find("#scatter-title").text == "acc (last) by optimizer"
    three.until(lambda: {"adam", "sgd"} <= {one.text for one in three.all("#scatter .xtick text")})


def test_names_are_shown_as_they_are(three):
    assert three.column("name")[1] == NASTY
    assert NASTY in three.find("#matrices").text
    assert three.js("return document.images.length") == 6


def test_a_run_alone_and_without_metrics_has_a_page_too(chromium, tmp_path):
    with mlobs.Tracker("churn", store=tmp_path / "store", mode="offline").start_run("alone"):
        pass
    path = mlobs.report(path=tmp_path / "report.html", store=tmp_path / "store")

    report = Report(chromium, path)

    assert [one.text for one in report.all("h2")] == ["Runs", "Each run"]
    assert report.find("#details dl").is_displayed()
    assert_quiet(chromium, path)


def test_an_empty_chart_says_why_it_is_empty(chromium, tmp_path):
    tracker = mlobs.Tracker("churn", store=tmp_path / "store", mode="offline")
    with tracker.start_run("never finite", params={"lr": 0.1}) as run:
        for step in range(3):
            run.log_metric("loss", float("nan"), step=step)
    path = mlobs.report(path=tmp_path / "report.html", store=tmp_path / "store")

    card = Report(chromium, path).chart()

    assert card.find_element(By.CSS_SELECTOR, ".annotation-text").text == "no finite value"
    assert_quiet(chromium, path)


def test_a_page_whose_charts_cannot_be_drawn_says_so_and_has_the_tables(chromium, pages, tmp_path):
    broken = tmp_path / "report.html"
    broken.write_text(
        pages[3].read_text(encoding="utf-8").replace('id="packed-data">', 'id="packed-data">!'), "utf-8"
    )

    report = Report(chromium, broken)

    assert report.find("#charts-note").text.startswith("The charts cannot be drawn in this browser (")
    report.click("th[data-key='status'] button")
    assert report.column("status") == ["FAILED", "FINISHED", "FINISHED"]


def test_the_theme_follows_the_system_until_somebody_chooses(chromium, pages):
    report = Report(chromium, pages[3], dark=True)
    ground = "return getComputedStyle(document.body).backgroundColor"
    dark = report.js(ground)

    report.click("#theme")
    light = report.js(ground)
    report.click("#theme")

    assert light == "rgb(255, 255, 255)" != dark
    assert report.js(ground) == dark
    report.click("#theme")
    assert_quiet(chromium, pages[3])


@pytest.mark.parametrize("count", [3, 50])
def test_a_phone_shows_it_without_scrolling_sideways(chromium, pages, count):
    report = Report(chromium, pages[count], width=390)
    card = report.chart()

    assert report.js("return document.documentElement.scrollWidth") == 390
    assert card.size["width"] < 390
    assert len(report.lines(card)) == count
    assert_quiet(chromium, pages[count])


def test_all_that_can_be_clicked_has_a_name_and_shows_its_focus(three):
    three.chart()
    nameless = three.js(NAMELESS_JS)
    button = three.find("th[data-key='status'] button")
    button.send_keys(Keys.TAB)

    assert nameless == []
    assert three.js("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
