// Behaviour of the page: draws charts when they come into view, opens details, keeps its state in the address.
// It computes no statistic: every number arrives formatted or ready to draw.  Text enters the page by textContent only.
"use strict";
document.documentElement.classList.add("js");

document.addEventListener("DOMContentLoaded", () => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const byId = (id) => document.getElementById(id);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const state = { metric: "speedup", scale: "log", off: new Set(), layer: "", device: "", dtype: "", step: "", point: "" };

  // ---- packed data ----
  async function unpack(id) {
    const bytes = Uint8Array.from(atob(byId(id).textContent), (c) => c.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
  }
  const figures = unpack("data-figures");
  let details = null;
  const names = JSON.parse(byId("data-names").textContent);

  // ---- charts: one per animation frame, when near the screen ----
  const config = { displaylogo: false, responsive: true, modeBarButtons: [["toImage", "zoom2d", "resetScale2d"]] };
  const drawn = new Map(); // element -> its kind
  const waiting = new Set();
  let drawing = false;

  function template(source, kind) {
    return { data: { scatter: source.templates.traces[kind] }, layout: source.templates.layouts[dark.matches ? "dark" : "light"][kind] };
  }
  // The slot of a variant's traces: noise band first, then band and line of each, in a speed-up chart; one line each elsewhere.
  const variantOf = (kind, slot) => (kind === "speedup" ? (slot ? (slot - 1) >> 1 : -1) : slot);

  async function draw(plot) {
    const source = await figures;
    const figure = source.charts[Number(plot.parentElement.dataset.chart)];
    const kind = plot.parentElement.dataset.kind;
    const data = figure.data.map((trace, slot) => (trace.visible === false ? trace : { ...trace, visible: !state.off.has(names[variantOf(kind, slot)]) }));
    const layout = { ...figure.layout, template: template(source, kind), yaxis: { ...figure.layout.yaxis, type: state.scale } };
    if (state.scale === "linear") { delete layout.yaxis.tickvals; delete layout.yaxis.ticktext; delete layout.yaxis.range; }
    await Plotly.react(plot, data.map((trace) => ({ type: "scatter", ...trace })), layout, config);
    if (!drawn.size) performance.mark("first-chart");
    drawn.set(plot, kind);
  }
  function next() {
    const [plot] = waiting;
    if (!plot) { drawing = false; return; }
    drawing = true;
    waiting.delete(plot);
    requestAnimationFrame(() => draw(plot).finally(next));
  }
  function queue(plot) { waiting.add(plot); if (!drawing) next(); }
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) { watcher.unobserve(entry.target); queue(entry.target); }
  }, { rootMargin: "500px 0px" });
  function redraw() {
    for (const plot of drawn.keys()) {
      if (plot.offsetParent) queue(plot);
      else { Plotly.purge(plot); drawn.delete(plot); watcher.observe(plot); }
    }
  }

  // ---- state and address ----
  function remember() {
    const words = new URLSearchParams();
    for (const key of ["metric", "scale"]) if (state[key] !== all(`[data-${key}]`)[0]?.dataset[key]) words.set(key, state[key]);
    for (const key of ["layer", "device", "dtype", "step", "point"]) if (state[key]) words.set(key, state[key]);
    if (state.off.size) words.set("off", [...state.off].join(","));
    history.replaceState(null, "", words.size ? `#${words}` : location.pathname + location.search);
  }
  function show() {
    for (const key of ["metric", "scale"]) all(`[data-${key}]`).forEach((b) => b.setAttribute("aria-pressed", b.dataset[key] === state[key]));
    all("[data-variant]").forEach((b) => b.setAttribute("aria-pressed", !state.off.has(names[b.dataset.variant])));
    all("[data-pick]").forEach((select) => { select.value = state[select.dataset.pick]; });
    all("[data-hint]").forEach((hint) => { hint.hidden = hint.dataset.hint !== state.metric; });
    all(".layer").forEach((part) => { part.hidden = state.layer && part.dataset.layer !== state.layer; });
    all(".panel").forEach((part) => { part.hidden = ["device", "dtype"].some((key) => state[key] && part.dataset[key] !== state[key]); });
    tables.filter(state);
    all("figure").forEach((part) => {
      part.hidden = part.dataset.kind !== state.metric || (state.step && part.dataset.step && part.dataset.step !== state.step);
    });
  }
  function restore() {
    const words = new URLSearchParams(location.hash.slice(1));
    if (!location.hash.includes("=")) return;
    state.point = "";
    for (const key of ["metric", "scale", "layer", "device", "dtype", "step", "point"]) if (words.has(key)) state[key] = words.get(key);
    state.off = new Set((words.get("off") || "").split(",").filter((name) => names.includes(name)));
    if (!all("[data-metric]").some((b) => b.dataset.metric === state.metric)) state.metric = "speedup";
    if (!["log", "linear"].includes(state.scale)) state.scale = "log";
    for (const select of all("[data-pick]")) {
      if (![...select.options].some((option) => option.value === state[select.dataset.pick])) state[select.dataset.pick] = "";
    }
  }
  function update() { show(); remember(); redraw(); }

  // ---- details of a point ----
  function element(tag, text = "", className = "") {
    const made = document.createElement(tag);
    made.textContent = text;
    if (className) made.className = className;
    return made;
  }
  function grid(titles, rows, numeric) {
    const table = element("table", "", "numbers wide");
    const head = table.createTHead().insertRow();
    titles.forEach((title, i) => { const th = element("th", title, numeric[i] ? "n" : ""); th.scope = "col"; head.append(th); });
    const body = table.createTBody();
    for (const row of rows) { const tr = body.insertRow(); row.forEach((text, i) => tr.append(element("td", text, numeric[i] ? "n" : ""))); }
    return table;
  }
  function scrolling(table) {
    const box = element("div", "", "scroll");
    box.tabIndex = 0;
    box.append(table);
    return box;
  }
  const digits = (x) => (x === 0 ? "0" : Number(x.toPrecision(3)).toString());
  const three = (x) => (Math.abs(x) >= 99.95 ? String(Math.round(x)) : x === 0 ? "0" : x.toPrecision(3));
  const scaled = (x, steps) => { const [scale, unit] = steps.find(([s]) => Math.abs(x) >= 0.9995 * s) || steps.at(-1); return `${three(x / scale)} ${unit}`; };
  const time = (ns) => scaled(ns, [[1e9, "s"], [1e6, "ms"], [1e3, "µs"], [1, "ns"]]);
  const size = (bytes) => (Math.abs(bytes) < 1e3 ? `${digits(bytes)} B` : scaled(bytes, [[1e12, "TB"], [1e9, "GB"], [1e6, "MB"], [1e3, "kB"]]));

  function variantPart(one, words) {
    const part = element("section");
    const name = words[one.variant];
    part.append(element("h3", name === "noise_floor" ? "noise_floor: second copy of the reference" : name));
    if (!one.ns) part.append(element("p", `${words[one.outcome]}: ${words[one.reason]}`, "small"));
    else part.append(element("p", `${words[one.how]}${one.ns.length < one.samples ? `; ${one.ns.length} of them are in this page` : ""}`, "small"));
    if (one.clock) part.append(element("p", one.clock, "small"));
    if (one.kernels) part.append(element("p", one.kernels, "small"));
    for (const warning of one.warnings || []) part.append(element("p", `Warning: ${words[warning]}`, "small"));
    for (const reason of one.breaks || []) part.append(element("p", `Graph break: ${words[reason]}`, "small"));
    if (one.operators?.length) {
      const device = one.operators.some((row) => row[3]);
      const rows = one.operators.map(([op, calls, cpu, gpu, bytes]) => [words[op], digits(calls), time(cpu), ...(device ? [time(gpu)] : []), size(bytes)]);
      part.append(scrolling(grid(["operator, per step", "calls", "self CPU", ...(device ? ["self device"] : []), "allocated"], rows, [false, true, true, true, true])));
      const [, wall, count] = one.profile;
      part.append(element("p", `Profiled: ${wall} per step with the profiler on${count > rows.length ? `; the ${rows.length} largest of ${count} operators` : ""}.`, "small"));
    }
    if (one.accuracy?.length) part.append(scrolling(grid(["tensor", "error", "allowed", "of allowed"], one.accuracy.map(([t, ...rest]) => [words[t], ...rest]), [false, true, true, true])));
    if (one.rates) part.append(element("p", `Rate: at least ${one.rates}. The work was counted on the reference: matrix products, convolutions and attention as FLOP, and tensors in and out.`, "small"));
    if (one.trace) part.append(element("p", `Trace: ${one.trace}`, "small"));
    return part;
  }
  // One row per operator, one column per variant: what one variant runs and another does not.
  function sideBySide(point, words) {
    const shown = point.variants.filter((one) => one.operators?.length);
    if (shown.length < 2) return [];
    const total = new Map(); // operator -> self time of CPU and device by variant
    shown.forEach((one, place) => one.operators.forEach(([op, , cpu, gpu]) => {
      if (!total.has(op)) total.set(op, shown.map(() => null));
      total.get(op)[place] = cpu + gpu;
    }));
    const most = (row) => Math.max(...row.filter((x) => x !== null));
    const cut = shown.some((one) => one.operators.length < one.profile[2]);
    const rows = [...total].sort(([, a], [, b]) => most(b) - most(a)).map(([op, row]) => [words[op], ...row.map((x) => (x === null ? "–" : time(x)))]);
    const device = shown.some((one) => one.operators.some((row) => row[3]));
    const note = `Self time per step${device ? ", CPU and device together" : ""}, with the profiler on. A dash: ${cut ? "not among the operators of that variant in this page" : "the variant does not call it"}.`;
    return [element("h3", "Operators side by side"), scrolling(grid(["operator", ...shown.map((one) => words[one.variant])], rows, [false, ...shown.map(() => true)])), element("p", note, "small")];
  }
  async function samplesChart(plot, point, words) {
    const source = await figures;
    const traces = [...names, "noise_floor"].map((name) => {
      const one = point.variants.find((v) => words[v.variant] === name && v.ns);
      return one ? { type: "scatter", x: one.order, y: one.ns.map((ns) => ns * 1e-9) } : { type: "scatter", visible: false };
    });
    const layout = { template: template(source, "samples"), xaxis: { title: { text: "order in time" } }, yaxis: { title: { text: "time per call" } } };
    await Plotly.newPlot(plot, traces, layout, config);
  }
  let returnTo = null; // where a link's reader is led when the details close
  async function open(number) {
    details ??= unpack("data-details");
    const { words, points } = await details;
    const place = typeof number === "number" ? number : points.findIndex((p) => p.id === number);
    const point = points[place];
    if (!point) return;
    const linked = typeof number !== "number";
    const body = byId("details-body");
    byId("details-title").textContent = point.id;
    const line = element("p", "", "command");
    const copy = element("button", "Copy", "plain");
    copy.type = "button";
    const code = element("code", point.command);
    copy.addEventListener("click", () => put(copy, point.command));
    line.append(code, copy);
    const pair = element("div", "", "pair");
    pair.append(...point.variants.map((one) => variantPart(one, words)));
    const plot = element("div", "", "plot");
    const result = tables.result(place);
    body.replaceChildren(...(result ? [scrolling(result.table)] : []), element("p", point.ended, "small"), element("h3", "Measure this point again"), line);
    if (point.variants.some((one) => one.ns)) body.append(element("h3", "Samples in time order"), plot);
    if (point.variants.some((one) => one.ns && words[one.variant] === "noise_floor")) body.append(element("p", "Thin crosses: second copy of the reference.", "small"));
    body.append(...sideBySide(point, words), pair);
    if (!byId("details").open) byId("details").showModal();
    state.point = point.id;
    returnTo = linked ? result?.layer : null;
    remember();
    if (plot.isConnected) await samplesChart(plot, point, words);
  }
  // Who came by a link has seen nothing of the page yet: closing leads to the layer of the point.
  byId("details").addEventListener("close", () => {
    state.point = "";
    byId("details-body").replaceChildren();
    remember();
    returnTo?.scrollIntoView();
    returnTo = null;
  });

  async function put(button, text) {
    const before = button.textContent;
    try { await navigator.clipboard.writeText(text); button.textContent = "Copied"; }
    catch (error) { // a page from file:// may have no clipboard: leave the text selected
      if (!(error instanceof DOMException || error instanceof TypeError)) throw error;
      const where = button.previousElementSibling || byId(button.dataset.copy);
      where.classList.add("open");
      getSelection().selectAllChildren(where);
      button.textContent = "Selected: press Ctrl+C";
    }
    setTimeout(() => { button.textContent = before; }, 2000);
  }

  // ---- wiring ----
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const { metric, scale, variant, copy, p } = button.dataset;
    if (p) open(Number(p));
    else if (metric) { state.metric = metric; update(); }
    else if (scale) { state.scale = scale; update(); }
    else if (variant) { const name = names[variant]; if (!state.off.delete(name)) state.off.add(name); update(); }
    else if (copy) put(button, byId(copy).textContent);
    else if (button.closest("#filtered")) { state.layer = state.step = state.device = ""; update(); }
    else if (button.classList.contains("fold")) {
      const open_ = byId(button.getAttribute("aria-controls")).classList.toggle("open");
      button.setAttribute("aria-expanded", open_);
    }
  });
  for (const select of all("[data-pick]")) select.addEventListener("change", () => { state[select.dataset.pick] = select.value; update(); });
  dark.addEventListener("change", redraw);
  addEventListener("hashchange", () => { restore(); show(); redraw(); if (state.point) open(state.point); else byId("details").close(); });
  restore();
  show();
  if (state.point) open(state.point);
  all(".plot").forEach((plot) => watcher.observe(plot));
});
