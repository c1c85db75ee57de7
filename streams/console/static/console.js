// What the pages do in a browser: live updates, ages, keys, the palette, charts. Everything also
// works without it, by links and forms.
"use strict";

// ---- ages tick, so that a number that stands still is seen to grow old

let skewMs = 0; // the server's clock less ours

const spans = [[86_400, "d"], [3_600, "h"], [60, "min"]];
function inWords(seconds) {
  for (const [size, unit] of spans) {
    if (seconds >= size) return `${(seconds / size).toFixed(1).replace(/\.0$/, "")} ${unit}`;
  }
  return `${Math.max(0, Math.round(seconds))} s`;
}

function tick() {
  for (const each of document.querySelectorAll("[data-ticks]")) {
    const old = Date.now() + skewMs - Number(each.dataset.age);
    each.textContent = inWords(old / 1000);
    const limit = Number(each.dataset.old) * 1000;
    each.parentElement.classList.toggle("is-old", limit > 0 && old > limit);
  }
}

// ---- live: one stream per page and browser; the tab that has the lock shares it with the others

const QUIET_MS = 15_000;
let stream = null, channel = null, release = null, address = "", heardAt = 0, paused = false;
let position = "", waiting = null;

function say(text) {
  const banner = document.getElementById("stale");
  if (!banner) return;
  banner.hidden = !text;
  if (banner.textContent !== text) banner.textContent = text;
}

function busy() {
  // Whoever types or has chosen rows would lose it.
  const at = document.activeElement;
  const typing = at && at.closest("#page") && at.matches("input:not([type=checkbox]), textarea, select");
  return typing || document.querySelector("#page input[type=checkbox]:checked, #page dialog[open]")
    || String(getSelection() || "").length > 0;
}

function take(message) {
  heardAt = Date.now();
  if (message.kind === "alive") {
    try { skewMs = JSON.parse(message.data).now_ms - Date.now(); } catch { /* no clock in it */ }
    return;
  }
  if (message.kind === "away") {
    say(`Not up to date: ${message.data}`);
    return;
  }
  position = message.id;
  if (paused) { waiting = message; return; }
  if (busy()) { waiting = message; return; }
  put(message);
}

function put(message) {
  waiting = null;
  const main = document.getElementById("page");
  if (!main) return;
  say("");
  const open = [...main.querySelectorAll("details[open]")].map((each) => each.closest("section")?.id);
  const focused = document.activeElement?.id;
  const text = new DOMParser().parseFromString(message.data, "text/html");
  const next = text.getElementById("page");
  if (!next) return;
  for (const id of open) if (id) next.querySelector(`#${CSS.escape(id)} details`)?.setAttribute("open", "");
  const summary = next.querySelector("#summary"), said = main.querySelector("#summary");
  const boxes = new Map([...main.querySelectorAll(".scroll")].map((each, at) => [at, each.scrollLeft]));
  // The line that screen readers follow stays, or they would not notice that it says something new.
  if (summary && said) {
    if (said.textContent !== summary.textContent) said.textContent = summary.textContent;
    summary.replaceWith(said);
  }
  main.replaceChildren(...next.childNodes);
  [...main.querySelectorAll(".scroll")].forEach((each, at) => { each.scrollLeft = boxes.get(at) || 0; });
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  window.htmx?.process(main);
  drawAll();
  tick();
}

function listen(url) {
  stream = new EventSource(url + (position ? (url.includes("?") ? "&" : "?") + `last=${encodeURIComponent(position)}` : ""));
  for (const kind of ["page", "away", "alive"]) {
    stream.addEventListener(kind, (each) => {
      const message = { kind, id: each.lastEventId, data: each.data };
      channel?.postMessage(message);
      take(message);
    });
  }
  stream.onerror = () => {
    if (stream && stream.readyState === EventSource.CLOSED) say("Live updates have ended. Load the page again.");
  };
}

function follow() {
  const main = document.getElementById("page");
  const url = main?.dataset.live || "";
  if (url === address) return;
  leave();
  address = url;
  if (!url) return;
  heardAt = Date.now();
  if (window.BroadcastChannel && navigator.locks) {
    channel = new BroadcastChannel(`tideline:${url}`);
    channel.onmessage = (each) => take(each.data);
    const leaving = new AbortController();
    let done;
    const until = new Promise((resolve) => { done = resolve; });
    release = () => { leaving.abort(); done(); };
    navigator.locks.request(`tideline:${url}`, { signal: leaving.signal }, () => {
      if (address === url) listen(url);
      return until;
    }).catch(() => { /* left before it was our turn */ });
  } else {
    listen(url); // not a secure context: a stream of its own
  }
}

function leave() {
  stream?.close();
  channel?.close();
  release?.();
  stream = channel = release = waiting = null;
  position = "";
  say("");
}

setInterval(() => {
  tick();
  if (waiting && !paused && !busy()) put(waiting);
  if (address && Date.now() - heardAt > QUIET_MS) {
    say(`Not up to date: the console has not been heard for ${inWords((Date.now() - heardAt) / 1000)}.`);
  }
}, 1000);

