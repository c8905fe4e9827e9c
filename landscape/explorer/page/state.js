// State: the content of the page, the selection of the user, and the scale and heights that follow from both.

// Python has written surfaces, trajectories and their labels into #content; nothing is loaded from elsewhere.
const byId = (id) => document.getElementById(id);
const content = JSON.parse(byId("content").textContent);
const { surfaces, trajectories } = content;
const isExplorer = content.view === "explorer"; // otherwise the page has only the 3-D figure
const steps = [...new Set(trajectories.flatMap((path) => path.steps))].sort((a, b) => a - b);
const FURTHER_ENTRIES = 19 * Math.max(0, trajectories.length - 1); // pixels in a legend for paths after the first

const state = {
  shown: 0, // index of the surface that the slider selects
  beside: -1, // index of the surface beside it, or -1
  quantity: "loss",
  log: content.log, // whether a logarithmic scale is selected; null: where the range of the loss asks for it
  shared: true, // whether the scale fits all surfaces, or only those displayed
  step: steps.length - 1, // index into steps; trajectories are drawn up to it
  basins: true, // whether the basins of the loss are marked
  follow: true, // the cursor follows the pointer
  cursor: [0, 0],
  camera: null, // of the 3-D surfaces, once one of them was turned
  resets: 0,
};
let scale = { limits: [0, 1], log: false }; // of the values, updated before every drawing

const shownIndices = () => (state.beside < 0 ? [state.shown] : [state.shown, state.beside]);
const shownSurfaces = () => shownIndices().map((index) => surfaces[index]);

/** `compute(object, key)`, computed once for every object and key. */
function remembered(compute) {
  const known = new WeakMap();
  return (object, key) => {
    if (!known.has(object)) known.set(object, new Map());
    const values = known.get(object);
    if (!values.has(key)) values.set(key, compute(object, key));
    return values.get(key);
  };
}

function decodeArray({ shape, base64 }) {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const flat = new Float64Array(bytes.buffer);
  return Array.from({ length: shape[0] }, (_, i) => flat.subarray(i * shape[1], (i + 1) * shape[1]));
}

/** A quantity [A][B] of a surface, NaN and infinities included; loss[i][j] is at (alphas[i], betas[j]). */
const valuesOf = remembered((surface, quantity) => decodeArray(surface.values[quantity]));

/** Mask [A][B], zero where a value is interpolated; null if all points were evaluated. */
const evaluatedPoints = remembered((surface) => (surface.evaluated ? decodeArray(surface.evaluated) : null));

/** The value of a quantity at a grid point; null if it or the loss is not finite. */
function valueAt(surface, i, j, quantity = state.quantity) {
  const value = valuesOf(surface, quantity)[i][j];
  return Number.isFinite(valuesOf(surface, "loss")[i][j]) && Number.isFinite(value) ? value : null;
}

/** Smallest and largest finite value of a quantity on a surface; null if there are none. */
const valueRange = remembered((surface, quantity) => {
  const values = surface.alphas.flatMap((_, i) => surface.betas.map((_, j) => valueAt(surface, i, j, quantity)));
  const finite = values.filter((value) => value !== null);
  if (!finite.length) return null;
  return finite.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
});

/** Update the scale that maps the values of the displayed surfaces to heights and colours. */
function updateScale() {
  const scaled = state.shared ? surfaces : shownSurfaces();
  const ranges = scaled.map((surface) => valueRange(surface, state.quantity)).filter((range) => range !== null);
  let [low, high] = [0, 1];
  if (ranges.length) {
    low = Math.min(...ranges.map((range) => range[0]));
    high = Math.max(...ranges.map((range) => range[1]));
  }
  if (high - low <= 1e-12 * Math.max(Math.abs(low), Math.abs(high))) {
    [low, high] = [low - (Math.abs(low) || 1) / 2, high + (Math.abs(high) || 1) / 2];
  }
  const isWide = state.quantity !== "accuracy" && high > content.large_range * low;
  scale = { limits: [low, high], log: low > 0 && (state.log ?? isWide) }; // only positive values have a logarithm
}

/** The height at which a value is drawn: the value or its logarithm; null if it has none. */
function heightOf(value) {
  if (value === null || !scale.log) return value;
  return value > 0 ? Math.log10(value) : null;
}
const heightLimits = () => scale.limits.map(heightOf);
const heightSpan = () => heightLimits()[1] - heightLimits()[0];
const LIFT = 0.004; // share of the span: lines exactly on the surface would flicker

/** Values in rows of constant beta, the layout that plotly needs. */
const rowsOverBeta = (surface, value) => surface.betas.map((_, j) => surface.alphas.map((_, i) => value(i, j)));

const nearestIndex = (axis, at) =>
  axis.reduce((best, value, index) => (Math.abs(value - at) < Math.abs(axis[best] - at) ? index : best), 0);

/** The indices of the grid point of a surface that is nearest to the cursor. */
const cursorIndices = (surface) =>
  [nearestIndex(surface.alphas, state.cursor[0]), nearestIndex(surface.betas, state.cursor[1])];

/** The grid points of a surface along an axis through the cursor. */
function slicePoints(surface, axis) {
  const [i, j] = cursorIndices(surface);
  return axis === 0 ? surface.alphas.map((_, m) => [m, j]) : surface.betas.map((_, m) => [i, m]);
}

/** Index of the grid point before a coordinate, and the fraction of the cell up to it; null outside the axis. */
function cellOf(axis, at) {
  if (at === null || at < axis[0] || at > axis.at(-1)) return null;
  const next = axis.findIndex((value) => value >= at);
  if (next === 0) return [0, 0];
  return [next - 1, (at - axis[next - 1]) / (axis[next] - axis[next - 1])];
}

/** The bilinear height of a surface at any coordinates; null outside the axes and next to a gap. */
function heightBetweenPoints(surface, alpha, beta) {
  const [a, b] = [cellOf(surface.alphas, alpha), cellOf(surface.betas, beta)];
  if (a === null || b === null) return null;
  let sum = 0;
  for (const [di, dj] of [[0, 0], [1, 0], [0, 1], [1, 1]]) {
    const weight = (di ? a[1] : 1 - a[1]) * (dj ? b[1] : 1 - b[1]);
    if (weight === 0) continue;
    const value = valueAt(surface, a[0] + di, b[0] + dj);
    if (value === null) return null;
    sum += weight * heightOf(value);
  }
  return sum;
}
