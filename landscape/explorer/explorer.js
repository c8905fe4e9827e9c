"use strict";
// Draws what Python put into #content: surfaces, trajectories and words about them. Nothing is fetched.

const PATH_COLORS = ["#e31a1c", "#ff7f00", "#fb9ac5", "#ffffff", "#7fdbff", "#b15928"]; // seen on viridis
const START = { symbol: "diamond", color: "#2ca02c" };
const END = { symbol: "square", color: "#1f6fff" };
const STAR = "#d55e00";
const CAMERA = { eye: { x: 1.08, y: -1.55, z: 1.15 }, center: { x: 0, y: 0, z: -0.12 }, up: { x: 0, y: 0, z: 1 } };
const FLOOR = 0.35; // of the range of the values: the room below the surface for its projected contours
const LIFT = 0.004; // of the same: lines that lie on the surface would flicker
const BANDS = 30;
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
const CONFIG = { displaylogo: false, modeBarButtons: [["toImage"]], doubleClick: "reset" };

const byId = (id) => document.getElementById(id);
const content = JSON.parse(byId("content").textContent);
const { surfaces, trajectories } = content;
const explorer = content.view === "explorer"; // or the 3-D figure alone
const steps = [...new Set(trajectories.flatMap((path) => path.steps))].sort((a, b) => a - b);
const panels = []; // { k, root, surface, contours } of each surface on display

const state = {
  shown: 0, // index of the surface of the slider
  beside: -1, // index of the surface beside it, or -1
  quantity: "loss",
  log: false, // what was asked for
  shared: true, // one scale for all surfaces, or for those on display
  step: steps.length - 1, // trajectories are drawn up to this index of steps
  follow: true, // the cursor follows the pointer
  cursor: [0, 0],
  camera: CAMERA,
  resets: 0,
};
let scale = { limits: [0, 1], log: false }; // what is drawn, settled before every drawing

/* ---------------------------------------------------------------- numbers */

function decoded({ shape, base64 }) {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const flat = new Float64Array(bytes.buffer);
  return Array.from({ length: shape[0] }, (_, i) => flat.subarray(i * shape[1], (i + 1) * shape[1]));
}

/** The quantity [A][B] of a surface as it was computed; loss[i][j] is at (alphas[i], betas[j]). */
function computed(surface, quantity) {
  surface.cache ??= {};
  return (surface.cache[quantity] ??= decoded(surface.values[quantity]));
}

/** Its value at a grid point, null where it or the loss is not finite. */
function valueAt(surface, i, j) {
  const value = computed(surface, state.quantity)[i][j];
  return Number.isFinite(computed(surface, "loss")[i][j]) && Number.isFinite(value) ? value : null;
}

/** Smallest and largest value of a surface, and whether it has a logarithm everywhere; null without any value. */
function extent(surface) {
  surface.extents ??= {};
  if (!(state.quantity in surface.extents)) {
    const values = surface.alphas.flatMap((_, i) => surface.betas.map((_, j) => valueAt(surface, i, j)));
    const known = values.filter((value) => value !== null);
    const ends = known.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [Infinity, -Infinity]);
    surface.extents[state.quantity] = known.length ? ends : null;
  }
  return surface.extents[state.quantity];
}

const drawn = (value) => (value === null || !scale.log ? value : value > 0 ? Math.log10(value) : null);
const drawnLimits = () => scale.limits.map(drawn);
const span = () => drawnLimits()[1] - drawnLimits()[0];

/** Rows over beta, as the plotting library wants them. */
const grid = (surface, value) => surface.betas.map((_, j) => surface.alphas.map((_, i) => value(i, j)));

const nearest = (axis, at) =>
  axis.reduce((best, value, k) => (Math.abs(value - at) < Math.abs(axis[best] - at) ? k : best), 0);
const cursorOn = (surface) => [nearest(surface.alphas, state.cursor[0]), nearest(surface.betas, state.cursor[1])];

/** The drawn height of a surface at any place, bilinear; null outside and beside a gap. */
function heightAt(surface, alpha, beta) {
  const cell = (axis, at) => {
    const k = axis.findIndex((value) => value >= at);
    if (at === null || k < 0 || at < axis[0]) return null;
    const lower = Math.max(0, k - 1);
    return [lower, k ? (at - axis[lower]) / (axis[k] - axis[lower]) : 0];
  };
  const [a, b] = [cell(surface.alphas, alpha), cell(surface.betas, beta)];
  if (!a || !b) return null;
  let sum = 0;
  for (const [di, dj] of [[0, 0], [1, 0], [0, 1], [1, 1]]) {
    const weight = (di ? a[1] : 1 - a[1]) * (dj ? b[1] : 1 - b[1]);
    if (!weight) continue;
    const value = valueAt(surface, a[0] + di, b[0] + dj);
    if (value === null) return null;
    sum += weight * drawn(value);
  }
  return sum;
}