// ---- charts: drawn from the table below them

const COLOURS = ["#2f8fae", "#c8791a", "#5b8f3e", "#a05aa8", "#b8493f"];

// Ticks of a time axis: from which distance on, the label, and what is added where a year or a day begins.
const DAY = 86400, DATE = "\n{YYYY}-{MM}-{DD}";
const TIME_TICKS = [
  [365 * DAY, "{YYYY}", null, null, null, null, null, null, 1],
  [28 * DAY, "{MMM}", "\n{YYYY}", null, null, null, null, null, 1],
  [DAY, "{D} {MMM}", "\n{YYYY}", null, null, null, null, null, 1],
  [60, "{HH}:{mm}", DATE, null, DATE, null, null, null, 1],
  [0.001, "{HH}:{mm}:{ss}", DATE, null, DATE, null, null, null, 1],
];

function draw(figure) {
  const table = document.getElementById(figure.dataset.table);
  if (!table || !window.uPlot) return;
  const heads = [...table.tHead.rows[0].cells];
  const rows = [...table.tBodies[0].rows];
  const data = heads.map((_, at) => rows.map((row) => {
    const text = row.cells[at].dataset.v;
    return text === "" || text === undefined ? null : Number(text);
  }));
  const style = getComputedStyle(document.documentElement);
  const ink = getComputedStyle(figure).color, line = getComputedStyle(figure).borderTopColor;
  const font = `12px ${style.fontFamily}`;
  const isTime = figure.dataset.x === "time";
  const series = [{ label: heads[0].textContent, ...(isTime ? { value: "{YYYY}-{MM}-{DD} {HH}:{mm}" } : {}) }];
  const bands = [];
  heads.slice(1).forEach((head, at) => {
    const colour = COLOURS[at % COLOURS.length], kind = head.dataset.style;
    const one = { label: head.textContent, stroke: colour, width: 2, spanGaps: false, points: { show: rows.length < 3 } };
    if (kind === "dots") Object.assign(one, { width: 0, points: { show: true, size: 7, fill: colour } });
    if (kind === "bars") Object.assign(one, { paths: uPlot.paths.bars({ size: [0.7] }), fill: `${colour}99`, points: { show: false } });
    if (kind === "low" || kind === "high") Object.assign(one, { stroke: COLOURS[0], width: 0, points: { show: false } });
    if (kind === "high") bands.push({ series: [at + 1, at], fill: "#2f8fae33" });
    series.push(one);
  });
  if (figure.dataset.diagonal === "1") {
    series.push({ label: "ideal", stroke: ink, dash: [4, 4], width: 1, points: { show: false } });
    data.push(data[0].slice());
  }
  const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 }, font, labelFont: font };
  figure.replaceChildren();
  const box = { width: Math.max(200, figure.clientWidth - 16), height: 190 };
  new uPlot({
    ...box, series, bands, tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1e3), document.documentElement.dataset.zone || "UTC"), legend: { live: true }, cursor: { drag: { x: false, y: false } },
    scales: { x: { time: isTime }, y: { range: (_, low, high) => {
      const from = figure.dataset.zero === "1" ? Math.min(0, low) : low;
      return [from, high > from ? high + (high - from) * 0.05 : from + 1];
    } } },
    axes: [{ ...axis, ...(isTime ? { values: TIME_TICKS } : { label: figure.dataset.xlabel, labelSize: 18 }) },
      { ...axis, size: 64, label: figure.dataset.y || undefined, labelSize: 18 }],
  }, data, figure);
}

function drawAll() {
  document.querySelectorAll(".chart[data-table]").forEach(draw);
}

let resized;
addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(drawAll, 150); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);

// ---- keys and palette

const palette = () => document.getElementById("palette");
let before = "", chosen = 0, offered = [];

function pages() {
  return [...document.querySelectorAll(".top nav a")].map((each) => ({ label: each.textContent, run: () => { location.href = each.href; } }));
}

function theme(name) {
  if (name) document.documentElement.dataset.theme = name; else delete document.documentElement.dataset.theme;
  try { if (name) localStorage.setItem("tideline-theme", name); else localStorage.removeItem("tideline-theme"); } catch { /* storage is off */ }
  drawAll();
}

function pause() {
  paused = !paused;
  say(paused ? "Live updates are paused. Press p to go on." : "");
  if (!paused && waiting) put(waiting);
}

function commands(text) {
  const all = [
    ...pages(),
    { label: "Print this page", run: () => print() },
    { label: "Pause or go on with live updates", run: pause },
    { label: "Theme: light", run: () => theme("light") },
    { label: "Theme: dark", run: () => theme("dark") },
    { label: "Theme: as the system", run: () => theme("") },
    { label: "Show the keys", run: () => document.getElementById("keys").showModal() },
  ];
  const wanted = text.trim().toLowerCase();
  const found = all.filter((each) => each.label.toLowerCase().includes(wanted));
  if (wanted && document.querySelector('.top nav a[href="/customers"]')) {
    found.push({ label: `Find customer ${text.trim()}`, run: () => { location.href = `/customers?q=${encodeURIComponent(text.trim())}`; } });
  }
  return found;
}

