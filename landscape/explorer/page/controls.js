// Input: controls, pointer and keys; at the end of the file the page starts.

const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

/** A function that draws once at the next frame, however often it is called before. */
function scheduled(drawing) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      drawing();
    });
  };
}
const drawSoon = scheduled(draw);
const drawCursorSoon = scheduled(drawCursor);

/** Move the cursor to the grid point of the panel's surface that is nearest to the coordinates. */
function moveCursor(panel, alpha, beta) {
  if (!isExplorer) return;
  const surface = surfaces[panel.index];
  const cursor = [
    surface.alphas[nearestIndex(surface.alphas, alpha)],
    surface.betas[nearestIndex(surface.betas, beta)],
  ];
  if (cursor[0] === state.cursor[0] && cursor[1] === state.cursor[1]) return;
  state.cursor = cursor;
  drawCursorSoon();
}

function holdCursor() {
  state.follow = false;
  byId("follow").checked = false;
}

function moveByKey(panel, event) {
  if (!Object.hasOwn(MOVES, event.key)) return;
  event.preventDefault();
  holdCursor();
  const surface = surfaces[panel.index];
  const [i, j] = cursorIndices(surface);
  const inside = (axis, index) => axis[Math.min(axis.length - 1, Math.max(0, index))];
  const [right, up] = MOVES[event.key];
  moveCursor(panel, inside(surface.alphas, i + right), inside(surface.betas, j + up));
}

/** Give the other 3-D surfaces the camera of this one. */
function linkCameras(panel, event) {
  if (!Object.hasOwn(event, "scene.camera")) return;
  const camera = event["scene.camera"];
  if (JSON.stringify(camera) === JSON.stringify(state.camera)) return;
  state.camera = camera;
  for (const other of panels) {
    if (other !== panel) Plotly.relayout(other.surface, { "scene.camera": camera });
  }
}

function showSurface(index) {
  state.shown = Math.min(surfaces.length - 1, Math.max(0, index));
  drawSoon();
}

/** Set light or dark colours; the figures use them from their next drawing on. */
function setTheme(isDark) {
  document.documentElement.dataset.theme = isDark ? "dark" : "light";
  const other = isDark ? "Light" : "Dark";
  byId("theme").textContent = other;
  byId("theme").setAttribute("aria-label", `${other} colours`);
}

function changeTheme(isDark) {
  setTheme(isDark);
  drawSoon();
}

function listenToControls() {
  const on = (id, kind, choices) => byId(id).addEventListener(kind, ({ target }) => {
    Object.assign(state, choices(target));
    drawSoon();
  });
  on("shown", "input", (slider) => ({ shown: Number(slider.value) }));
  on("step", "input", (slider) => ({ step: Number(slider.value) }));
  on("beside", "change", (select) => ({ beside: Number(select.value) }));
  on("quantity", "change", (select) => ({ quantity: select.value }));
  on("linear", "change", () => ({ log: false }));
  on("log", "change", () => ({ log: true }));
  on("shared", "change", (box) => ({ shared: box.checked }));
  on("basins", "change", (box) => ({ basins: box.checked }));
  on("follow", "change", (box) => ({ follow: box.checked }));
  on("reset", "click", () => ({ cursor: [0, 0], camera: null, resets: state.resets + 1 }));
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  for (const button of document.querySelectorAll(".play")) button.addEventListener("click", () => togglePlay(button));
  byId("saved").addEventListener("change", updateSaving);
  for (const button of document.querySelectorAll("#save button")) {
    button.addEventListener("click", () => saveView(button.dataset.format));
  }
  byId("theme").addEventListener("click", () => changeTheme(document.documentElement.dataset.theme !== "dark"));
  document.addEventListener("keydown", (event) => {
    if (event.key === "[" || event.key === "]") showSurface(state.shown + (event.key === "]" ? 1 : -1));
  });
  const preference = matchMedia("(prefers-color-scheme: dark)");
  preference.addEventListener("change", () => changeTheme(preference.matches));
  setTheme(preference.matches);
}

/** Fill in the parts of the page that do not change. */
function fillPage() {
  document.body.classList.toggle("path", !isExplorer);
  document.body.style.setProperty("--legend", `${FURTHER_ENTRIES}px`);
  byId("subtitle").textContent = content.subtitle;
  const differences = Object.entries(content.differences);
  byId("differences").hidden = !differences.length;
  byId("differences").textContent =
    `The surfaces differ in ${differences.map(([what, values]) => `${what} (${values.join("; ")})`).join(", ")}.`;
  for (const element of document.querySelectorAll(".several")) element.hidden = surfaces.length < 2;
  for (const element of document.querySelectorAll(".paths")) element.hidden = !steps.length;
  for (const option of byId("quantity").options) {
    option.disabled = !surfaces.every(({ values }) => option.value in values);
  }
  byId("shown").max = surfaces.length - 1;
  byId("step").max = state.step;
  surfaces.forEach((surface, index) => byId("beside").add(new Option(nameInLine(surface), index)));
  byId("pictures").hidden = !isExplorer || !surfaces.some((surface) => surface.picture);
  if (!byId("pictures").hidden) byId("pictures").append(...surfaces.map(pictureButton));
}

function pictureButton(surface, index) {
  const button = document.createElement("button");
  button.type = "button";
  if (surface.picture) {
    const image = button.appendChild(new Image());
    image.src = surface.picture;
    image.alt = "";
  }
  button.append(surface.name);
  button.addEventListener("click", () => showSurface(index));
  return button;
}

fillPage();
listenToControls();
drawFlat();
requestAnimationFrame(() => setTimeout(drawSurfaces)); // after the first paint