/** Which surfaces are on display, and what turns their values into heights and colours. */
function settle() {
  const shown = state.beside < 0 ? [state.shown] : [state.shown, state.beside];
  const ends = (state.shared ? surfaces : shown.map((k) => surfaces[k])).map(extent).filter((found) => found);
  let low = Math.min(...ends.map((found) => found[0]));
  let high = Math.max(...ends.map((found) => found[1]));
  if (!ends.length) [low, high] = [0, 1];
  if (high - low <= 1e-12 * Math.max(Math.abs(low), Math.abs(high))) {
    [low, high] = [low - (Math.abs(low) || 1) / 2, high + (Math.abs(high) || 1) / 2];
  }
  scale = { shown, limits: [low, high], log: state.log && low > 0 };
  byId("log").disabled = low <= 0;
  byId("log").parentElement.title = low > 0 ? "" : "a logarithmic scale needs positive values";
  byId(scale.log ? "log" : "linear").checked = true;
}

/* ---------------------------------------------------------------- words */

const number = (value, digits = 6) => String(Number(value.toPrecision(digits))).replace("-", "−");
const place = (alpha, beta) => `α = ${number(alpha, 4)}, β = ${number(beta, 4)}`;

/** Names come from anywhere; the library would read them as HTML. */
function plain(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function quantityLabel(surface) {
  return surface.labels[state.quantity][scale.log ? 1 : 0];
}

function words(surface, i, j) {
  const value = (key) => (surface.values[key] ? computed(surface, key)[i][j] : NaN);
  let text = `loss ${number(value("loss"))}`;
  if (Number.isFinite(value("standard_error"))) text += ` ± ${number(value("standard_error"), 2)}`;
  if (Number.isFinite(value("accuracy"))) text += `, accuracy ${number(100 * value("accuracy"), 4)} %`;
  surface.wasEvaluated ??= surface.evaluated && decoded(surface.evaluated);
  return surface.wasEvaluated && !surface.wasEvaluated[i][j] ? `${text} (interpolated)` : text;
}

function readout() {
  const of = ({ k }) => {
    const [i, j] = cursorOn(surfaces[k]);
    const name = surfaces.length > 1 ? `${surfaces[k].name.replaceAll("\n", ", ")}: ` : "";
    return `${name}${words(surfaces[k], i, j)} at ${place(surfaces[k].alphas[i], surfaces[k].betas[j])}`;
  };
  byId("readout").textContent = panels.map(of).join("\n");
}

/** Round places between the limits, where they are drawn, and their words. */
function ticks() {
  const [low, high] = scale.limits;
  const decades = scale.log ? Math.log10(high / low) : 0;
  let places = [];
  if (decades < 0.7) {
    const power = 10 ** Math.floor(Math.log10((high - low) / 5));
    const step = power * [1, 2, 5, 10].find((factor) => (high - low) / (factor * power) <= 8);
    for (let n = Math.ceil(low / step); n * step <= high; n++) places.push(n * step);
  } else {
    const every = Math.ceil(decades / 8);
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += every) {
      places.push(...(decades < 4 ? [1, 2, 5] : [1]).map((factor) => factor * 10 ** power));
    }
    places = places.filter((value) => value >= low && value <= high);
  }
  return { tickmode: "array", tickvals: places.map(drawn), ticktext: places.map((value) => number(value, 4)) };
}

/* ---------------------------------------------------------------- figures */

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function layout(margin) {
  return {
    margin,
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: css("--text") },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    hoverlabel: { bgcolor: css("--card"), bordercolor: css("--line"), font: { color: css("--text") }, align: "left" },
    legend: { orientation: "h", x: 0, xanchor: "left", y: 1, yanchor: "bottom", bgcolor: "rgba(0,0,0,0)" },
  };
}

function colorbar(surface) {
  const title = { text: plain(quantityLabel(surface)), side: "right" };
  return { ...ticks(), title, thickness: 14, outlinewidth: 0, xpad: 6 };
}