function offer() {
  const list = document.getElementById("palette-list"), field = document.getElementById("palette-text");
  offered = commands(field.value);
  chosen = Math.min(chosen, Math.max(0, offered.length - 1));
  list.replaceChildren(...offered.map((each, at) => {
    const item = document.createElement("li");
    item.id = `palette-${at}`;
    item.setAttribute("role", "option");
    item.setAttribute("aria-selected", String(at === chosen));
    item.textContent = each.label;
    item.addEventListener("click", () => run(at));
    return item;
  }));
  field.setAttribute("aria-activedescendant", offered.length ? `palette-${chosen}` : "");
  list.children[chosen]?.scrollIntoView({ block: "nearest" });
}

function run(at) {
  palette().close();
  offered[at]?.run();
}

function openPalette() {
  const field = document.getElementById("palette-text");
  field.value = "";
  chosen = 0;
  palette().showModal();
  field.focus();
  offer();
}

function row(step) {
  const rows = [...document.querySelectorAll("#page .grid tbody tr")].filter((each) => each.offsetParent);
  const at = rows.indexOf(document.activeElement?.closest("tr"));
  rows[Math.max(0, Math.min(rows.length - 1, at + step))]?.focus();
}

addEventListener("keydown", (each) => {
  if ((each.ctrlKey || each.metaKey) && each.key.toLowerCase() === "k") {
    each.preventDefault();
    openPalette();
    return;
  }
  if (each.target.id === "palette-text") {
    if (each.key === "ArrowDown" || each.key === "ArrowUp") {
      each.preventDefault();
      chosen = (chosen + (each.key === "ArrowDown" ? 1 : offered.length - 1)) % Math.max(1, offered.length);
      offer();
    } else if (each.key === "Enter") {
      each.preventDefault();
      run(chosen);
    }
    return;
  }
  if (each.ctrlKey || each.metaKey || each.altKey || each.target.matches("input, textarea, select") || document.querySelector("dialog[open]")) return;
  const links = [...document.querySelectorAll(".top nav a")];
  if (before === "g") {
    links.find((link) => link.dataset.key === each.key)?.click();
    before = "";
    return;
  }
  before = each.key;
  if (/^[1-9]$/.test(each.key)) links[Number(each.key) - 1]?.click();
  else if (each.key === "?") document.getElementById("keys").showModal();
  else if (each.key === "/") { each.preventDefault(); document.querySelector("#page .filters :is(input, select)")?.focus(); }
  else if (each.key === "j") row(1);
  else if (each.key === "k") row(-1);
  else if (each.key === "p") pause();
  else if (each.key === "Enter" && each.target.matches("tr")) each.target.querySelector("a")?.click();
});

document.addEventListener("input", (each) => { if (each.target.id === "palette-text") { chosen = 0; offer(); } });
document.addEventListener("click", (each) => { if (each.target.closest("#palette-open")) openPalette(); });

// ---- choosing rows

function chosenRows() {
  const said = document.getElementById("act-count");
  if (!said) return;
  const count = document.querySelectorAll("#page input[type=checkbox]:checked").length;
  said.textContent = count ? `${count} chosen` : said.dataset.none;
}

document.addEventListener("change", (each) => { if (each.target.type === "checkbox") chosenRows(); });
addEventListener("keydown", (each) => {
  const row = each.target.closest?.("#page .grid tr");
  const box = each.key === "x" && row && each.target === row && row.querySelector("input[type=checkbox]");
  if (box) { box.checked = !box.checked; chosenRows(); }
});
document.addEventListener("htmx:after:swap", () => {
  const said = document.getElementById("said");
  if (!said?.textContent.trim() || said.dataset.seen) return;
  // What an action said stays, as a line above the page.
  said.dataset.seen = "1";
  said.className = `banner ${said.classList.contains("is-bad") ? "is-bad" : "is-quiet"}`;
  if (!said.classList.contains("is-bad")) {
    document.querySelectorAll("#page input[type=checkbox]:checked").forEach((box) => { box.checked = false; });
    chosenRows();
  }
});

// ---- filters that are not set stay out of the URL

document.addEventListener("htmx:config:request", (each) => {
  const request = each.detail.ctx?.request;
  if (request?.method?.toUpperCase() !== "GET" || !(request.body instanceof FormData)) return;
  for (const [name, value] of [...request.body]) if (value === "") request.body.delete(name);
});

// ---- when htmx has put another page in place

function settle() {
  follow();
  drawAll();
  tick();
}
document.addEventListener("htmx:after:swap", settle);
document.addEventListener("htmx:after:history:restore", settle);
addEventListener("pagehide", leave);
addEventListener("pageshow", (each) => { if (each.persisted) { address = ""; settle(); } });
settle();
