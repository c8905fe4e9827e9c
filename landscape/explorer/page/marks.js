// Marks on the surface and the contours: the origin of the plane, and the basins of the loss with their saddles.

const ORIGIN_COLOR = "#d55e00";
const AT_EDGE = "lowest point at the edge of the plane";
const LIFT_OF_MARKS = 0.045; // share of the span of heights: marks face the camera, and the surface would cut them
const WELL = { color: "#0072b2", line: { width: 1.5, color: "white" } };
const EDGE = { color: "#56b4e9", line: { width: 2, color: "#0072b2" } }; // of a basin that may go on beyond the plane
const SADDLE = { color: "#d55e00", line: { width: 1, color: "white" } };

/** Whether a star marks the origin: it is inside the axes, and no path is drawn. */
function hasOrigin(surface) {
  const crossesZero = (axis) => axis[0] <= 0 && axis.at(-1) >= 0;
  return !trajectories.length && crossesZero(surface.alphas) && crossesZero(surface.betas);
}

function origin2d(surface) {
  if (!hasOrigin(surface)) return [];
  const marker = { symbol: "star", size: 14, color: ORIGIN_COLOR, line: { width: 1, color: "white" } };
  const look = { type: "scatter", mode: "markers", marker, showlegend: true, hoverinfo: "skip", cliponaxis: false };
  return [{ ...look, x: [0], y: [0], name: escaped(surface.origin) }];
}

/** The star in 3-D, where plotly has it only as a character. */
function origin3d(surface) {
  const height = hasOrigin(surface) ? heightBetweenPoints(surface, 0, 0) : null;
  if (height === null) return [];
  return [{
    type: "scatter3d", mode: "text", x: [0], y: [0], z: [height + LIFT_OF_MARKS * heightSpan()], text: ["★"],
    textposition: "middle center", textfont: { size: 26, color: ORIGIN_COLOR },
    meta: "origin", hoverinfo: "skip", showlegend: false,
  }];
}

/** The kinds of marks of the basins: grid points, their texts, the look of the marks, and their name. */
function basinMarks(surface) {
  const basins = isExplorer && state.basins && state.quantity === "loss" ? surface.basins.marked : [];
  const ending = basins.filter(({ saddle }) => saddle !== null);
  const number = (basin) => `basin ${basins.indexOf(basin) + 1}`;
  const lowestPoints = (those, look, name, remark) => ({
    points: those.map(({ minimum }) => minimum), look: { ...look, symbol: "circle" }, name,
    texts: those.map((basin) => `${number(basin)}, ${persistenceText(surface, basin)}${remark}`),
  });
  const kinds = [
    lowestPoints(basins.filter(({ edge }) => !edge), WELL, "minimum", ""),
    lowestPoints(basins.filter(({ edge }) => edge), EDGE, AT_EDGE, `<br>${AT_EDGE}`),
    {
      points: ending.map(({ saddle }) => saddle), look: { ...SADDLE, symbol: "diamond" }, name: "saddle",
      texts: ending.map((basin) => `saddle where ${number(basin)} ends`),
    },
  ];
  return kinds.filter(({ points }) => points.length);
}

/** How much deeper than its saddle a basin is, with the standard error. */
function persistenceText(surface, { minimum, saddle, error }) {
  if (saddle === null) return "the lowest";
  const depth = valueAt(surface, ...saddle) - valueAt(surface, ...minimum);
  return `${numberText(depth, 4)}${error === null ? "" : ` ± ${numberText(error, 2)}`} below its saddle`;
}

function basinTrace(surface, { points, texts, look, name }, options) {
  const where = ([i, j]) => `${valueText(surface, i, j)}<br>${coordinatesText(surface.alphas[i], surface.betas[j])}`;
  return {
    mode: "markers", x: points.map(([i]) => surface.alphas[i]), y: points.map(([, j]) => surface.betas[j]),
    text: points.map((point, n) => `${texts[n]}<br>${where(point)}`), hoverinfo: "text", meta: name,
    name: `${name} (${points.length})`, ...options, marker: { ...look, ...options.marker },
  };
}

const basins2d = (surface) =>
  basinMarks(surface).map((kind) => basinTrace(surface, kind, {
    type: "scatter", marker: { size: 9 }, showlegend: true, cliponaxis: false,
  }));

const basins3d = (surface) => basinMarks(surface).map((kind) => ({
  ...basinTrace(surface, kind, { type: "scatter3d", marker: { size: 5 }, showlegend: false }),
  z: kind.points.map(([i, j]) => heightOf(valueAt(surface, i, j)) + LIFT_OF_MARKS * heightSpan()),
}));
