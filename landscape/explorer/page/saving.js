// Saving: every view as a picture (PNG, SVG) or as its numbers (CSV), without a connection.

const PICTURE = { width: 900, height: 640, scale: 2 };

/** The views of the page: name, figure (null for training paths), and the function that gives the rows of its CSV. */
function savedViews() {
  const views = panels.flatMap(({ index, surface, contours }) => {
    const suffix = panels.length > 1 ? ` of ${nameInLine(surfaces[index])}` : "";
    const rows = () => surfaceRows(surfaces[index]);
    const flat = isExplorer ? [{ name: `contours${suffix}`, figure: contours, rows }] : [];
    return [{ name: `3-D surface${suffix}`, figure: surface, rows }, ...flat];
  });
  for (const axis of isExplorer ? [0, 1] : []) {
    views.push({ name: `slice along ${"αβ"[axis]}`, figure: byId(`slice-${axis}`), rows: () => sliceRows(axis) });
  }
  return trajectories.length ? [...views, { name: "training paths", figure: null, rows: pathRows }] : views;
}

/** The quantities of any of the surfaces. */
const quantitiesOf = (shown) => [...new Set(shown.flatMap((surface) => Object.keys(surface.values)))];

/** Coordinates and all quantities of a grid point; a quantity that the surface lacks is empty. */
const gridRow = (surface, keys, i, j) =>
  [surface.alphas[i], surface.betas[j], ...keys.map((key) => surface.values[key] ? valuesOf(surface, key)[i][j] : "")];

function surfaceRows(surface) {
  const keys = quantitiesOf([surface]);
  const evaluated = evaluatedPoints(surface);
  const rows = surface.alphas.flatMap((_alpha, i) => surface.betas.map((_beta, j) =>
    [...gridRow(surface, keys, i, j), ...(evaluated ? [evaluated[i][j] ? "True" : "False"] : [])]));
  return [["alpha", "beta", ...keys, ...(evaluated ? ["evaluated"] : [])], ...rows];
}

function sliceRows(axis) {
  const shown = shownSurfaces();
  const keys = quantitiesOf(shown);
  const rows = shown.flatMap((surface) =>
    slicePoints(surface, axis).map(([i, j]) => [nameInLine(surface), ...gridRow(surface, keys, i, j)]));
  return [["surface", "alpha", "beta", ...keys], ...rows];
}

function pathRows() {
  const columns = ["steps", "alphas", "betas", "loss", "shadow", "distance"];
  const rows = trajectories.flatMap((path) =>
    path.steps.map((_, n) => [path.name, ...columns.map((column) => path[column][n] ?? NaN)]));
  return [["path", "step", "alpha", "beta", "loss", "shadow_loss", "distance_off_plane"], ...rows];
}

/** The text of a CSV file; numbers have all their digits, and no text begins like a formula of a spreadsheet. */
function csvText(rows) {
  const special = { NaN: "nan", Infinity: "inf", "-Infinity": "-inf" };
  const cell = (value) => {
    if (typeof value === "number") return special[value] ?? String(value);
    const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return `${rows.map((row) => row.map(cell).join(",")).join("\r\n")}\r\n`;
}

/** A figure as it is drawn, with a background and a heading; plotly's own title would be moved out by a colour bar. */
function picturedFigure({ name, figure }) {
  const { margin, ...layout } = figure.layout;
  const heading = [document.title, ...(panels.length > 1 ? [] : [nameInLine(surfaces[state.shown])]), name].join(", ");
  const t = margin.t + 36;
  const annotation = {
    text: escaped(heading), font: { size: 14 }, showarrow: false,
    xref: "paper", x: 0, xanchor: "left", xshift: 18 - margin.l,
    yref: "paper", y: 1, yanchor: "top", yshift: t - 6,
  };
  return {
    data: figure.data,
    layout: {
      ...layout, autosize: false, paper_bgcolor: cssValue("--card"), margin: { ...margin, t }, annotations: [annotation],
    },
  };
}

async function saveView(format) {
  const view = savedViews()[byId("saved").selectedIndex];
  if (format === "csv") {
    const url = URL.createObjectURL(new Blob([csvText(view.rows())], { type: "text/csv" }));
    download(view, format, url);
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  } else if (view.figure) {
    download(view, format, await Plotly.toImage(picturedFigure(view), { ...PICTURE, format }));
  }
}

function download({ name }, format, href) {
  const link = document.createElement("a");
  const plain = `${document.title} ${name}`.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "_").replace(/^_|_$/g, "");
  Object.assign(link, { href, download: `${plain.slice(0, 80)}.${format}` }).click();
}

/** Offer the views that are displayed now; paths of training have numbers, but no picture of their own. */
function updateSaving() {
  const select = byId("saved");
  const names = savedViews().map(({ name }) => name);
  if ([...select.options].map(({ text }) => text).join("\n") !== names.join("\n")) {
    const chosen = select.selectedIndex;
    select.replaceChildren(...names.map((name) => new Option(name)));
    select.selectedIndex = Math.min(Math.max(chosen, 0), names.length - 1);
  }
  const hasFigure = savedViews()[select.selectedIndex].figure !== null;
  for (const format of ["png", "svg"]) byId("save").querySelector(`[data-format=${format}]`).disabled = !hasFigure;
}