function hoverTexts(surface) {
  return grid(surface, (i, j) => `${words(surface, i, j)}<br>${place(surface.alphas[i], surface.betas[j])}`);
}

function surfaceFigure(surface, k) {
  const [low, high] = drawnLimits();
  const known = {
    type: "surface", x: surface.alphas, y: surface.betas, z: grid(surface, (i, j) => drawn(valueAt(surface, i, j))),
    text: hoverTexts(surface), hoverinfo: "text", colorscale: "Viridis", cmin: low, cmax: high,
    showscale: !explorer, colorbar: { ...colorbar(surface), len: 0.7 },
    lighting: { ambient: 0.85, diffuse: 0.35, specular: 0.03, roughness: 0.9 },
    contours: { x: { highlight: false }, y: { highlight: false }, z: { highlight: false } },
  };
  const paths = trajectories.flatMap((_, t) => path3d(pathPoints(t, k), t));
  const heights = paths.flatMap((trace) => trace.z).filter((value) => Number.isFinite(value));
  const axis = (text) => ({
    title: { text: plain(text).replaceAll(", ", ",\n").replaceAll("\n", "<br>"), font: { size: 11 } },
    color: css("--muted"), gridcolor: css("--line"), zeroline: false, showspikes: false, showbackground: false, nticks: 6,
  });
  const range = [Math.min(low, ...heights) - FLOOR * span(), Math.max(high, ...heights) + 0.02 * span()];
  const scene = {
    xaxis: { ...axis(surface.axes[0]), range: [surface.alphas[0], surface.alphas.at(-1)] },
    yaxis: { ...axis(surface.axes[1]), range: [surface.betas[0], surface.betas.at(-1)] },
    zaxis: { ...axis(quantityLabel(surface)), range, ...ticks() },
    aspectmode: "manual", aspectratio: { x: 1, y: 1, z: 0.75 }, camera: state.camera,
  };
  const below = floorContours(surface, range[0] + LIFT * span());
  const data = [cursor3d(surface), ...(extent(surface) ? [known, below] : []), ...paths];
  return [data, { ...layout({ l: 0, r: 0, t: trajectories.length ? 34 : 4, b: 0 }), scene }];
}

/** Level lines on the floor, cell by cell; the library's own take seconds a frame where the surface has gaps. */
function floorContours(surface, floor) {
  const [low, high] = drawnLimits();
  const heights = grid(surface, (i, j) => drawn(valueAt(surface, i, j)));
  const [x, y, color] = [[], [], []];
  for (let n = 1; n < BANDS; n += 2) {
    const level = low + (n * span()) / BANDS;
    for (let j = 1; j < surface.betas.length; j++) {
      for (let i = 1; i < surface.alphas.length; i++) {
        const corners = [[i - 1, j - 1], [i, j - 1], [i, j], [i - 1, j]];
        const values = corners.map(([a, b]) => heights[b][a]);
        if (values.includes(null) || Math.min(...values) >= level || Math.max(...values) < level) continue;
        crossings(surface, corners, values, level).forEach(([a, b], k) => {
          x.push(a, ...(k % 2 ? [null] : []));
          y.push(b, ...(k % 2 ? [null] : []));
          color.push(level, ...(k % 2 ? [level] : []));
        });
      }
    }
  }
  const z = x.map((a) => (a === null ? null : floor));
  const line = { color, colorscale: "Viridis", cmin: low, cmax: high, width: 2 };
  return { type: "scatter3d", mode: "lines", x, y, z, line, hoverinfo: "skip", showlegend: false };
}

/** Where a level crosses the edges of a cell: two places, or four, in the order of the edges. */
function crossings(surface, corners, values, level) {
  return corners.flatMap(([i, j], k) => {
    const [m, n] = corners[(k + 1) % 4];
    const [from, to] = [values[k], values[(k + 1) % 4]];
    if (from < level === to < level) return [];
    const share = (level - from) / (to - from);
    const between = (axis, a, b) => axis[a] + share * (axis[b] - axis[a]);
    return [[between(surface.alphas, i, m), between(surface.betas, j, n)]];
  });
}

