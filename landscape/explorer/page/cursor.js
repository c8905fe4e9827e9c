// The cursor: its lines on the surface and the contours, and the slices through it.

/** The two slices through the cursor, as lines on the surface in 3-D. */
function cursor3d(surface) {
  const [i, j] = cursorIndices(surface);
  const heightAbove = (m, n) => {
    const value = heightOf(valueAt(surface, m, n));
    return value === null ? null : value + LIFT * heightSpan();
  };
  return {
    type: "scatter3d", mode: "lines", hoverinfo: "skip", showlegend: false, line: { color: "white", width: 4 },
    x: [...surface.alphas, null, ...surface.betas.map(() => surface.alphas[i])],
    y: [...surface.alphas.map(() => surface.betas[j]), null, ...surface.betas],
    z: [...surface.alphas.map((_, m) => heightAbove(m, j)), null, ...surface.betas.map((_, n) => heightAbove(i, n))],
    visible: isExplorer,
  };
}

const RING = 11; // pixels from the cursor to its ring, in which the star of the origin has room
const REACH = 4000; // pixels from the cursor to the ends of its lines, outside of every figure, which cuts them

/** The cursor in the contours, white with dark edges; it is open inside the ring, so that it hides no mark there. */
function crosshair(surface) {
  const [i, j] = cursorIndices(surface);
  const place = { xsizemode: "pixel", ysizemode: "pixel", xanchor: surface.alphas[i], yanchor: surface.betas[j] };
  const across = `M-${REACH},0H-${RING}M${RING},0H${REACH}`;
  const up = `M0,-${REACH}V-${RING}M0,${RING}V${REACH}`;
  const lines = { ...place, type: "path", path: across + up };
  const ring = { ...place, type: "circle", x0: -RING, x1: RING, y0: -RING, y1: RING };
  const look = (color, width) => [lines, ring].map((shape) => ({ ...shape, line: { color, width } }));
  return [...look("rgba(0,0,0,0.55)", 3), ...look("white", 1.2)];
}

/** The curve of a surface along an axis through the cursor, a mark at the cursor, and a band of two standard errors. */
function sliceTraces(surface, axis, isFirst) {
  const along = [surface.alphas, surface.betas][axis];
  const points = slicePoints(surface, axis);
  const y = points.map((point) => valueAt(surface, ...point));
  const color = cssValue(isFirst ? "--first" : "--second");
  const curve = {
    type: "scatter", mode: "lines", x: along, y, line: { color, width: 2.5, dash: isFirst ? "solid" : "dash" },
    name: escaped(surface.name), text: points.map((point) => valueText(surface, ...point)), hoverinfo: "text",
  };
  const silent = { showlegend: false, hoverinfo: "skip" };
  const marker = { size: 9, color, line: { width: 1.5, color: cssValue("--card") } };
  const at = cursorIndices(surface)[axis];
  const mark = { type: "scatter", mode: "markers", x: [along[at]], y: [y[at]], marker, ...silent };
  if (state.quantity !== "loss" || !("standard_error" in surface.values)) return [curve, mark];
  const errors = points.map(([i, j]) => valuesOf(surface, "standard_error")[i][j]);
  return [curve, mark, { ...errorBand(along, y, errors), ...silent, fillcolor: `${color}40` }];
}

/** Traces and layout of the slices of all displayed surfaces along one axis. */
function sliceFigure(axis) {
  const shown = shownSurfaces();
  const traces = shown.flatMap((surface, n) => sliceTraces(surface, axis, n === 0));
  const [surface] = shown;
  const at = [surface.alphas, surface.betas][axis][cursorIndices(surface)[axis]];
  const axisLook = { color: cssValue("--muted"), gridcolor: cssValue("--line"), zeroline: false };
  const axisTitle = (text) => ({ text: axisText(text), font: { size: 12 }, standoff: 6 });
  const [low, high] = heightLimits();
  const { tickvals, ticktext } = scaleTicks();
  const logTicks = scale.log ? { type: "log", tickvals: tickvals.map((value) => 10 ** value), ticktext } : {};
  const dots = { color: cssValue("--muted"), width: 1, dash: "dot" };
  return [traces, {
    ...figureLayout({ l: 56, r: 10, t: shown.length > 1 ? 54 : 34, b: 44 }),
    hovermode: "closest", showlegend: shown.length > 1,
    legend: { orientation: "h", x: 1, xanchor: "right", y: 1, yanchor: "bottom", yref: "paper" },
    title: { text: sliceName(surface, axis), x: 0.01, xanchor: "left", y: 0.97, yanchor: "top", font: { size: 13 } },
    xaxis: { ...axisLook, automargin: true, title: axisTitle(surface.axes[axis].split("\n")[0]) },
    yaxis: {
      ...axisLook, title: axisTitle(quantityLabel(surface)), automargin: true, ...logTicks,
      range: [low - 0.05 * heightSpan(), high + 0.05 * heightSpan()],
    },
    shapes: [{ type: "line", yref: "paper", x0: at, x1: at, y0: 0, y1: 1, line: dots }],
  }];
}

/** The band of two standard errors, as one polygon for every stretch of a curve without gaps. */
function errorBand(along, y, errors) {
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
  const [i, j] = cursorIndices(surface);
  if (axis === 0) return `Along α at β = ${numberText(surface.betas[j], 4)}`;
  return `Along β at α = ${numberText(surface.alphas[i], 4)}`;
}
