// Training paths: their points up to the selected step, in 3-D and in the contours.

const PATH_COLORS = ["#e31a1c", "#ff7f00", "#f06bae", "#29b6f6", "#b15928", "#a0a0a0"]; // on viridis and on white
const START = { symbol: "diamond", color: "#2ca02c" };
const END = { symbol: "square", color: "#1f6fff" };

const GAP = { alpha: null, beta: null, height: null, shadow: null, text: "" }; // between two paths in one trace

const pathPrefix = (path) => (trajectories.length > 1 ? `${escaped(path.name)}, ` : "");

/** The points of a path up to the selected step: position on the plane, drawn heights of loss and shadow, text. */
function pathPoints(path, surfaceIndex) {
  const comparable = state.quantity === "loss" && path.comparable[surfaceIndex];
  const shadowHeight = (n) => {
    const height = comparable ? heightOf(path.shadow[n]) : null;
    return height === null ? heightBetweenPoints(surfaces[surfaceIndex], path.alphas[n], path.betas[n]) : height;
  };
  return [...path.steps.keys()].filter((n) => path.steps[n] <= steps[state.step]).map((n) => ({
    step: path.steps[n], alpha: path.alphas[n], beta: path.betas[n],
    height: comparable ? heightOf(path.loss[n]) : null,
    shadow: shadowHeight(n),
    text: pathText(path, n),
  }));
}

function pathText(path, n) {
  const loss = path.loss[n] === null ? "not computed" : numberText(path.loss[n]);
  const shadow = path.shadow[n] === null ? "" : `, of its shadow ${numberText(path.shadow[n])}`;
  const off = path.distance[n] === null ? "" : `<br>off the plane by ${numberText(path.distance[n], 4)}`;
  const relative = path.relative[n] === null ? "" : numberText(100 * path.relative[n], 3);
  const share = off && relative ? ` (${relative} % of its distance from the origin)` : "";
  const at = path.alphas[n] === null ? "" : `<br>${coordinatesText(path.alphas[n], path.betas[n])}`;
  return `${escaped(path.name)}, ${escaped(path.unit)} ${path.steps[n]}<br>loss ${loss}${shadow}${at}${off}${share}`;
}

/** The drawn points of all paths, their colours, and whether they have losses that can be drawn beside the surface. */
const drawnPaths = (surfaceIndex) => trajectories.map((path, index) => {
  const points = pathPoints(path, surfaceIndex);
  const hasLosses = points.some(({ height }) => height !== null);
  return { path, index, points, hasLosses, color: PATH_COLORS[index % PATH_COLORS.length] };
});

function pointsTrace(type, points, options) {
  return {
    type, x: points.map(({ alpha }) => alpha), y: points.map(({ beta }) => beta),
    text: points.map(({ text }) => text), hoverinfo: "text", ...options,
  };
}

/** The traces of all paths in 3-D: shadows on the surface, points at their true losses, and stems between both. */
function paths3d(surfaceIndex) {
  const paths = drawnPaths(surfaceIndex);
  const trace = (points, z, options) => pointsTrace("scatter3d", points, { z, ...options });
  const shadow = (points, color, options) => trace(points, points.map((point) => point.shadow), {
    mode: "lines+markers", line: { color, width: 4 }, marker: { size: 2.5, color }, ...options,
  });
  const below = paths.filter(({ hasLosses }) => hasLosses).map(({ points }) => points);
  const shadows = below.flatMap((points, n) => (n ? [GAP, ...points] : points));
  const traces = below.length ? [shadow(shadows, cssValue("--text"), { name: "shadow on the surface" })] : [];
  for (const { path, index, points, hasLosses, color } of paths) {
    if (!hasLosses) {
      traces.push(shadow(points, color, { name: `${pathPrefix(path)}shadow on the surface`, meta: `shadow ${index}` }));
      continue;
    }
    const stems = points.flatMap((point) => [point, point, GAP]);
    const stemHeights = points.flatMap((point) => [point.height, point.shadow, null]);
    traces.push(trace(stems, stemHeights, {
      mode: "lines", line: { color, width: 1.5 }, opacity: 0.6, hoverinfo: "skip", showlegend: false,
    }));
    traces.push(trace(points, points.map((point) => point.height), {
      mode: "lines+markers", name: `${pathPrefix(path)}path at its true loss`, meta: `path ${index}`,
      line: { color, width: 6 }, marker: { size: 3.5, color },
    }));
  }
  const ends = pathEnds(paths).map(({ points, look, name }) =>
    trace(points, points.map((point) => point.height ?? point.shadow), {
      mode: "markers", name, marker: { size: look === START ? 8 : 7, ...look, line: { width: 1, color: "white" } },
    }));
  return [...traces, ...ends];
}

/** The traces of all paths in the contours: their shadows. */
function paths2d(surfaceIndex) {
  const paths = drawnPaths(surfaceIndex);
  const shadows = paths.map(({ path, points, color }) => pointsTrace("scatter", points, {
    mode: "lines+markers", line: { color, width: 2.5 }, marker: { size: 5, color }, name: `${pathPrefix(path)}shadow`,
  }));
  const ends = pathEnds(paths).map(({ points, look, name }) => pointsTrace("scatter", points, {
    mode: "markers", name, marker: { size: 11, ...look, line: { width: 1, color: "white" } },
  }));
  return [...shadows, ...ends];
}

/** The first and the last drawn points of all paths: one trace each, so that the legend names them once, at its end. */
function pathEnds(paths) {
  const begun = paths.filter(({ points }) => points.length);
  if (!begun.length) return [];
  const isOver = paths.every(({ path, points }) => points.length === path.steps.length);
  const name = isOver ? "end" : `${escaped(trajectories[0].unit)} ${steps[state.step]}`;
  return [
    { points: begun.map(({ points }) => points[0]), look: START, name: "start" },
    { points: begun.map(({ points }) => points.at(-1)), look: END, name },
  ];
}
