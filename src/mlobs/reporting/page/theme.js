// The theme: as the system has it, or light, or dark. It is remembered where the browser lets a file remember.
const THEMES = { system: "as the system", light: "light", dark: "dark" };
const themeButton = document.getElementById("theme");
const themeListeners = [];

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function setTheme(name) {
  if (name === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  themeButton.textContent = `Theme: ${THEMES[name]}`;
  themeListeners.forEach((listener) => listener());
}

function remembered(value) {
  try {
    if (value === undefined) return localStorage.getItem("mlobs-theme");
    localStorage.setItem("mlobs-theme", value);
  } catch {
    return null; // some browsers give files no storage
  }
  return value;
}

themeButton.addEventListener("click", () => {
  const names = Object.keys(THEMES);
  const next = names[(names.indexOf(document.documentElement.dataset.theme ?? "system") + 1) % names.length];
  setTheme(next);
  remembered(next);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => themeListeners.forEach((one) => one()));
if (remembered() in THEMES) setTheme(remembered());
