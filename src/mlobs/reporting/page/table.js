// The table of runs: sorted, filtered, with the columns that are wanted; and which runs the charts show.
const runsTable = document.getElementById("runs-table");
const runRows = [...runsTable.tBodies[0].rows];
const shownRuns = new Set(runRows.map((row) => Number(row.dataset.run)));
const runListeners = [];

function say(text) {
  document.getElementById("said").textContent = text;
}

function compareCells(one, two) {
  const numbers = [Number(one), Number(two)];
  return numbers.some(Number.isNaN) ? one.localeCompare(two, "en", { numeric: true }) : numbers[0] - numbers[1];
}

function sortRuns(head) {
  const isUp = head.getAttribute("aria-sort") !== "ascending";
  for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", isUp ? "ascending" : "descending");
  const at = head.cellIndex;
  const value = (row) => row.cells[at].dataset.sort;
  const having = runRows.filter((row) => value(row) !== "");
  having.sort((one, two) => compareCells(value(one), value(two)) * (isUp ? 1 : -1));
  runsTable.tBodies[0].append(...having, ...runRows.filter((row) => value(row) === "")); // what has none comes last
  say(`sorted by ${head.textContent}, ${isUp ? "ascending" : "descending"}`);
}

function filterRuns(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const row of runRows) {
    const content = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => content.includes(word));
    count += !row.hidden;
  }
  document.getElementById("count").textContent = words.length ? `${count} of ${runRows.length} runs` : "";
}

function showColumn(key, isShown) {
  const head = [...runsTable.tHead.rows[0].cells].find((one) => one.dataset.key === key);
  for (const row of runsTable.rows) row.cells[head.cellIndex].hidden = !isShown;
}

function showRun(run, isShown) {
  if (isShown) shownRuns.add(run);
  else shownRuns.delete(run);
  const row = runRows.find((one) => Number(one.dataset.run) === run);
  row.querySelector("input").checked = isShown;
  document.querySelector(`#legend [data-run="${run}"]`)?.setAttribute("aria-pressed", String(isShown));
}

function runsChanged() {
  runListeners.forEach((listener) => listener());
}

for (const head of runsTable.tHead.rows[0].cells) {
  head.querySelector("button").addEventListener("click", () => sortRuns(head));
}
for (const row of runRows) {
  row.querySelector("input").addEventListener("change", (event) => {
    showRun(Number(row.dataset.run), event.target.checked);
    runsChanged();
  });
}
document.getElementById("filter").addEventListener("input", (event) => filterRuns(event.target.value));
document.getElementById("columns").addEventListener("change", (event) => showColumn(event.target.value, event.target.checked));

// A menu closes on Escape and on a click elsewhere; a link to a folded part opens it.
document.addEventListener("keydown", (event) => {
  const menu = event.key === "Escape" && document.activeElement.closest("details.menu[open]");
  if (!menu) return;
  menu.open = false;
  menu.querySelector("summary").focus();
});
document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
  const link = event.target.closest('a[href^="#"]');
  const part = link && document.getElementById(link.hash.slice(1));
  if (part?.tagName === "DETAILS") part.open = true;
});
