// Charts, theme and small comforts. Every page works without this file; charts then have their tables.
"use strict";

const root = document.documentElement;

// ---------------------------------------------------------------- charts
// A specification names its colours as parameters; the page's own theme gives their values.
function palette() {
  const probe = document.createElement("span");
  probe.hidden = true;
  document.body.append(probe);
  const resolve = (name) => {
    probe.style.color = `var(--chart-${name})`;
    return getComputedStyle(probe).color;
  };
  return { resolve, done: () => probe.remove() };
}

async function draw(canvas) {
  const source = document.getElementById(canvas.dataset.chart);
  if (!source || !window.vegaEmbed) return;
  const spec = JSON.parse(source.textContent);
  const colours = palette();
  for (const parameter of spec.params ?? []) parameter.value = colours.resolve(parameter.name);
  colours.done();
  canvas.vegaView?.finalize();
  const embedded = await window.vegaEmbed(canvas, spec, {
    ast: true, // no code is made from strings, so the page needs no unsafe-eval
    actions: false,
    defaultStyle: false,
    renderer: "svg",
    tooltip: { disableDefaultStyle: true, theme: "northlift" },
  });
  canvas.vegaView = embedded.view;
  canvas.dataset.drawn = "true";
}

// Charts below the fold wait until they are about to be seen.
const seen = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      seen.unobserve(entry.target);
      draw(entry.target);
    }
  },
  { rootMargin: "400px" },
);

function prepare(scope) {
  for (const canvas of scope.querySelectorAll("[data-chart]:not([data-watched])")) {
    canvas.dataset.watched = "true";
    seen.observe(canvas);
  }
  for (const time of scope.querySelectorAll("time[datetime][data-local]")) {
    time.title = new Date(time.dateTime).toLocaleString();
  }
}

function redraw() {
  for (const canvas of document.querySelectorAll("[data-drawn]")) draw(canvas);
}

// ---------------------------------------------------------------- theme
const dark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);

function announceTheme(button) {
  button.setAttribute("aria-pressed", String(isDark()));
}

function toggleTheme(button) {
  const next = isDark() ? "light" : "dark";
  root.dataset.theme = next;
  try {
    localStorage.setItem("northlift-theme", next);
  } catch {
    // Not remembered then.
  }
  announceTheme(button);
  redraw();
}

// ---------------------------------------------------------------- forms
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-theme-toggle]");
  if (button) toggleTheme(button);
  const tab = event.target.closest("[data-choose]");
  if (tab) choose(tab);
  const copier = event.target.closest("[data-copy]");
  if (copier) copy(copier);
});

// Where the clipboard is closed to pages (no TLS), the text is selected instead.
async function copy(button) {
  const source = document.getElementById(button.dataset.copy);
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(source.textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(source);
    button.textContent = "Selected";
  }
  setTimeout(() => (button.textContent = label), 2000);
}

document.addEventListener("submit", (event) => {
  const question = event.submitter?.dataset.confirm ?? event.target.dataset.confirm;
  if (question && !window.confirm(question)) event.preventDefault();
});

// Which of several comparisons a section shows.
function choose(tab) {
  const group = tab.closest("[data-choices]");
  for (const other of group.querySelectorAll("[data-choose]")) {
    other.setAttribute("aria-selected", String(other === tab));
    other.tabIndex = other === tab ? 0 : -1;
    const panel = document.getElementById(other.getAttribute("aria-controls"));
    if (panel) panel.hidden = other !== tab;
  }
}

document.addEventListener("keydown", (event) => {
  const tab = event.target.closest?.("[data-choose]");
  if (!tab || (event.key !== "ArrowRight" && event.key !== "ArrowLeft")) return;
  const tabs = [...tab.closest("[data-choices]").querySelectorAll("[data-choose]")];
  const next = tabs[(tabs.indexOf(tab) + (event.key === "ArrowRight" ? 1 : tabs.length - 1)) % tabs.length];
  choose(next);
  next.focus();
  event.preventDefault();
});

// The shipped variant is asked for only when the decision is to ship.
function showWhen(form) {
  for (const part of form.querySelectorAll("[data-shown-for]")) {
    const chosen = form.querySelector(`[name="${part.dataset.shownBy}"]:checked`)?.value;
    const shown = part.dataset.shownFor.split(" ").includes(chosen);
    part.hidden = !shown;
    for (const field of part.querySelectorAll("select, input")) field.disabled = !shown;
  }
}

// A decision against the recommendation needs a reason; one that follows it is not asked for any.
function askWhy(form) {
  const why = form.querySelector("[data-override]");
  if (!why || form.dataset.agrees === undefined) return;
  const outcome = form.querySelector('[name="outcome"]:checked')?.value;
  const variant = form.querySelector('[name="shipped_variant"]')?.value;
  const other = outcome === "ship" && form.dataset.recommended && variant !== form.dataset.recommended;
  const needed = Boolean(outcome) && (!form.dataset.agrees.split(" ").includes(outcome) || Boolean(other));
  why.hidden = !needed && !("faulty" in why.dataset);
  why.querySelector("textarea").required = needed;
}

document.addEventListener("change", (event) => {
  const form = event.target.closest("form");
  if (!form) return;
  showWhen(form);
  askWhy(form);
});

// ---------------------------------------------------------------- start
function start() {
  prepare(document);
  for (const button of document.querySelectorAll("[data-theme-toggle]")) announceTheme(button);
  for (const form of document.querySelectorAll("form")) {
    showWhen(form);
    askWhy(form);
  }
  for (const group of document.querySelectorAll("[data-choices]")) {
    const first = group.querySelector("[aria-selected=true]") ?? group.querySelector("[data-choose]");
    if (first) choose(first);
    group.dataset.ready = "true";
  }
  dark.addEventListener("change", () => {
    if (!root.dataset.theme) redraw();
  });
}

document.addEventListener("htmx:after:swap", () => prepare(document));
if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
else start();