function contourFigure(surface, k) {
  const [low, high] = drawnLimits();
  const step = span() / BANDS;
  const axes = { x: surface.alphas, y: surface.betas };
  const bands = {
    type: "contour", ...axes, z: grid(surface, (i, j) => drawn(valueAt(surface, i, j))),
    text: hoverTexts(surface), hoverinfo: "text", colorscale: "Viridis", zmin: low, zmax: high,
    autocontour: false, contours: { coloring: "heatmap", start: low + step, end: high - step, size: step },
    line: { width: 0.5, color: "rgba(255,255,255,0.35)" }, connectgaps: false, colorbar: colorbar(surface),
  };
  const traces = [...(extent(surface) ? [bands] : []), ...gaps(surface), ...star(surface)];
  traces.push(...trajectories.flatMap((_, t) => path2d(pathPoints(t, k), t)));
  const axis = (text, ends) => ({
    title: { text: plain(text.replaceAll("\n", ", ")), font: { size: 12 }, standoff: 8 }, range: [ends[0], ends.at(-1)],
    color: css("--muted"), showgrid: false, zeroline: false, ticks: "outside", automargin: true,
  });
  return [traces, {
    ...layout({ l: 56, r: 10, t: 34, b: 48 }), plot_bgcolor: css("--gap"),
    hovermode: "closest", shapes: crosshair(surface),
    xaxis: axis(surface.axes[0], surface.alphas), yaxis: axis(surface.axes[1], surface.betas),
    uirevision: [surface.alphas[0], surface.alphas.at(-1), surface.betas[0], surface.betas.at(-1), state.resets].join(),
  }];
}

/** Crosses where the loss is not finite; the contours leave out the cells around, which show the grey below. */
function gaps(surface) {
  const places = surface.alphas.flatMap((a, i) =>
    surface.betas.flatMap((b, j) => (valueAt(surface, i, j) === null ? [[a, b]] : [])));
  return !places.length ? [] : [{
    type: "scatter", mode: "markers", x: places.map((at) => at[0]), y: places.map((at) => at[1]), hoverinfo: "skip",
    marker: { symbol: "x-thin", size: 6, line: { width: 1, color: css("--cross") } }, name: "NaN or infinite",
    showlegend: true,
  }];
}

function star(surface) {
  const inside = (axis) => axis[0] <= 0 && axis.at(-1) >= 0;
  if (trajectories.length || !inside(surface.alphas) || !inside(surface.betas)) return [];
  const marker = { symbol: "star", size: 14, color: STAR, line: { width: 1, color: "white" } };
  const look = { type: "scatter", mode: "markers", marker, showlegend: true, hoverinfo: "skip" };
  return [{ ...look, x: [0], y: [0], name: surface.origin }];
}

/* ---------------------------------------------------------------- training paths */

/** The points of a trajectory up to the chosen step: shadow, its height on the surface, and the drawn true loss. */
function pathPoints(t, k) {
  const path = trajectories[t];
  const exact = state.quantity === "loss" && path.comparable[k];
  const shadowLoss = (n) => (exact && path.shadow[n] !== null ? drawn(path.shadow[n]) : null);
  return path.steps.flatMap((step, n) => step > steps[state.step] ? [] : [{
    step, alpha: path.alphas[n], beta: path.betas[n],
    height: exact ? drawn(path.loss[n]) : null,
    shadow: shadowLoss(n) ?? heightAt(surfaces[k], path.alphas[n], path.betas[n]),
    text: pathText(path, n),
  }]);
}

function pathText(path, n) {
  const loss = path.loss[n] === null ? "not computed" : number(path.loss[n]);
  const shadow = path.shadow[n] === null ? "" : `, of its shadow ${number(path.shadow[n])}`;
  const off = path.distance[n] === null ? "" : `<br>off the plane by ${number(path.distance[n], 4)}`;
  const relative = path.relative[n] === null ? "" : number(100 * path.relative[n], 3);
  const share = off && relative ? ` (${relative} % of its distance from the origin)` : "";
  const at = path.alphas[n] === null ? "" : `<br>${place(path.alphas[n], path.betas[n])}`;
  return `${plain(path.name)}, ${plain(path.unit)} ${path.steps[n]}<br>loss ${loss}${shadow}${at}${off}${share}`;
}

const pathName = (t) => (trajectories.length > 1 ? `${plain(trajectories[t].name)}, ` : "");

