// Loaded before the first paint: a theme chosen by hand wins over the system's.
(() => {
  let chosen = null;
  try {
    chosen = localStorage.getItem("northlift-theme");
  } catch {
    // Storage may be forbidden; the system's theme is fine then.
  }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  document.documentElement.classList.add("js");
})();
