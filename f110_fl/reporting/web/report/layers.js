// What is drawn in a chart: SVG's elements for lines, bands, points and stacks.

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element of SVG.
 * @param {string} tag
 * @param {Object<string, string | number>} attributes
 * @param {string} [text] put in as text, whatever it is
 */
function draw(tag, attributes = {}, text = "") {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text) element.textContent = text;
  return element;
}

/** Colours an element; `paint` is "stroke" or "fill". */
function tint(element, paint, colour) {
  element.style[paint] = `var(--${colour})`;
  return element;
}

const tenth = (value) => Math.round(value * 10) / 10;

/** Turns series into elements, for the scales of a chart. */
class Layers {
  /**
   * @param {Scale} x
   * @param {Scale} y
   */
  constructor(x, y) {
    Object.assign(this, { x, y });
  }

  /** Whether a number can be drawn: on a logarithmic axis only those above zero. */
  drawable(value) {
    return value !== null && value !== undefined && (!this.y.log || value > 0);
  }

  /** @returns {SVGElement[]} all of a series, from back to front */
  of(series) {
    if (series.kind === "area") return [this.area(series)];
    if (series.kind === "points") return this.points(series);
    const smooth = series.drawn ? Object.assign(Object.create(series), series.drawn) : series;
    const band = series.low && series.high ? [this.band(smooth)] : [];
    const raw = smooth !== series && series.weight === "thick" ? [this.line(series, "raw")] : [];
    return [...band, ...raw, this.line(smooth)];
  }

  /** A line; where numbers are missing it is broken or, if asked for, bridged; one alone is a dot. */
  line(series, weight = series.weight) {
    const { x, y, kind } = series;
    let [d, open, alone] = ["", false, false];
    for (let k = 0; k < y.length; k++) {
      if (!this.drawable(y[k])) {
        if (series.bridge) continue;
        if (alone) d += "h0";
        open = alone = false;
        continue;
      }
      const [left, top] = [tenth(this.x.at(x[k])), tenth(this.y.at(y[k]))];
      if (!open) d += `M${left} ${top}`;
      else d += kind === "steps" ? `H${left}V${top}` : `L${left} ${top}`;
      alone = !open;
      open = true;
    }
    if (alone) d += "h0";
    const line = draw("path", { d, class: `line ${weight}` });
    if (series.dash) line.setAttribute("stroke-dasharray", series.dash);
    return tint(line, "stroke", series.colour);
  }

  band(series) {
    let d = "";
    let run = [];
    const close = () => {
      if (run.length > 1) {
        const there = run.map(([left, , high]) => `${left} ${high}`).join("L");
        const back = run
          .reverse()
          .map(([left, low]) => `${left} ${low}`)
          .join("L");
        d += `M${there}L${back}Z`;
      }
      run = [];
    };
    series.x.forEach((x, k) => {
      const band = series.band(k);
      if (!band || !band.every((value) => this.drawable(value))) close();
      else run.push([tenth(this.x.at(x)), tenth(this.y.at(band[0])), tenth(this.y.at(band[1]))]);
    });
    close();
    return tint(draw("path", { d, class: "band" }), "fill", series.colour);
  }

  area(series) {
    const at = (k, values) => `${tenth(this.x.at(series.x[k]))} ${tenth(this.y.at(values[k]))}`;
    let d = "";
    let first = 0;
    for (let k = 0; k <= series.y.length; k++) {
      if (k < series.y.length && series.y[k] !== null) continue;
      if (k - first > 1) {
        const every = Array.from({ length: k - first }, (_, i) => first + i);
        const there = every.map((i) => at(i, series.roof)).join("L");
        const back = every
          .reverse()
          .map((i) => at(i, series.floor))
          .join("L");
        d += `M${there}L${back}Z`;
      }
      first = k + 1;
    }
    return tint(draw("path", { d, class: "area" }), "fill", series.colour);
  }

  /** Points with their intervals; a thin line goes through them. */
  points(series) {
    let [whiskers, dots] = ["", ""];
    series.x.forEach((x, k) => {
      if (!this.drawable(series.y[k])) return;
      const [left, top] = [tenth(this.x.at(x)), tenth(this.y.at(series.y[k]))];
      const band = series.band(k);
      if (band) whiskers += `M${left} ${tenth(this.y.at(band[0]))}V${tenth(this.y.at(band[1]))}`;
      dots += `M${left - 3} ${top}a3 3 0 1 0 6 0a3 3 0 1 0 -6 0`;
    });
    const line = this.line({ ...series, kind: "line" }, "through");
    const own = tint(draw("path", { d: dots, class: "dots" }), "fill", series.colour);
    return [line, tint(draw("path", { d: whiskers, class: "whiskers" }), "stroke", series.colour), own];
  }
}

/**
 * Texts below each other that would overlap are moved apart.
 * @param {{top: number}[]} labels changed in place
 * @param {number} gap px from one to the next
 * @param {number} low px, the highest place
 * @param {number} high px, the lowest place
 */
function spread(labels, gap, low, high) {
  labels.sort((a, b) => a.top - b.top);
  labels.forEach((label, k) => {
    label.top = Math.max(label.top, k ? labels[k - 1].top + gap : low);
  });
  for (let k = labels.length - 1; k >= 0; k--) {
    const most = k === labels.length - 1 ? high : labels[k + 1].top - gap;
    labels[k].top = Math.min(labels[k].top, most);
  }
  return labels;
}