function path3d(points, t) {
  const color = PATH_COLORS[t % PATH_COLORS.length];
  const exact = points.some((point) => point.height !== null);
  const trace = (some, z, more) => ({
    type: "scatter3d", x: some.map((p) => p.alpha), y: some.map((p) => p.beta), z: some.map(z),
    text: some.map((p) => p.text), hoverinfo: "text", ...more,
  });
  const height = (point) => (exact ? point.height : point.shadow);
  const shadow = trace(points, (p) => p.shadow, {
    mode: "lines+markers", name: `${pathName(t)}shadow on the surface`, meta: `shadow ${t}`,
    line: { color: exact ? "#20242c" : color, width: 4 }, marker: { size: 2.5, color: exact ? "#20242c" : color },
  });
  const stems = trace(points.flatMap((p) => [p, p, p]), () => null, {
    mode: "lines", line: { color, width: 1.5 }, opacity: 0.6, hoverinfo: "skip", showlegend: false,
  });
  stems.z = points.flatMap((p) => [p.height, p.shadow, null]);
  const path = trace(points, (p) => p.height, {
    mode: "lines+markers", name: `${pathName(t)}path at its true loss`, meta: `path ${t}`,
    line: { color, width: 6 }, marker: { size: 3.5, color },
  });
  const ends = pathEnds(points, t).map(({ point, look, name }) => trace([point], height, {
    mode: "markers", name, showlegend: t === 0,
    marker: { size: look === START ? 8 : 7, ...look, line: { width: 1, color: "white" } },
  }));
  return [shadow, ...(exact ? [stems, path] : []), ...ends];
}

function path2d(points, t) {
  const color = PATH_COLORS[t % PATH_COLORS.length];
  const trace = (some, more) => ({
    type: "scatter", x: some.map((p) => p.alpha), y: some.map((p) => p.beta), text: some.map((p) => p.text),
    hoverinfo: "text", ...more,
  });
  const mode = { mode: "lines+markers", line: { color, width: 2.5 }, marker: { size: 5, color } };
  const ends = pathEnds(points, t).map(({ point, look, name }) => trace([point], {
    mode: "markers", name, showlegend: t === 0, marker: { size: 11, ...look, line: { width: 1, color: "white" } },
  }));
  return [trace(points, { ...mode, name: `${pathName(t)}shadow` }), ...ends];
}

function pathEnds(points, t) {
  if (!points.length) return [];
  const last = points.at(-1);
  const over = last.step === trajectories[t].steps.at(-1);
  const end = { point: last, look: END, name: over ? "end" : `${plain(trajectories[t].unit)} ${last.step}` };
  return [{ point: points[0], look: START, name: "start" }, end];
}

/* ---------------------------------------------------------------- cursor */

/** The two slices on the surface. */
function cursor3d(surface) {
  const [i, j] = cursorOn(surface);
  const on = (m, n) => {
    const value = drawn(valueAt(surface, m, n));
    return value === null ? null : value + LIFT * span();
  };
  return {
    type: "scatter3d", mode: "lines", hoverinfo: "skip", showlegend: false, line: { color: "white", width: 4 },
    x: [...surface.alphas, null, ...surface.betas.map(() => surface.alphas[i])],
    y: [...surface.alphas.map(() => surface.betas[j]), null, ...surface.betas],
    z: [...surface.alphas.map((_, m) => on(m, j)), null, ...surface.betas.map((_, n) => on(i, n))],
    visible: explorer,
  };
}

function crosshair(surface) {
  const [i, j] = cursorOn(surface);
  const [x, y] = [surface.alphas[i], surface.betas[j]];
  const across = { type: "line", xref: "paper", x0: 0, x1: 1, y0: y, y1: y };
  const up = { type: "line", yref: "paper", y0: 0, y1: 1, x0: x, x1: x };
  const ring = {
    type: "circle", xsizemode: "pixel", ysizemode: "pixel", xanchor: x, yanchor: y, x0: -6, x1: 6, y0: -6, y1: 6,
  };
  const look = (color, width) => [across, up, ring].map((shape) => ({ ...shape, line: { color, width } }));
  return [...look("rgba(0,0,0,0.55)", 3), ...look("white", 1.2)];
}

