// Figures of a surface: in 3-D and as contours, with marks at NaN and infinite values.

const FLOOR = 0.35; // share of the range of values: the space below the surface for its projected contours
const BANDS = 30;
const EQUAL_UNITS = { scaleanchor: "x", constrain: "domain", constraintoward: "top" };

const cssValue = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function figureLayout(margin) {
  return {
    margin,
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: cssValue("--text") },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    hoverlabel: {
      bgcolor: cssValue("--card"), bordercolor: cssValue("--line"), font: { color: cssValue("--text") }, align: "left",
    },
    legend: {
      orientation: "h", x: 0.5, xanchor: "center", y: 0, yref: "container", yanchor: "bottom",
      bgcolor: "rgba(0,0,0,0)",
    },
  };
}

const heightsOf = (surface) => rowsOverBeta(surface, (i, j) => heightOf(valueAt(surface, i, j)));
const hasValues = (surface) => valueRange(surface, state.quantity) !== null;

/** A bar above a figure, so that its width is left to the plot. */
function colorbar(surface) {
  const title = { text: escaped(quantityLabel(surface)), side: "top", font: { size: 12 } };
  return {
    ...scaleTicks(), title, orientation: "h", thickness: 12, outlinewidth: 0, ypad: 12, tickfont: { size: 11 },
    x: 0.5, xanchor: "center", y: 1, yanchor: "bottom",
  };
}

function hoverTexts(surface) {
  const text = (i, j) => `${valueText(surface, i, j)}<br>${coordinatesText(surface.alphas[i], surface.betas[j])}`;
  return rowsOverBeta(surface, text);
}

/** The camera that shows all of a scene with its labels: farther away, the narrower the scene. */
function firstCamera({ clientWidth, clientHeight }, { t, b }) {
  const height = clientHeight - t - b - FURTHER_ENTRIES;
  const distance = Math.min(2.2, Math.max(1.05, (1.2 * height) / clientWidth));
  const [x, y, z] = [1.08, -1.55, 1.15].map((place) => place * distance);
  return { eye: { x, y, z }, center: { x: 0, y: 0, z: -0.1 }, up: { x: 0, y: 0, z: 1 } };
}

/** Traces and layout of the surface of a panel in 3-D. */
function surfaceFigure({ index, surface: figure }) {
  const surface = surfaces[index];
  const [low, high] = heightLimits();
  const body = {
    type: "surface", x: surface.alphas, y: surface.betas, z: heightsOf(surface),
    text: hoverTexts(surface), hoverinfo: "text", colorscale: "Viridis", cmin: low, cmax: high,
    showscale: !isExplorer, colorbar: { ...colorbar(surface), len: 0.6 },
    lighting: { ambient: 0.85, diffuse: 0.35, specular: 0.03, roughness: 0.9 },
    contours: { x: { highlight: false }, y: { highlight: false }, z: { highlight: false } },
  };
  const paths = paths3d(index);
  const heights = paths.flatMap((trace) => trace.z).filter((value) => Number.isFinite(value));
  const axis = (text) => ({
    title: { text: axisText(text), font: { size: 11 } },
    color: cssValue("--muted"), gridcolor: cssValue("--line"), zeroline: false, nticks: 6,
    showspikes: false, showbackground: false,
  });
  const range = [Math.min(low, ...heights) - FLOOR * heightSpan(), Math.max(high, ...heights) + 0.02 * heightSpan()];
  const height = quantityLabel(surface).replace(/\(.*, log scale\)/, "(log scale)"); // the colour bar says more
  const margin = { l: 0, r: 0, t: isExplorer ? 4 : 74, b: trajectories.length ? 50 : 0 };
  const scene = {
    xaxis: { ...axis(surface.axes[0]), range: [surface.alphas[0], surface.alphas.at(-1)] },
    yaxis: { ...axis(surface.axes[1]), range: [surface.betas[0], surface.betas.at(-1)] },
    zaxis: { ...axis(height), range, ...scaleTicks(5) },
    aspectmode: "manual", aspectratio: { x: 1, y: 1, z: 0.75 }, camera: state.camera ?? firstCamera(figure, margin),
  };
  const below = floorContours(surface, range[0] + LIFT * heightSpan());
  const marks = [...origin3d(surface), ...basins3d(surface)];
  const data = [cursor3d(surface), ...(hasValues(surface) ? [body, below] : []), ...marks, ...paths];
  return [data, { ...figureLayout(margin), scene }];
}

/** Contour lines on the floor, cell by cell; plotly's own take seconds per frame if the surface has gaps. */
function floorContours(surface, floor) {
  const [low, high] = heightLimits();
  const heights = heightsOf(surface);
  const [x, y, color] = [[], [], []];
  for (let n = 1; n < BANDS; n += 2) {
    const level = low + (n * heightSpan()) / BANDS;
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

/** The points where a level crosses the edges of a cell: two or four, in the order of the edges. */
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

/** Whether both axes are equally long, so that their units are drawn equally long. */
function isSquare({ alphas, betas }) {
  const [across, up] = [alphas, betas].map((axis) => axis.at(-1) - axis[0]);
  return Math.abs(across - up) <= 1e-9 * across;
}

/** Traces and layout of the contours of the surface at `index`. */
function contourFigure(index) {
  const surface = surfaces[index];
  const [low, high] = heightLimits();
  const step = heightSpan() / BANDS;
  const axes = { x: surface.alphas, y: surface.betas };
  const bands = {
    type: "contour", ...axes, z: heightsOf(surface),
    text: hoverTexts(surface), hoverinfo: "text", colorscale: "Viridis", zmin: low, zmax: high,
    autocontour: false, contours: { coloring: "heatmap", start: low + step, end: high - step, size: step },
    line: { width: 0.5, color: "rgba(255,255,255,0.35)" }, connectgaps: false, colorbar: colorbar(surface),
  };
  const traces = [...(hasValues(surface) ? [bands] : []), ...gapMarks(surface)];
  traces.push(...basins2d(surface), ...origin2d(surface));
  traces.push(...paths2d(index));
  const axis = (text, ends) => ({
    title: { text: axisText(text), font: { size: 12 }, standoff: 8 },
    range: [ends[0], ends.at(-1)], color: cssValue("--muted"), showgrid: false, zeroline: false, ticks: "outside",
    automargin: true,
  });
  return [traces, {
    ...figureLayout({ l: 56, r: 14, t: 74, b: 74 }), plot_bgcolor: cssValue("--gap"),
    hovermode: "closest", shapes: crosshair(surface),
    xaxis: { ...axis(surface.axes[0], surface.alphas), constrain: "domain" },
    yaxis: { ...axis(surface.axes[1], surface.betas), ...(isSquare(surface) ? EQUAL_UNITS : {}) },
    uirevision: [surface.alphas[0], surface.alphas.at(-1), surface.betas[0], surface.betas.at(-1), state.resets].join(),
  }];
}

/** Crosses where the loss is not finite; the contours leave out the cells around them, which stay grey. */
function gapMarks(surface) {
  const points = surface.alphas.flatMap((a, i) =>
    surface.betas.flatMap((b, j) => (valueAt(surface, i, j) === null ? [[a, b]] : [])));
  return !points.length ? [] : [{
    type: "scatter", mode: "markers", x: points.map(([a]) => a), y: points.map(([, b]) => b), hoverinfo: "skip",
    marker: { symbol: "x-thin", size: 6, line: { width: 1, color: cssValue("--cross") } }, name: "NaN or infinite",
    showlegend: true,
  }];
}
