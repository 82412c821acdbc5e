// Sortable tables: a click on a heading sorts by that column, by the numbers where cells are numbers with units.
// It knows nothing of charts or of the page's state.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const units = { ns: 1e-9, "µs": 1e-6, ms: 1e-3, s: 1, B: 1, kB: 1e3, MB: 1e6, GB: 1e9, TB: 1e12, "%": 0.01, "×": 1, "": 1 };

  // A number in base units, else the text; "" for a cell that says nothing.
  function value(row, column) {
    const cell = row.cells[column];
    if (!cell || cell.colSpan > 1 || cell.textContent === "–") return "";
    const text = cell.textContent.replace(/\u202f/g, "").trim();
    const part = /^1\/(\d+)×?$/.exec(text);
    if (part) return 1 / Number(part[1]);
    const found = /^(-?[\d.]+(?:e[+-]?\d+)?)(?:–[\d.]+)?\s*(\D*)$/i.exec(text);
    return found && found[2] in units ? Number(found[1]) * units[found[2]] : text;
  }
  const kind = (x) => (x === "" ? 2 : typeof x === "number" ? 0 : 1); // numbers, then words, then nothing, in either direction
  function order(a, b, sign) {
    if (kind(a) !== kind(b)) return kind(a) - kind(b);
    return sign * (kind(a) === 1 ? a.localeCompare(b) : a - b || 0);
  }
  function sort(head) {
    const table = head.closest("table");
    const falling = head.getAttribute("aria-sort") === "ascending";
    for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const keyed = [...table.tBodies[0].rows].map((row) => [value(row, head.cellIndex), row]);
    keyed.sort(([a], [b]) => order(a, b, falling ? -1 : 1));
    table.tBodies[0].append(...keyed.map(([, row]) => row));
  }
  for (const head of document.querySelectorAll("table.sortable th[scope=col]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sort(head));
    head.append(button);
  }
});