/** The curve of every surface on display along one axis, in a band of two standard errors. */
function sliceFigure(axis) {
  const traces = panels.flatMap(({ k }, n) => {
    const surface = surfaces[k];
    const [i, j] = cursorOn(surface);
    const along = axis ? surface.betas : surface.alphas;
    const index = (m) => (axis ? [i, m] : [m, j]);
    const y = along.map((_, m) => valueAt(surface, ...index(m)));
    const color = css(n ? "--second" : "--first");
    const known = state.quantity === "loss" && surface.values.standard_error;
    const errors = known && along.map((_, m) => computed(surface, "standard_error")[index(m)[0]][index(m)[1]]);
    const curve = {
      type: "scatter", mode: "lines", x: along, y, line: { color, width: 2.5, dash: n ? "dash" : "solid" },
      name: plain(surface.name), text: along.map((_, m) => words(surface, ...index(m))), hoverinfo: "text",
    };
    const [at, marker] = [axis ? j : i, { size: 9, color, line: { width: 1.5, color: css("--card") } }];
    const here = { type: "scatter", mode: "markers", x: [along[at]], y: [y[at]], marker };
    const quiet = { showlegend: false, hoverinfo: "skip" };
    const spread = errors ? [{ ...band(along, y, errors), ...quiet, fillcolor: `${color}40` }] : [];
    return [curve, { ...here, ...quiet }, ...spread];
  });
  const surface = surfaces[panels[0].k];
  const [i, j] = cursorOn(surface);
  const here = axis ? surface.betas[j] : surface.alphas[i];
  const look = { color: css("--muted"), gridcolor: css("--line"), zeroline: false };
  const [low, high] = drawnLimits();
  const yaxis = { ...look, title: { text: plain(quantityLabel(surface)), font: { size: 12 } }, automargin: true };
  const { tickvals, ticktext } = ticks();
  const y = scale.log ? { type: "log", tickvals: tickvals.map((value) => 10 ** value), ticktext } : {};
  const dots = { color: css("--muted"), width: 1, dash: "dot" };
  return [traces, {
    ...layout({ l: 56, r: 10, t: 40, b: 44 }), hovermode: "closest", showlegend: panels.length > 1,
    legend: { orientation: "h", x: 1, xanchor: "right", y: 1, yanchor: "bottom" },
    title: { text: sliceName(surface, axis), x: 0.01, xanchor: "left", y: 0.97, yanchor: "top", font: { size: 13 } },
    xaxis: { ...look, title: { text: plain(surface.axes[axis].split("\n")[0]), font: { size: 12 } } },
    yaxis: { ...yaxis, ...y, range: [low - 0.05 * span(), high + 0.05 * span()] },
    shapes: [{ type: "line", yref: "paper", x0: here, x1: here, y0: 0, y1: 1, line: dots }],
  }];
}

/** Two standard errors to both sides, one polygon for every stretch of a curve without gaps. */
function band(along, y, errors) {
  const lowest = scale.log ? scale.limits[0] / 1000 : -Infinity;
  const outline = { x: [], y: [] };
  let stretch = [];
  for (let m = 0; m <= along.length; m++) {
    if (m < along.length && y[m] !== null && Number.isFinite(errors[m])) {
      stretch.push(m);
      continue;
    }
    const back = [...stretch].reverse();
    outline.x.push(...[...stretch, ...back].map((k) => along[k]), null);
    outline.y.push(...stretch.map((k) => y[k] + 2 * errors[k]));
    outline.y.push(...back.map((k) => Math.max(lowest, y[k] - 2 * errors[k])), null);
    stretch = [];
  }
  return { type: "scatter", mode: "lines", ...outline, fill: "toself", line: { width: 0 } };
}

function sliceName(surface, axis) {
  const [i, j] = cursorOn(surface);
  return axis ? `Along β at α = ${number(surface.alphas[i], 4)}` : `Along α at β = ${number(surface.betas[j], 4)}`;
}

/* ---------------------------------------------------------------- drawing */

function draw() {
  settle();
  fitPanels();
  for (const panel of panels) drawPanel(panel);
  drawSlices();
  readout();
  label();
  drawFacts();
}

function drawPanel(panel) {
  const surface = surfaces[panel.k];
  const [heading, picture] = [panel.root.querySelector("h2 span"), panel.root.querySelector("h2 img")];
  heading.textContent = surface.name.replaceAll("\n", ", ");
  picture.hidden = !surface.picture;
  if (surface.picture) picture.src = surface.picture;
  const note = panel.root.querySelector(".gaps");
  note.hidden = !surface.gaps;
  note.textContent = `${surface.gaps}: gaps in 3-D, crossed grey cells in the contours`;
  Plotly.react(panel.surface, ...surfaceFigure(surface, panel.k), CONFIG);
  if (explorer) Plotly.react(panel.contours, ...contourFigure(surface, panel.k), CONFIG);
  const ends = extent(surface)?.map((value) => number(value, 4));
  const range = ends ? `from ${ends.join(" to ")}` : "no finite value";
  const what = `${quantityLabel(surface)} of ${heading.textContent}, ${range}`;
  panel.surface.setAttribute("aria-label", `3-D surface: ${what}`);
  panel.contours.setAttribute("aria-label", `Contours: ${what}; arrow keys move the cursor`);
}

