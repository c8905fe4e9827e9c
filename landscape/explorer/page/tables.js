// Tables: how the surfaces were computed, and what their planes show of the curvature.

/** A table with a row for each key of any of `facts`, and a column for each of them under its name. */
function factsTable(names, facts) {
  const table = document.createElement("table");
  const head = table.createTHead().insertRow();
  for (const text of ["", ...names]) {
    const cell = head.appendChild(document.createElement(text ? "th" : "td"));
    cell.textContent = text;
    if (text) cell.scope = "col";
  }
  const body = table.createTBody();
  for (const key of new Set(facts.flatMap((column) => Object.keys(column)))) {
    const row = body.insertRow();
    const name = row.appendChild(document.createElement("th"));
    name.textContent = key;
    name.scope = "row";
    for (const column of facts) row.insertCell().textContent = column[key] ?? "";
  }
  return table;
}

function drawFacts() {
  const columns = shownSurfaces();
  const names = columns.map(nameInLine);
  const paths = Object.fromEntries(trajectories.map((path) => [path.name, path.fact]));
  const facts = columns.map((surface) => ({ ...surface.facts, ...surface.basins.facts, ...paths }));
  byId("about").querySelector(".facts").replaceChildren(factsTable(names, facts));
  const isKnown = columns.some((surface) => surface.faithfulness);
  byId("faithfulness").hidden = !isKnown;
  if (!isKnown) return;
  const shares = columns.map((surface) => surface.faithfulness ?? {});
  byId("faithfulness").querySelector(".facts").replaceChildren(factsTable(names, shares));
}
