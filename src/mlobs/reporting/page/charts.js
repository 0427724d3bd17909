// A card with a chart for each metric, drawn when it comes into view.
const view = { axis: "step", log: false, smooth: 0, focus: null };
const cards = new Map(); // by metric
let data = null;

function styleOf(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// The library reads some markup in texts: it gets none.
function plainText(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function colourOf(run) {
  const colours = isDark() ? data.dark : data.light;
  return colours[run % colours.length];
}

function dashOf(run) {
  return data.dashes[Math.floor(run / data.light.length) % data.dashes.length];
}

// Colours as the library takes them: those of the style sheet, as the theme has them now.
function themeColour(name) {
  const probe = document.createElement("i");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}

function baseLayout(more) {
  const [text, grid, page] = ["--quiet", "--line", "--page"].map(themeColour);
  const axis = { gridcolor: grid, zerolinecolor: grid, linecolor: grid, tickcolor: grid, automargin: true };
  return {
    autosize: true,
    height: 260,
    margin: { l: 48, r: 12, t: 8, b: 40 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: styleOf("--font"), size: 12, color: text },
    hoverlabel: { bgcolor: page, bordercolor: grid, font: { family: styleOf("--font"), color: themeColour("--text") } },
    hovermode: "closest",
    showlegend: false,
    dragmode: "zoom",
    ...more,
    xaxis: { ...axis, ...more.xaxis },
    yaxis: { ...axis, ...more.yaxis },
  };
}

// What an empty chart says, in its middle.
function saying(text) {
  return { text, showarrow: false, xref: "paper", yref: "paper", x: 0.5, y: 0.5, font: { size: 13, color: themeColour("--quiet") } };
}

const PLOT_OPTIONS = { displayModeBar: false, responsive: true, doubleClick: "reset", showTips: false };

function across(curve, unit) {
  if (view.axis === "step") return curve.steps;
  if (view.axis === "clock") return curve.times.map((one) => data.runs[curve.run].start + one);
  return curve.times.map((one) => one / unit[1]);
}

function tracesOf(curve, unit) {
  const xs = across(curve, unit);
  const colour = colourOf(curve.run);
  const common = { x: xs, type: "scatter", name: plainText(data.runs[curve.run].name), connectgaps: false };
  const mode = curve.values.length > 1 ? "lines" : "markers";
  const line = { color: colour, width: 1.7, dash: dashOf(curve.run) };
  const hovertemplate = "<b>%{fullData.name}</b><br>%{x}<br>%{y:.6g}<extra></extra>";
  const main = { ...common, mode, line, marker: { color: colour, size: 7 }, uid: `r${curve.run}`, hovertemplate };
  if (!view.smooth) return [{ ...main, y: drawable(curve.values) }];
  const faint = { ...common, mode, line: { color: colour, width: 1 }, opacity: 0.22, uid: `f${curve.run}`, hoverinfo: "skip" };
  return [
    { ...faint, y: drawable(curve.values) },
    { ...main, y: drawable(smoothed(curve, view.smooth)) },
  ];
}

function drawCard(card) {
  card.isStale = false;
  card.curves ??= data.curves[card.metric].map(curveOf);
  const curves = card.curves.filter((one) => shownRuns.has(one.run));
  const unit = unitOf(Math.max(0, ...card.curves.map((one) => one.times[one.times.length - 1])));
  const titles = { step: "step", time: `time since the start (${unit[0]})`, clock: "" };
  const layout = baseLayout({
    uirevision: `${view.axis}${view.log}`, // a zoom survives everything but another axis
    xaxis: { title: { text: titles[view.axis], standoff: 6 }, type: view.axis === "clock" ? "date" : "linear" },
    yaxis: { type: view.log ? "log" : "linear", exponentformat: "power" },
  });
  const traces = curves.flatMap((curve) => tracesOf(curve, unit));
  const isDrawn = (value) => Number.isFinite(value) && (!view.log || value > 0);
  if (!traces.some((trace) => trace.y.some(isDrawn))) {
    layout.annotations = [saying(curves.length ? `no ${view.log ? "positive " : ""}finite value` : "no run is chosen that has it")];
  }
  return Plotly.react(card.plot, traces, layout, PLOT_OPTIONS).then(() => {
    card.element.dataset.drawn = String(Number(card.element.dataset.drawn ?? 0) + 1);
    card.plot.querySelector(".main-svg")?.setAttribute("aria-hidden", "true");
    if (!card.listens) {
      card.plot.on("plotly_hover", (event) => focusRun(Number(event.points[0].data.uid.slice(1))));
      card.plot.on("plotly_unhover", () => focusRun(null));
      card.listens = true;
    }
    dim(card);
    if (card.table.open) fillTable(card);
  });
}

// The run that is pointed at stands out; all others step back.
function focusRun(run) {
  view.focus = run;
  cards.forEach(dim);
}

function dim(card) {
  for (const trace of card.plot.querySelectorAll(".scatterlayer .trace")) {
    const found = /trace[rf](\d+)$/.exec(trace.getAttribute("class").replace(" behind", ""));
    const isBehind = view.focus !== null && found && Number(found[1]) !== view.focus;
    trace.classList.toggle("behind", Boolean(isBehind));
  }
}

function zoomX(card, factor) {
  const axis = card.plot.layout.xaxis;
  const isDate = axis.type === "date";
  const [from, to] = axis.range.map((one) => (isDate ? new Date(`${one.replace(" ", "T")}Z`).getTime() : one));
  const [middle, half] = [(from + to) / 2, ((to - from) / 2) * factor];
  Plotly.relayout(card.plot, { "xaxis.range": [middle - half, middle + half] });
}

function download(name, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function node(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function fillTable(card) {
  const heads = ["run", "points", "last", "least", "greatest"].map((one) => node("th", { scope: "col", textContent: one }));
  const rows = card.curves.filter((one) => shownRuns.has(one.run)).map((curve) => {
    const run = data.runs[curve.run];
    const cells = (run.metrics[card.metric] ?? []).map((one) => node("td", { className: "n", textContent: one === null ? "NaN" : shortNumber(one) }));
    return node("tr", {}, node("th", { scope: "row", textContent: run.name }), node("td", { className: "n", textContent: curve.recorded.toLocaleString("en") }), ...cells);
  });
  const table = node("table", {}, node("thead", {}, node("tr", {}, ...heads)), node("tbody", {}, ...rows));
  card.table.replaceChildren(card.table.firstChild, node("div", { className: "scroll", tabIndex: 0 }, table));
}

function cardOf(metric) {
  const plot = node("div", { className: "plot" });
  plot.setAttribute("role", "img");
  plot.setAttribute("aria-label", `${metric} of the chosen runs; the table below has its numbers`);
  const table = node("details", {}, node("summary", { textContent: "Numbers" }));
  const buttons = node("div", { className: "tools" });
  const element = node("article", { className: "card" }, node("header", {}, node("h3", { textContent: metric }), buttons), plot, table);
  const card = { metric, element, plot, table, isStale: true };
  const tools = {
    "+": ["zoom in", () => zoomX(card, 0.5)],
    "\u2212": ["zoom out", () => zoomX(card, 2)],
    Reset: ["show all", () => Plotly.relayout(plot, { "xaxis.autorange": true, "yaxis.autorange": true })],
    CSV: ["download as CSV", () => download(`${metric.replace(/[^\w.-]+/g, "-")}.csv`, curvesCsv(card.curves.filter((one) => shownRuns.has(one.run)), data.runs))],
  };
  for (const [text, [label, action]] of Object.entries(tools)) {
    const button = node("button", { type: "button", textContent: text, title: label, onclick: action });
    button.setAttribute("aria-label", `${metric}: ${label}`);
    buttons.append(button);
  }
  table.addEventListener("toggle", () => table.open && card.curves && fillTable(card));
  element.card = card;
  return card;
}

const inView = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const { card } = entry.target;
    card.isInView = entry.isIntersecting;
    if (card.isInView && card.isStale) drawCard(card);
  }
}, { rootMargin: "300px" });

function redraw() {
  for (const card of cards.values()) {
    card.isStale = true;
    if (card.isInView) drawCard(card);
  }
}

function showMetric(metric, isShown) {
  const places = [...document.querySelectorAll("#metrics input")].map((one) => one.value);
  if (!isShown) {
    inView.unobserve(cards.get(metric).element);
    Plotly.purge(cards.get(metric).plot);
    cards.get(metric).element.remove();
    cards.delete(metric);
    return;
  }
  const card = cardOf(metric);
  cards.set(metric, card);
  const next = places.slice(places.indexOf(metric) + 1).find((one) => cards.has(one));
  document.getElementById("charts").insertBefore(card.element, next ? cards.get(next).element : null);
  inView.observe(card.element);
}
