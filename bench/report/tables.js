// The page's tables: which rows of the matrix are shown, and the rows of one point as a table of their own.  Sorting is sort.js's.
"use strict";
const tables = (() => {
  // The tables above the charts: the rows of the layer, step and device that were picked, and in words which these are.
  function filter(state) {
    const keys = ["layer", "step", "device"].filter((key) => state[key]);
    for (const table of document.querySelectorAll(".matrix")) {
      let layer = null;
      for (const row of table.tBodies[0].rows) {
        row.hidden = keys.some((key) => row.dataset[key] && row.dataset[key] !== state[key]);
        if (row.hidden) continue;
        const first = row.dataset.layer !== layer;
        layer = row.dataset.layer;
        row.classList.toggle("first", first);
        if (first) row.querySelector("th a").removeAttribute("tabindex"); else row.querySelector("th a").tabIndex = -1;
      }
    }
    const note = document.getElementById("filtered");
    note.hidden = !keys.length;
    note.firstElementChild.textContent = `Only ${keys.map((key) => `${key} ${state[key]}`).join(", ")} is shown, as chosen beside the charts.`;
  }
  // The rows of a point in the table of numbers, as a table of their own: what was found, before how.
  function result(place) {
    const rows = [...document.querySelectorAll(`button[data-p="${place}"]`)].map((button) => button.closest("tr"));
    if (!rows.length) return null;
    const kept = (row) => [...row.cells].slice(2, -1); // without step and size, which the title says, and the button
    const table = document.createElement("table");
    table.className = "numbers wide result";
    table.createTHead().insertRow().append(...kept(rows[0].closest("table").tHead.rows[0]).map((head, i) => {
      const th = document.createElement("th");
      th.textContent = head.textContent;
      if (i > 1) th.className = "n";
      th.scope = "col";
      return th;
    }));
    const body = table.createTBody();
    for (const row of rows) {
      const made = body.insertRow();
      made.append(...kept(row).map((cell) => cell.cloneNode(true)));
      [...made.cells].slice(2).forEach((cell) => cell.classList.add("n"));
      made.querySelectorAll("sup").forEach((note) => note.remove());
    }
    return { table, layer: rows[0].closest(".layer") };
  }
  return { filter, result };
})();
