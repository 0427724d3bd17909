// Params against a metric: a scatter, and parallel coordinates.
const MOST_AXES = 9;
const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "x"];
const RAMPS = { // of cividis (Nunez, Anderton and Renslow, 2018), without the end that the page's colour swallows
  light: [[0, 34, 78], [64, 77, 107], [112, 113, 115], [150, 135, 70], [150, 115, 0]],
  dark: [[88, 128, 215], [124, 140, 170], [165, 160, 140], [215, 190, 90], [254, 232, 56]],
};

function chosen(id) {
  return document.getElementById(id).value;
}

function metricOf(run) {
  return run.metrics[chosen("target")]?.[Number(chosen("aggregate"))] ?? null;
}

function targetTitle() {
  const select = document.getElementById("aggregate");
  return `${chosen("target")} (${select.options[select.selectedIndex].text})`;
}

function rampColour(share) {
  const stops = RAMPS[isDark() ? "dark" : "light"];
  const at = Math.min(stops.length - 2, Math.floor(share * (stops.length - 1)));
  const part = share * (stops.length - 1) - at;
  const mixed = stops[at].map((one, channel) => Math.round(one + (stops[at + 1][channel] - one) * part));
  return `rgb(${mixed.join(",")})`;
}

function runsWithMetric() {
  return [...shownRuns].sort((one, two) => one - two).filter((run) => metricOf(data.runs[run]) !== null);
}

// How values lie on an axis from 0 to 1: numbers by size, or by their logarithm, anything else in a row.
function scaleOf(values) {
  const having = values.filter((one) => one !== null && one !== undefined);
  if (having.length && having.every((one) => typeof one === "number")) {
    const [low, high] = [Math.min(...having), Math.max(...having)];
    const isLog = low > 0 && high / low >= 100;
    const form = isLog ? Math.log : (one) => one;
    const span = form(high) - form(low);
    const place = (one) => (typeof one === "number" ? (span ? (form(one) - form(low)) / span : 0.5) : null);
    const middle = isLog ? Math.sqrt(low * high) : (low + high) / 2;
    return { place, ticks: [...new Set(span ? [low, middle, high] : [low])].map((one) => [place(one), shortNumber(Number(one.toPrecision(3)))]) };
  }
  const texts = [...new Set(having.map(String))].sort((one, two) => one.localeCompare(two, "en", { numeric: true }));
  const place = (one) => (one === null || one === undefined ? null : texts.length > 1 ? texts.indexOf(String(one)) / (texts.length - 1) : 0.5);
  const shown = texts.length <= 8 ? texts : [texts[0], texts[texts.length - 1]];
  return { place, ticks: shown.map((one) => [place(one), plainText(one.length > 14 ? `${one.slice(0, 13)}\u2026` : one)]) };
}

// A dash has no meaning for a point: the second ten runs have another shape instead.
function symbolOf(run) {
  return SYMBOLS[Math.floor(run / data.light.length) % SYMBOLS.length];
}

function drawScatter() {
  const [name, runs] = [chosen("param"), runsWithMetric()];
  const having = runs.filter((run) => (data.runs[run].params[name] ?? null) !== null);
  const values = having.map((run) => data.runs[run].params[name]);
  const isNumber = values.every((one) => typeof one === "number");
  const isLog = isNumber && document.getElementById("param-log").checked && values.every((one) => one > 0);
  const trace = {
    type: "scatter",
    mode: "markers",
    x: isNumber ? values : values.map((one) => plainText(String(one))),
    y: having.map((run) => metricOf(data.runs[run])),
    text: having.map((run) => plainText(data.runs[run].name)),
    marker: { color: having.map(colourOf), symbol: having.map(symbolOf), size: 10, line: { width: 1, color: themeColour("--page") } },
    hovertemplate: "<b>%{text}</b><br>%{x}<br>%{y:.6g}<extra></extra>",
  };
  document.getElementById("scatter-title").textContent = `${targetTitle()} by ${name}`;
  const layout = baseLayout({
    height: 320,
    xaxis: { title: { text: plainText(name), standoff: 6 }, type: isNumber ? (isLog ? "log" : "linear") : "category" },
    yaxis: { title: { text: plainText(targetTitle()), standoff: 6 } },
  });
  if (!having.length) layout.annotations = [saying("no run has both")];
  return Plotly.react(document.getElementById("scatter"), [trace], layout, PLOT_OPTIONS);
}

