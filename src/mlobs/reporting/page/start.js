// The page is painted first; then what is packed is unpacked and the charts are drawn.
const MOST_CHARTS_AT_FIRST = 12;

function startMetrics() {
  const names = Object.keys(data.curves);
  const isCurve = (name) => !data.system.includes(name) && data.curves[name].some((one) => one.n > 1);
  const curves = names.filter(isCurve);
  const first = new Set((curves.length ? curves : names).slice(0, MOST_CHARTS_AT_FIRST));
  document.getElementById("metrics").append(...names.map((name) => {
    const box = node("input", { type: "checkbox", value: name, checked: first.has(name) });
    return node("label", {}, box, name);
  }));
  document.getElementById("metrics").addEventListener("change", (event) => showMetric(event.target.value, event.target.checked));
  first.forEach((name) => showMetric(name, true));
}

function startControls() {
  const smooth = document.getElementById("smooth");
  let waiting = 0;
  smooth.addEventListener("input", () => {
    view.smooth = Number(smooth.value);
    document.getElementById("smooth-value").textContent = smooth.value;
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(redraw);
  });
  document.getElementById("axis").addEventListener("change", (event) => {
    view.axis = event.target.value;
    redraw();
  });
  document.getElementById("log").addEventListener("change", (event) => {
    view.log = event.target.checked;
    redraw();
  });
  runListeners.push(redraw);
  themeListeners.push(redraw);
}

function startLegend() {
  const legend = document.getElementById("legend");
  const runOf = (event) => event.target.closest("[data-run]")?.dataset.run;
  for (const [name, isOver] of [["pointerover", true], ["focusin", true], ["pointerout", false], ["focusout", false]]) {
    legend.addEventListener(name, (event) => runOf(event) !== undefined && focusRun(isOver ? Number(runOf(event)) : null));
  }
  legend.addEventListener("click", (event) => {
    const run = runOf(event);
    if (run !== undefined) showRun(Number(run), !shownRuns.has(Number(run)));
    else if (event.target.id === "all" || event.target.id === "none") data.runs.forEach((_, at) => showRun(at, event.target.id === "all"));
    else return;
    runsChanged();
  });
}

async function start() {
  const note = document.getElementById("charts-note");
  try {
    if (!note) return; // no metric was recorded
    data = JSON.parse(await unpacked("packed-data"));
    await startLibrary();
    note.textContent = "Drag across a chart to zoom, double-click to show all again. Point at a run to make it stand out, click it to hide it.";
    startControls();
    startLegend();
    startMetrics();
    startParams();
  } catch (error) {
    note.textContent = `The charts cannot be drawn in this browser (${error.message}); those of 2024 and later can. The tables have the numbers.`;
  } finally {
    document.documentElement.dataset.ready = "true";
  }
}

requestAnimationFrame(() => setTimeout(start));