function fitPanels() {
  while (panels.length > scale.shown.length) {
    const panel = panels.pop();
    [panel.surface, panel.contours].forEach((figure) => sizes.unobserve(figure));
    [panel.surface, panel.contours].forEach((figure) => Plotly.purge(figure));
    panel.root.remove();
  }
  byId("panels").classList.toggle("two", scale.shown.length > 1);
  while (panels.length < scale.shown.length) panels.push(newPanel());
  panels.forEach((panel, n) => (panel.k = scale.shown[n]));
}

function newPanel() {
  const root = byId("panel").content.firstElementChild.cloneNode(true);
  byId("panels").append(root);
  const panel = { root, surface: root.querySelector(".surface"), contours: root.querySelector(".contours") };
  for (const figure of explorer ? [panel.surface, panel.contours] : [panel.surface]) {
    newFigure(figure);
    figure.on("plotly_hover", ({ points }) => state.follow && point(panel, points[0].x, points[0].y));
    figure.on("plotly_click", ({ points }) => hold() || point(panel, points[0].x, points[0].y));
  }
  panel.surface.on("plotly_relayouting", (event) => turn(panel, event["scene.camera"]));
  panel.surface.on("plotly_relayout", (event) => turn(panel, event["scene.camera"]));
  // Plotly loses a click during which it redraws; the hover before has brought the cursor there already.
  panel.contours.addEventListener("click", ({ target }) => target.closest(".nsewdrag") && hold());
  panel.contours.addEventListener("keydown", (event) => step(panel, event));
  return panel;
}

function newFigure(figure) {
  Plotly.newPlot(figure, [], {}, CONFIG);
  sizes.observe(figure);
}

const sizes = new ResizeObserver((entries) => entries.forEach(({ target }) => Plotly.Plots.resize(target)));

function drawSlices() {
  if (!explorer) return;
  for (const axis of [0, 1]) {
    const figure = byId(`slice-${axis}`);
    if (!figure.data) newFigure(figure);
    Plotly.react(figure, ...sliceFigure(axis), CONFIG);
    figure.setAttribute("aria-label", sliceName(surfaces[panels[0].k], axis));
  }
}

function drawCursor() {
  for (const panel of panels) {
    const { x, y, z } = cursor3d(surfaces[panel.k]);
    Plotly.restyle(panel.surface, { x: [x], y: [y], z: [z] }, [0]);
    Plotly.relayout(panel.contours, { shapes: crosshair(surfaces[panel.k]) });
  }
  drawSlices();
  readout();
}

/** Everything that says what is chosen; browsers may have kept the controls of an earlier visit. */
function label() {
  byId("beside").value = state.beside;
  byId("quantity").value = state.quantity;
  byId("shared").checked = state.shared;
  byId("follow").checked = state.follow;
  const name = surfaces[state.shown].name.replaceAll("\n", ", ");
  byId("shown").value = state.shown;
  byId("shown").setAttribute("aria-valuetext", name);
  byId("shown-name").textContent = `${name} (${state.shown + 1} of ${surfaces.length})`;
  if (steps.length) {
    const text = `${trajectories[0].unit} ${steps[state.step]}`;
    byId("step").value = state.step;
    byId("step").setAttribute("aria-valuetext", text);
    byId("step-name").textContent = text;
  }
  document.querySelectorAll("#pictures button").forEach((button, k) => {
    button.setAttribute("aria-pressed", scale.shown.includes(k));
  });
}

function drawFacts() {
  const columns = scale.shown.map((k) => surfaces[k]);
  const rows = [...new Set(columns.flatMap((surface) => Object.keys(surface.facts)))];
  const cells = rows.map((key) => [key, ...columns.map((surface) => surface.facts[key] ?? "")]);
  for (const path of trajectories) cells.push([path.name, ...columns.map(() => path.fact)]);
  const table = document.createElement("table");
  const head = table.createTHead().insertRow();
  for (const text of ["", ...columns.map((surface) => surface.name.replaceAll("\n", ", "))]) {
    const cell = head.appendChild(document.createElement(text ? "th" : "td"));
    cell.textContent = text;
    if (text) cell.scope = "col";
  }
  const body = table.createTBody();
  for (const [key, ...values] of cells) {
    const row = body.insertRow();
    const name = row.appendChild(document.createElement("th"));
    [name.textContent, name.scope] = [key, "row"];
    for (const value of values) row.insertCell().textContent = value;
  }
  byId("facts").replaceChildren(table);
}

