// Drawing: one panel for each displayed surface, the slices, the controls and the table of facts.

const panels = []; // { index, root, surface, contours } of each displayed surface
const CONFIG = { displaylogo: false, modeBarButtons: [["toImage"]], doubleClick: "reset" };

function draw() {
  updateScale();
  fitPanels();
  for (const panel of panels) drawPanel(panel);
  drawSlices();
  drawReadout();
  updateControls();
  drawFacts();
}

function drawPanel(panel) {
  const surface = surfaces[panel.index];
  const heading = panel.root.querySelector("h2 span");
  const picture = panel.root.querySelector("h2 img");
  heading.textContent = nameInLine(surface);
  picture.hidden = !surface.picture;
  if (surface.picture) picture.src = surface.picture;
  const note = panel.root.querySelector(".gaps");
  note.hidden = !surface.gaps;
  note.textContent = `${surface.gaps}: gaps in 3-D, crossed grey cells in the contours`;
  Plotly.react(panel.surface, ...surfaceFigure(panel.index), CONFIG);
  if (isExplorer) Plotly.react(panel.contours, ...contourFigure(panel.index), CONFIG);
  const range = valueRange(surface, state.quantity);
  const ends = range === null ? "no finite value" : `from ${range.map((value) => numberText(value, 4)).join(" to ")}`;
  const what = `${quantityLabel(surface)} of ${nameInLine(surface)}, ${ends}`;
  panel.surface.setAttribute("aria-label", `3-D surface: ${what}`);
  panel.contours.setAttribute("aria-label", `Contours: ${what}; arrow keys move the cursor`);
}

/** Add or remove panels until there is one for each displayed surface. */
function fitPanels() {
  const indices = shownIndices();
  while (panels.length > indices.length) {
    const panel = panels.pop();
    for (const figure of [panel.surface, panel.contours]) {
      sizes.unobserve(figure);
      Plotly.purge(figure);
    }
    panel.root.remove();
  }
  byId("panels").classList.toggle("two", indices.length > 1);
  while (panels.length < indices.length) panels.push(newPanel());
  panels.forEach((panel, n) => {
    panel.index = indices[n];
  });
}

function newPanel() {
  const root = byId("panel").content.firstElementChild.cloneNode(true);
  byId("panels").append(root);
  const [surface, contours] = [root.querySelector(".surface"), root.querySelector(".contours")];
  const panel = { index: state.shown, root, surface, contours };
  for (const figure of isExplorer ? [surface, contours] : [surface]) {
    newFigure(figure);
    figure.on("plotly_hover", ({ points }) => {
      if (state.follow) moveCursor(panel, points[0].x, points[0].y);
    });
    figure.on("plotly_click", ({ points }) => {
      holdCursor();
      moveCursor(panel, points[0].x, points[0].y);
    });
  }
  surface.on("plotly_relayouting", (event) => linkCameras(panel, event));
  surface.on("plotly_relayout", (event) => linkCameras(panel, event));
  // Plotly drops a click during a redraw; the hover event before it has already moved the cursor to the point.
  contours.addEventListener("click", ({ target }) => {
    if (target.closest(".nsewdrag")) holdCursor();
  });
  contours.addEventListener("keydown", (event) => moveByKey(panel, event));
  return panel;
}

function newFigure(figure) {
  Plotly.newPlot(figure, [], {}, CONFIG);
  sizes.observe(figure);
}

const sizes = new ResizeObserver((entries) => entries.forEach(({ target }) => Plotly.Plots.resize(target)));

function drawSlices() {
  if (!isExplorer) return;
  for (const axis of [0, 1]) {
    const figure = byId(`slice-${axis}`);
    if (!figure.data) newFigure(figure);
    Plotly.react(figure, ...sliceFigure(axis), CONFIG);
    figure.setAttribute("aria-label", sliceName(surfaces[panels[0].index], axis));
  }
}

function drawCursor() {
  for (const panel of panels) {
    const { x, y, z } = cursor3d(surfaces[panel.index]);
    Plotly.restyle(panel.surface, { x: [x], y: [y], z: [z] }, [0]);
    Plotly.relayout(panel.contours, { shapes: crosshair(surfaces[panel.index]) });
  }
  drawSlices();
  drawReadout();
}

function drawReadout() {
  byId("readout").textContent = panels.map(({ index }) => readoutText(surfaces[index])).join("\n");
}

/** Set all controls to the state; browsers may have restored those of an earlier visit. */
function updateControls() {
  const hasLogarithm = scale.limits[0] > 0;
  byId("log").disabled = !hasLogarithm;
  byId("log").parentElement.title = hasLogarithm ? "" : "a logarithmic scale needs positive values";
  byId(scale.log ? "log" : "linear").checked = true;
  byId("beside").value = state.beside;
  byId("quantity").value = state.quantity;
  byId("shared").checked = state.shared;
  byId("follow").checked = state.follow;
  const name = nameInLine(surfaces[state.shown]);
  byId("shown").value = state.shown;
  byId("shown").setAttribute("aria-valuetext", name);
  byId("shown-name").textContent = `${name} (${state.shown + 1} of ${surfaces.length})`;
  if (steps.length) {
    const text = `${trajectories[0].unit} ${steps[state.step]}`;
    byId("step").value = state.step;
    byId("step").setAttribute("aria-valuetext", text);
    byId("step-name").textContent = text;
  }
  document.querySelectorAll("#pictures button").forEach((button, index) => {
    button.setAttribute("aria-pressed", shownIndices().includes(index));
  });
}

/** The table of facts about the displayed surfaces: a row for each fact, a column for each surface. */
function drawFacts() {
  const columns = shownIndices().map((index) => surfaces[index]);
  const rows = [...new Set(columns.flatMap((surface) => Object.keys(surface.facts)))];
  const facts = rows.map((key) => [key, ...columns.map((surface) => surface.facts[key] ?? "")]);
  for (const path of trajectories) facts.push([path.name, ...columns.map(() => path.fact)]);
  const table = document.createElement("table");
  const head = table.createTHead().insertRow();
  for (const text of ["", ...columns.map(nameInLine)]) {
    const cell = head.appendChild(document.createElement(text ? "th" : "td"));
    cell.textContent = text;
    if (text) cell.scope = "col";
  }
  const body = table.createTBody();
  for (const [key, ...values] of facts) {
    const row = body.insertRow();
    const name = row.appendChild(document.createElement("th"));
    name.textContent = key;
    name.scope = "row";
    for (const value of values) row.insertCell().textContent = value;
  }
  byId("facts").replaceChildren(table);
}
