// Scales: where a number lies on an axis, and which numbers are written beside it.

/** Round numbers between two, about as many as wanted. */
function roundTicks(low, high, wanted) {
  const rough = (high - low) / Math.max(wanted, 1);
  const power = 10 ** Math.floor(Math.log10(rough));
  const unit = power * [1, 2, 5, 10].find((step) => step * power >= rough * 0.999);
  const found = [];
  for (let k = Math.ceil(low / unit - 1e-9); k * unit <= high + unit * 1e-9; k++) found.push(k * unit);
  return found;
}

/** Powers of ten between two numbers above zero, and within few of them also 2 and 5. */
function logTicks(low, high, wanted) {
  const [first, last] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  const every = Math.max(1, Math.ceil((last - first) / wanted));
  const steps = last - first <= 2 ? [1, 2, 5] : [1];
  const found = [];
  for (let power = first; power <= last; power += every) {
    for (const step of steps) found.push(step * 10 ** power);
  }
  return found.filter((value) => value >= low * 0.999 && value <= high * 1.001);
}

/** An axis from one number to another. */
class Scale {
  /**
   * @param {[number, number]} domain
   * @param {[number, number]} pixels where the domain's ends lie
   * @param {boolean} log
   */
  constructor(domain, pixels, log = false) {
    Object.assign(this, { domain, pixels, log });
    this.ends = log ? domain.map(Math.log10) : domain;
  }

  /** @returns {number} px */
  at(value) {
    const [low, high] = this.ends;
    const [from, to] = this.pixels;
    const own = this.log ? Math.log10(value) : value;
    return from + ((own - low) / (high - low)) * (to - from);
  }

  /** @returns {number} what lies at a pixel */
  value(pixel) {
    const [low, high] = this.ends;
    const [from, to] = this.pixels;
    const own = low + ((pixel - from) / (to - from)) * (high - low);
    return this.log ? 10 ** own : own;
  }

  /** @returns {number[]} */
  ticks(wanted) {
    return this.log ? logTicks(...this.domain, wanted) : roundTicks(...this.domain, wanted);
  }
}

/**
 * How the x axes are called and written. Wall-clock time is given in the unit that fits it.
 * @param {string} axis "episodes", "steps", "seconds" or "rounds"
 * @param {number} most the largest number on it
 * @returns {{title: string, unit: number, write: (x: number) => string,
 *   tick: (x: number) => string}} `unit`: of what ticks are round numbers
 */
function axisOf(axis, most) {
  if (axis === "seconds") {
    const [unit, name] = most < 180 ? [1, "s"] : most < 10800 ? [60, "min"] : [3600, "h"];
    const tick = (x) => decimal(x / unit, x % unit ? 1 : 0);
    return { title: `wall-clock time, ${name}`, unit, write: duration, tick };
  }
  const titles = { episodes: "episodes per client", steps: "environment steps", rounds: "round" };
  const words = { episodes: "episode", steps: "step", rounds: "round" };
  const write = (x) => `${words[axis]} ${count(x)}`;
  return { title: titles[axis], unit: 1, write, tick: axis === "rounds" ? count : compact };
}

/**
 * The smallest and the largest of numbers, a little apart.
 * @param {number[]} values
 * @param {boolean} log
 * @returns {[number, number]}
 */
function extentOf(values, log = false) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (low > high) return log ? [0.1, 1] : [0, 1];
  if (log) return low === high ? [low / 2, high * 2] : [low / 1.15, high * 1.15];
  if (low > 0 && low < 0.4 * high) low = 0;
  if (high < 0 && high > 0.4 * low) high = 0;
  const room = 0.05 * (high - low) || Math.abs(high) * 0.1 || 0.5;
  return [low === 0 && high > 0 ? 0 : low - room, high === 0 && low < 0 ? 0 : high + room];
}

/** The place in sorted numbers of the one nearest to another; -1 without any. */
function nearest(sorted, x) {
  let [from, to] = [0, sorted.length - 1];
  while (from < to) {
    const middle = (from + to) >> 1;
    if (sorted[middle] < x) from = middle + 1;
    else to = middle;
  }
  if (from > 0 && x - sorted[from - 1] <= sorted[from] - x) return from - 1;
  return sorted.length ? from : -1;
}
