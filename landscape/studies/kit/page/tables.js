// Sortable tables: a button in every heading orders the rows by its column, first upwards, then downwards.
(() => {
  "use strict";

  const collator = new Intl.Collator("en", { numeric: true });

  /** The number with which a text begins, such as 0.91 in "0.91 ± 0.02"; NaN without one. */
  const numberOf = (text) => parseFloat(text.replaceAll(",", "").replace("−", "-"));

  function sortBy(heading) {
    const table = heading.closest("table");
    const isUp = heading.getAttribute("aria-sort") !== "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", isUp ? "ascending" : "descending");
    const entries = [...table.tBodies[0].rows].map((row) => {
      const text = row.cells[heading.cellIndex].textContent.trim();
      return { row, text, value: numberOf(text) };
    });
    // A column of numbers may have gaps, which begin with a dash; they come last in both orders.
    const isGap = ({ text, value }) => Number.isNaN(value) && (text === "" || text.startsWith("-"));
    const isNumeric = entries.every((entry) => isGap(entry) || !Number.isNaN(entry.value));
    const order = (a, b) => (isNumeric && a.value !== b.value ? a.value - b.value : collator.compare(a.text, b.text));
    entries.sort((a, b) => isGap(a) - isGap(b) || (isUp ? order(a, b) : order(b, a)));
    table.tBodies[0].append(...entries.map(({ row }) => row));
  }

  for (const heading of document.querySelectorAll(".sortable th")) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    button.addEventListener("click", () => sortBy(heading));
    heading.append(button);
  }
})();