function axesOf(runs) {
  const names = data.varying.filter((name) => new Set(runs.map((run) => String(data.runs[run].params[name]))).size > 1);
  const params = names.slice(0, MOST_AXES - 1).map((name) => [name, runs.map((run) => data.runs[run].params[name])]);
  return [...params, [targetTitle(), runs.map((run) => metricOf(data.runs[run]))]].map(([name, values]) => ({ name, values, ...scaleOf(values) }));
}

function drawParallel() {
  const runs = runsWithMetric();
  const axes = axesOf(runs);
  const shares = runs.map((_, at) => axes[axes.length - 1].place(axes[axes.length - 1].values[at]) ?? 0);
  const traces = runs.map((run, at) => ({
    type: "scatter",
    mode: "lines",
    x: axes.map((_, place) => place),
    y: axes.map((axis) => axis.place(axis.values[at])),
    line: { color: rampColour(shares[at]), width: 2, shape: "spline", smoothing: 0.6 },
    opacity: 0.85,
    name: plainText(data.runs[run].name),
    text: axes.map((axis) => plainText(`${axis.name}: ${axis.values[at] ?? "none"}`)),
    hovertemplate: "<b>%{fullData.name}</b><br>%{text}<extra></extra>",
  }));
  const [line, page] = [themeColour("--quiet"), themeColour("--page")];
  const annotations = axes.flatMap((axis, place) => [
    { x: place, y: 1.06, text: plainText(axis.name.length > 22 ? `${axis.name.slice(0, 21)}\u2026` : axis.name), showarrow: false, yanchor: "bottom", font: { color: themeColour("--text") } },
    ...axis.ticks.map(([y, text]) => {
      const isLast = place === axes.length - 1; // its lines come from the left
      return { x: place, y, text, showarrow: false, xanchor: isLast ? "left" : "right", xshift: isLast ? 5 : -5, bgcolor: page, font: { size: 11 } };
    }),
  ]);
  const hidden = { visible: false, fixedrange: true };
  const layout = baseLayout({
    height: 340,
    margin: { l: 64, r: 64, t: 44, b: 12 },
    xaxis: { ...hidden, range: [-0.02, axes.length - 0.98] },
    yaxis: { ...hidden, range: [-0.05, 1.08] },
    shapes: axes.map((_, x) => ({ type: "line", x0: x, x1: x, y0: 0, y1: 1, layer: "below", line: { color: line, width: 1 } })),
    annotations,
  });
  const place = document.getElementById("parallel");
  place.style.minWidth = `${Math.max(320, axes.length * 110)}px`;
  return Plotly.react(place, traces, layout, PLOT_OPTIONS);
}

function drawParams() {
  if (!document.getElementById("scatter")) return;
  document.querySelector(".ramp").style.background = `linear-gradient(90deg, ${[0, 0.25, 0.5, 0.75, 1].map(rampColour).join(",")})`;
  drawScatter();
  drawParallel();
}

function fillSelect(id, values) {
  document.getElementById(id).replaceChildren(...values.map((one) => node("option", { value: one, textContent: one })));
}

function startParams() {
  if (!document.getElementById("scatter")) return;
  const common = Object.keys(data.curves).filter((name) => !data.system.includes(name));
  const all = [...new Set(data.runs.flatMap((run) => Object.keys(run.params)))];
  const ordered = [...data.varying, ...all.filter((name) => !data.varying.includes(name))];
  fillSelect("target", common.length ? common : Object.keys(data.curves));
  fillSelect("param", ordered);
  if (!ordered.length) document.getElementById("params").hidden = true;
  for (const id of ["target", "aggregate", "param", "param-log"]) document.getElementById(id).addEventListener("change", drawParams);
  const section = document.getElementById("params");
  new IntersectionObserver((entries, observer) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    drawParams();
    for (const listeners of [runListeners, themeListeners]) listeners.push(drawParams);
  }, { rootMargin: "300px" }).observe(section);
}
