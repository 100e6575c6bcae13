// The crosshair: one place of the x axis in all charts beside each other, and what they say there.

/** The place that charts with the same x axis point at together. */
class Link {
  constructor() {
    Object.assign(this, { charts: new Set(), x: null, source: null, waiting: false });
  }

  /**
   * Points at a place, or at none.
   * @param {number | null} x
   * @param {Chart | null} source the chart that shows the numbers
   */
  point(x, source) {
    Object.assign(this, { x, source });
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      for (const chart of this.charts) chart.cross();
    });
  }
}

const TIP_ROWS = 14; // at most; the smallest are left out

/** The numbers at the crosshair, beside it. */
class Tip {
  /** @param {HTMLElement} parent */
  constructor(parent) {
    this.box = make("div", "tip");
    this.box.hidden = true;
    parent.append(this.box);
  }

  hide() {
    this.box.hidden = true;
  }

  /**
   * @param {string} heading
   * @param {{series: Series, text: string, apart: string}[]} rows `apart`: the interval
   * @param {number} left px of the crosshair
   * @param {number} width px of the chart
   */
  show(heading, rows, left, width) {
    const list = make("div", "tip-rows");
    for (const { series, text, apart } of rows.slice(0, TIP_ROWS)) {
      const value = make("b", "", text);
      if (apart) value.append(make("small", "", ` ${apart}`));
      list.append(swatch(series), make("span", "", series.name), value);
    }
    this.box.replaceChildren(make("p", "", heading), list);
    const more = rows.length - TIP_ROWS;
    if (more > 0) this.box.append(make("p", "", `and ${more} more`));
    this.box.hidden = false;
    this.place(left, width);
  }

  /** Puts the box to a side of the crosshair: where the chart has room, or else the window. */
  place(left, width) {
    const own = this.box.offsetWidth;
    const edge = this.box.parentElement.getBoundingClientRect().left;
    const [right, before] = [left + 14, left - own - 14];
    const fits = right + own <= width || (before < 0 && edge + right + own <= innerWidth - 8);
    this.box.style.left = `${fits ? right : Math.max(8 - edge, before)}px`;
  }
}

/** A short piece of a series' line, or of its area. */
function swatch({ colour, dash, kind, weight }) {
  const svg = draw("svg", { viewBox: "0 0 16 10", class: "swatch-line", "aria-hidden": "true" });
  if (kind === "area") {
    svg.append(tint(draw("rect", { x: 3, y: 0, width: 10, height: 10, rx: 2 }), "fill", colour));
    return svg;
  }
  const line = draw("path", { d: "M1 5H15", class: `line ${weight}` });
  if (dash) line.setAttribute("stroke-dasharray", dash);
  svg.append(tint(line, "stroke", colour));
  if (kind === "points") svg.append(tint(draw("circle", { cx: 8, cy: 5, r: 3 }), "fill", colour));
  return svg;
}
