// Drawing: one panel for each displayed surface, the slices, and the controls.

const panels = []; // { index, root, surface, contours } of each displayed surface
const CONFIG = { displayModeBar: false, doubleClick: "reset" };

function draw() {
  drawFlat();
  drawSurfaces();
}

/** Draw everything but the surfaces in 3-D, which need far more time. */
function drawFlat() {
  updateScale();
  fitPanels();
  for (const panel of panels) drawPanel(panel);
  drawSlices();
  drawReadout();
  updateControls();
  updateSaving();
  drawFacts();
}

function drawSurfaces() {
  for (const panel of panels) Plotly.react(panel.surface, ...surfaceFigure(panel), CONFIG);
}

function drawPanel(panel) {
  const surface = surfaces[panel.index];
  const heading = panel.root.querySelector("h2 span");
  const picture = panel.root.querySelector("h2 img");
  heading.textContent = nameInLine(surface);
  heading.parentElement.hidden = surfaces.length < 2 && !surface.picture; // the head of the page has said it
  picture.hidden = !surface.picture;
  if (surface.picture) picture.src = surface.picture;
  const note = panel.root.querySelector(".gaps");
  note.hidden = !surface.gaps;
  note.textContent = `${surface.gaps}: gaps in 3-D, crossed grey cells in the contours`;
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
  // Plotly drops a click during a redraw and the tap of a finger, so the point comes from the pixels.
  contours.addEventListener("click", ({ target, clientX, clientY }) => {
    if (!target.closest(".nsewdrag")) return;
    holdCursor();
    const { xaxis, yaxis } = contours._fullLayout;
    const { left, top } = contours.getBoundingClientRect();
    moveCursor(panel, xaxis.p2d(clientX - left - xaxis._offset), yaxis.p2d(clientY - top - yaxis._offset));
  });
  contours.addEventListener("keydown", (event) => moveByKey(panel, event));
  return panel;
}

function newFigure(figure) {
  Plotly.newPlot(figure, [], {}, CONFIG);
  sizes.observe(figure);
  leaveScrolling(figure);
}

const sizes = new ResizeObserver((entries) => {
  for (const { target, contentRect } of entries) {
    const { width, height } = target._fullLayout;
    if (Math.abs(contentRect.width - width) >= 1 || Math.abs(contentRect.height - height) >= 1) {
      Plotly.Plots.resize(target);
    }
  }
});

/** Leave the wheel without Ctrl, and touches of one finger, to the page, which scrolls; plotly would take them. */
function leaveScrolling(figure) {
  const leave = (isOurs) => (event) => isOurs(event) || event.stopPropagation();
  figure.addEventListener("wheel", leave((event) => event.ctrlKey), { capture: true, passive: true });
  for (const kind of ["touchstart", "touchmove"]) {
    figure.addEventListener(kind, leave((event) => event.touches.length > 1), { capture: true, passive: true });
  }
}

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
  byId("basins").checked = state.basins;
  byId("basins").disabled = state.quantity !== "loss";
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