/* ---------------------------------------------------------------- what people do */

/** Draw at the next frame, once, however many events come before it. */
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

function point(panel, alpha, beta) {
  if (!explorer) return;
  const surface = surfaces[panel.k];
  const [a, b] = [surface.alphas[nearest(surface.alphas, alpha)], surface.betas[nearest(surface.betas, beta)]];
  if (a === state.cursor[0] && b === state.cursor[1]) return;
  state.cursor = [a, b];
  drawCursorSoon();
}

function hold() {
  state.follow = byId("follow").checked = false;
}

function step(panel, event) {
  const move = MOVES[event.key];
  if (!move) return;
  event.preventDefault();
  hold();
  const surface = surfaces[panel.k];
  const [i, j] = cursorOn(surface);
  const inside = (axis, k) => axis[Math.min(axis.length - 1, Math.max(0, k))];
  point(panel, inside(surface.alphas, i + move[0]), inside(surface.betas, j + move[1]));
}

function turn(panel, camera) {
  if (!camera || JSON.stringify(camera) === JSON.stringify(state.camera)) return;
  state.camera = camera;
  for (const other of panels) {
    if (other !== panel) Plotly.relayout(other.surface, { "scene.camera": camera });
  }
}

function show(k) {
  state.shown = Math.min(surfaces.length - 1, Math.max(0, k));
  drawSoon();
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  byId("theme").textContent = theme === "dark" ? "Light" : "Dark";
  byId("theme").setAttribute("aria-label", `${byId("theme").textContent} colours`);
}

function listen() {
  const on = (id, kind, change) => byId(id).addEventListener(kind, ({ target }) => change(target) || drawSoon());
  on("shown", "input", (input) => void (state.shown = Number(input.value)));
  on("step", "input", (input) => void (state.step = Number(input.value)));
  on("beside", "change", (select) => void (state.beside = Number(select.value)));
  on("quantity", "change", (select) => void (state.quantity = select.value));
  on("linear", "change", () => void (state.log = false));
  on("log", "change", () => void (state.log = true));
  on("shared", "change", (box) => void (state.shared = box.checked));
  byId("follow").addEventListener("change", ({ target }) => void (state.follow = target.checked));
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  on("reset", "click", () => void Object.assign(state, { cursor: [0, 0], camera: CAMERA, resets: state.resets + 1 }));
  on("theme", "click", () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
  document.addEventListener("keydown", (event) => {
    if (event.key === "[" || event.key === "]") show(state.shown + (event.key === "]" ? 1 : -1));
  });
  const dark = matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", () => void setTheme(dark.matches ? "dark" : "light") || drawSoon());
  setTheme(dark.matches ? "dark" : "light");
}

function fill() {
  document.body.classList.toggle("path", !explorer);
  byId("subtitle").textContent = content.subtitle;
  const differences = Object.entries(content.differences);
  byId("differences").hidden = !differences.length;
  byId("differences").textContent =
    `The surfaces differ in ${differences.map(([what, values]) => `${what} (${values.join("; ")})`).join(", ")}.`;
  for (const element of document.querySelectorAll(".several")) element.hidden = surfaces.length < 2;
  for (const element of document.querySelectorAll(".paths")) element.hidden = !steps.length;
  for (const option of byId("quantity").options) option.disabled = !surfaces.every((s) => s.values[option.value]);
  byId("shown").max = surfaces.length - 1;
  byId("step").max = state.step;
  surfaces.forEach((surface, k) => byId("beside").add(new Option(surface.name.replaceAll("\n", ", "), k)));
  byId("pictures").hidden = !explorer || !surfaces.some((surface) => surface.picture);
  if (!byId("pictures").hidden) byId("pictures").append(...surfaces.map(pictureButton));
}

function pictureButton(surface, k) {
  const button = document.createElement("button");
  button.type = "button";
  if (surface.picture) {
    const image = button.appendChild(new Image());
    [image.src, image.alt] = [surface.picture, ""];
  }
  button.append(surface.name);
  button.addEventListener("click", () => show(k));
  return button;
}

fill();
listen();
draw();
