// Training paths: their points up to the selected step, in 3-D and in the contours.

const PATH_COLORS = ["#e31a1c", "#ff7f00", "#f06bae", "#29b6f6", "#b15928", "#a0a0a0"]; // on viridis and on white
const SHADOW_COLOR = "#20242c";
const START = { symbol: "diamond", color: "#2ca02c" };
const END = { symbol: "square", color: "#1f6fff" };

const pathColor = (path) => PATH_COLORS[trajectories.indexOf(path) % PATH_COLORS.length];
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

/** The traces of a path in 3-D: its shadow on the surface, its points at their true losses, and stems between both. */
function path3d(path, points) {
  const color = pathColor(path);
  const index = trajectories.indexOf(path);
  const hasLosses = points.some((point) => point.height !== null);
  const trace = (tracePoints, z, options) => ({
    type: "scatter3d", x: tracePoints.map((point) => point.alpha), y: tracePoints.map((point) => point.beta), z,
    text: tracePoints.map((point) => point.text), hoverinfo: "text", ...options,
  });
  const shadowColor = hasLosses ? SHADOW_COLOR : color;
  const shadow = trace(points, points.map((point) => point.shadow), {
    mode: "lines+markers", name: `${pathPrefix(path)}shadow on the surface`, meta: `shadow ${index}`,
    line: { color: shadowColor, width: 4 }, marker: { size: 2.5, color: shadowColor },
  });
  const stemHeights = points.flatMap((point) => [point.height, point.shadow, null]);
  const stems = trace(points.flatMap((point) => [point, point, point]), stemHeights, {
    mode: "lines", line: { color, width: 1.5 }, opacity: 0.6, hoverinfo: "skip", showlegend: false,
  });
  const atLosses = trace(points, points.map((point) => point.height), {
    mode: "lines+markers", name: `${pathPrefix(path)}path at its true loss`, meta: `path ${index}`,
    line: { color, width: 6 }, marker: { size: 3.5, color },
  });
  const ends = pathEnds(path, points).map(({ point, look, name }) =>
    trace([point], [hasLosses ? point.height : point.shadow], {
      mode: "markers", name, showlegend: index === 0,
      marker: { size: look === START ? 8 : 7, ...look, line: { width: 1, color: "white" } },
    }));
  return [shadow, ...(hasLosses ? [stems, atLosses] : []), ...ends];
}

/** The traces of a path in the contours: its shadow. */
function path2d(path, points) {
  const color = pathColor(path);
  const trace = (tracePoints, options) => ({
    type: "scatter", x: tracePoints.map((point) => point.alpha), y: tracePoints.map((point) => point.beta),
    text: tracePoints.map((point) => point.text), hoverinfo: "text", ...options,
  });
  const shadow = trace(points, {
    mode: "lines+markers", line: { color, width: 2.5 }, marker: { size: 5, color }, name: `${pathPrefix(path)}shadow`,
  });
  const ends = pathEnds(path, points).map(({ point, look, name }) => trace([point], {
    mode: "markers", name, showlegend: path === trajectories[0],
    marker: { size: 11, ...look, line: { width: 1, color: "white" } },
  }));
  return [shadow, ...ends];
}

function pathEnds(path, points) {
  if (!points.length) return [];
  const last = points.at(-1);
  const isOver = last.step === path.steps.at(-1);
  const end = { point: last, look: END, name: isOver ? "end" : `${escaped(path.unit)} ${last.step}` };
  return [{ point: points[0], look: START, name: "start" }, end];
}
