// Text: numbers, coordinates and values, and round ticks for the scale.

const numberText = (value, digits = 6) => String(Number(value.toPrecision(digits))).replace("-", "−");
const coordinatesText = (alpha, beta) => `α = ${numberText(alpha, 4)}, β = ${numberText(beta, 4)}`;

/** Text from outside, escaped because plotly reads it as HTML. */
function escaped(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

/** A label of an axis in lines: its own, and those of a long label at its commas. */
const axisText = (text) =>
  escaped(text).split("\n").map((line) => line.length > 30 ? line.replaceAll(", ", ",<br>") : line).join("<br>");

const nameInLine = (surface) => surface.name.replaceAll("\n", ", ");

function quantityLabel(surface) {
  return surface.labels[state.quantity][scale.log ? 1 : 0];
}

/** The loss at a grid point, with its standard error and accuracy if they are finite. */
function valueText(surface, i, j) {
  const value = (key) => (surface.values[key] ? valuesOf(surface, key)[i][j] : NaN);
  let text = `loss ${numberText(value("loss"))}`;
  if (Number.isFinite(value("standard_error"))) text += ` ± ${numberText(value("standard_error"), 2)}`;
  if (Number.isFinite(value("accuracy"))) text += `, accuracy ${numberText(100 * value("accuracy"), 4)} %`;
  const evaluated = evaluatedPoints(surface);
  return evaluated !== null && !evaluated[i][j] ? `${text} (interpolated)` : text;
}

/** The value of a surface at the cursor with its coordinates, and the name of the surface if there are several. */
function readoutText(surface) {
  const [i, j] = cursorIndices(surface);
  const name = surfaces.length > 1 ? `${nameInLine(surface)}: ` : "";
  return `${name}${valueText(surface, i, j)} at ${coordinatesText(surface.alphas[i], surface.betas[j])}`;
}

/** Round values between the limits, about `most` of them, as ticks at the heights of the values. */
function scaleTicks(most = 8) {
  const [low, high] = scale.limits;
  const decades = scale.log ? Math.log10(high / low) : 0;
  let values = [];
  if (decades < 0.7) {
    const power = 10 ** Math.floor(Math.log10((high - low) / most));
    const step = power * [1, 2, 5, 10].find((factor) => (high - low) / (factor * power) <= most);
    for (let n = Math.ceil(low / step); n * step <= high; n++) values.push(n * step);
  } else {
    const every = Math.ceil(decades / most);
    const factors = [[1, 2, 5], [1, 3]].find(({ length }) => decades * length <= 1.2 * most) ?? [1];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += every) {
      values.push(...factors.map((factor) => factor * 10 ** power));
    }
    values = values.filter((value) => value >= low && value <= high);
  }
  return { tickmode: "array", tickvals: values.map(heightOf), ticktext: values.map((value) => numberText(value, 4)) };
}
