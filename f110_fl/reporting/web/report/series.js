// What a chart shows: series of numbers, each with how it is drawn.

/** The colours that clients and groups take in turn, and the dashes that tell the turns apart. */
const DASHES = ["", "6 3", "2 3", "8 3 2 3"];

/** Outcomes from the bottom of a stack to its top, with their colours (CSS variables). */
const STACK = ["success", "finished", "time_limit", "other_done", "none", "idle", "failed", "crash"];

/**
 * How the n-th of many is drawn.
 * @returns {{colour: string, dash: string}} a CSS variable, and SVG's dashes
 */
function styleOf(index) {
  const turn = Math.floor(index / CAR_COLOURS) % DASHES.length;
  return { colour: `car-${index % CAR_COLOURS}`, dash: DASHES[turn] };
}

/** One line of numbers in a chart. */
class Series {
  /**
   * @param {object} about
   * @param {string} about.key the same for the same thing in all charts: the legend hides by it
   * @param {string} about.name
   * @param {string} [about.label] short, at the line's end; none: nothing is written there
   * @param {string} about.colour a CSS variable
   * @param {string} [about.dash]
   * @param {"thick" | "thin" | "faint"} [about.weight]
   * @param {"line" | "points" | "steps" | "area"} [about.kind]
   * @param {number[]} about.x ascending
   * @param {(number | null)[]} about.y
   * @param {boolean} [about.bridge] whether a line goes on where numbers are missing
   * @param {(number | null)[]} [about.low] of a band, or of the points' intervals
   * @param {(number | null)[]} [about.high]
   */
  constructor(about) {
    Object.assign(this, { dash: "", weight: "thin", kind: "line", label: "" }, about);
    const { x = [], y = [], low, high } = this;
    const kept = x.flatMap((value, k) => (Number.isFinite(value) && k < y.length ? [k] : []));
    this.x = kept.map((k) => x[k]);
    this.y = kept.map((k) => (Number.isFinite(y[k]) ? y[k] : null));
    if (low) this.low = kept.map((k) => low[k]);
    if (high) this.high = kept.map((k) => high[k]);
    this.some = this.y.some((value) => value !== null);
  }

  /** The band at a place; null without one. */
  band(k) {
    const [low, high] = [this.low?.[k], this.high?.[k]];
    return Number.isFinite(low) && Number.isFinite(high) ? [low, high] : null;
  }

  /** All numbers that have to be seen. */
  *values() {
    for (let k = 0; k < this.y.length; k++) {
      if (this.y[k] === null) continue;
      yield this.y[k];
      const band = this.band(k);
      if (band) yield* band;
    }
  }

  /**
   * What the series says at a place of the x axis: its nearest number, if that is near.
   * @param {number} x
   * @returns {{x: number, value: number, band: [number, number] | null} | null}
   */
  reading(x) {
    const k = nearest(this.x, x);
    if (k < 0 || this.y[k] === null) return null;
    const gap = Math.max(this.x[k] - this.x[k - 1] || 0, this.x[k + 1] - this.x[k] || 0);
    if (gap && Math.abs(this.x[k] - x) > 0.5 * gap) return null;
    return { x: this.x[k], value: this.y[k], band: this.band(k) };
  }

  /**
   * Has moving means drawn instead of the numbers themselves, which are still what is read.
   * @param {number} half numbers on either side that a mean takes in
   */
  smooth(half) {
    if (!half || !["line", "area"].includes(this.kind)) return this;
    const means = (values) => values && movingMeans(values, half);
    this.drawn = { y: means(this.y), low: means(this.low), high: means(this.high) };
    return this;
  }

  /** The last number there is; null without any. */
  get last() {
    return this.y.findLast((value) => value !== null) ?? null;
  }
}

/** Means over a number and up to as many on either side; what is missing stays so. */
function movingMeans(values, half) {
  return values.map((value, k) => {
    if (!Number.isFinite(value)) return null;
    const near = values.slice(Math.max(0, k - half), k + half + 1).filter(Number.isFinite);
    return near.reduce((sum, each) => sum + each, 0) / near.length;
  });
}

/** How many numbers on either side belong to a moving mean, of so many. */
function smoothing(length) {
  return length < 30 ? 0 : Math.max(1, Math.round(length / 50));
}

/**
 * Shares on top of each other: each series gets `floor`, where its area begins.
 * @param {Series[]} all with the same x
 */
function stack(all) {
  let floor = null;
  for (const series of all) {
    series.floor = floor ?? series.y.map(() => 0);
    const shares = series.drawn?.y ?? series.y;
    series.roof = shares.map((value, k) => series.floor[k] + (value ?? 0));
    floor = series.roof;
  }
  return all;
}
