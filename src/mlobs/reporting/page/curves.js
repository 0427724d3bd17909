// Curves as numbers: unpacked, smoothed, put on an axis. Nothing here touches the page.
function summed(differences) {
  let sum = 0;
  return differences.map((one) => (sum += one));
}

// {r: run, n: recorded, s: steps, t: milliseconds since the run's start, v: values, m: means of the buckets}
function curveOf(packed) {
  const values = packed.v.map((one) => (one === null ? NaN : Number(one)));
  let mean = NaN;
  const means = packed.m?.map((one) => (mean = one === null ? mean : Number(one)));
  return { run: packed.r, recorded: packed.n, steps: summed(packed.s), times: summed(packed.t), values, means };
}

// The exponential mean, corrected for its start. A gap stays a gap, and is not counted.
function smoothed(curve, weight) {
  const source = curve.means ?? curve.values;
  let mean = 0;
  let total = 0;
  return curve.values.map((value, at) => {
    if (!Number.isFinite(value) || !Number.isFinite(source[at])) return NaN;
    mean = weight * mean + (1 - weight) * source[at];
    total = weight * total + (1 - weight);
    return mean / total;
  });
}

function drawable(values) {
  return values.map((value) => (Number.isFinite(value) ? value : null));
}

const UNITS = [["h", 3_600_000], ["min", 60_000], ["s", 1000]];

// The unit that a span of milliseconds reads best in.
function unitOf(milliseconds) {
  return UNITS.find(([, size]) => milliseconds >= 2 * size) ?? UNITS[2];
}

function shortNumber(value) {
  if (!Number.isFinite(value)) return String(value);
  const text = Math.abs(value) >= 1e6 || (value !== 0 && Math.abs(value) < 1e-4) ? value.toExponential(4) : String(Number(value.toPrecision(6)));
  return text.replace(/\.?0+e/, "e").replace("e+", "e").replaceAll("-", "\u2212");
}

function csvCell(value) {
  const text = String(value);
  const safe = /^[=+@\t\r]|^-(?![\d.I])/.test(text) ? `'${text}` : text; // a spreadsheet must not take a name for a formula
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

function curvesCsv(curves, runs) {
  const lines = ["run_id,run,step,at,value"];
  for (const curve of curves) {
    const run = runs[curve.run];
    const head = `${csvCell(run.id)},${csvCell(run.name)}`;
    curve.values.forEach((value, at) => {
      const moment = new Date(run.start + curve.times[at]).toISOString();
      lines.push(`${head},${curve.steps[at]},${moment},${value}`);
    });
  }
  return `${lines.join("\n")}\n`;
}
