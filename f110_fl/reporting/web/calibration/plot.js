// A chart over time: lines of what was measured, commanded and predicted.

const LINE_COLOURS = { measured: "car-5", predicted: "car-4", commanded: "faint" };
const LINE_WIDTHS = { measured: 3.2, predicted: 1.3, commanded: 1.3 }; // what is below shows beside
const EDGE = { left: 52, right: 10, top: 8, bottom: 22 };

/** Numbers at even steps of 1, 2 or 5 that lie between two others, about so many. */
function ticks(low, high, count) {
  const rough = (high - low) / Math.max(count, 1);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((found) => found >= rough);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return { step, at: Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => (first + i) * step) };
}

/** The last index at which an ascending list is not above a value; 0 if there is none. */
function indexAt(list, value) {
  let [low, high] = [0, list.length];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (list[middle] <= value) low = middle;
    else high = middle;
  }
  return low;
}

/** The decimals that tell numbers at a step apart. */
function decimals(step) {
  return Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
}

class Plot {
  /**
   * @param {object} chart name, unit and lines
   * @param {number[][]} windows first sample of each, and one past its last
   * @param {Theme} theme
   * @param {{range: number[], cursor: number?, set: Function, point: Function}} shared what all charts show
   */
  constructor(chart, windows, theme, shared) {
    Object.assign(this, { chart, windows, theme, shared, drag: null });
    this.root = make("div", "chart");
    const head = make("div", "chart-head");
    head.append(make("h3", "", `${chart.name}, ${chart.unit}`), legend(chart.lines.map((line) => line.name)));
    this.reading = make("span", "reading");
    head.append(this.reading);
    this.canvas = make("canvas");
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", `${chart.name}, measured and predicted`);
    this.root.append(head, this.canvas);
    this.listen();
  }

  listen() {
    const { canvas, shared } = this;
    const time = (event) => this.timeAt(event.clientX - canvas.getBoundingClientRect().left);
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      canvas.setPointerCapture(event.pointerId);
      this.drag = [time(event), time(event)];
    });
    canvas.addEventListener("pointermove", (event) => {
      if (this.drag) this.drag[1] = time(event);
      shared.point(time(event));
    });
    canvas.addEventListener("pointerup", () => {
      const [from, to] = (this.drag ?? [0, 0]).toSorted((a, b) => a - b);
      this.drag = null;
      if (to - from > 0.2) shared.set([from, to]);
      else shared.point(from);
    });
    canvas.addEventListener("pointercancel", () => (this.drag = null));
    canvas.addEventListener("pointerleave", () => shared.point(null));
    canvas.addEventListener("dblclick", () => shared.set(null));
  }

  timeAt(left) {
    const [from, to] = this.shared.range;
    const share = (left - EDGE.left) / (this.canvas.clientWidth - EDGE.left - EDGE.right);
    return from + Math.min(Math.max(share, 0), 1) * (to - from);
  }

  draw() {
    const { canvas, theme, shared } = this;
    const { width, height, ratio } = fitPixels(canvas);
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const [from, to] = shared.range;
    const [low, high] = this.bounds();
    const x = (time) => EDGE.left + ((time - from) / (to - from)) * (width - EDGE.left - EDGE.right);
    const y = (value) => height - EDGE.bottom - ((value - low) / (high - low)) * (height - EDGE.top - EDGE.bottom);
    this.axes(context, x, y, [low, high], width, height);
    context.save();
    context.beginPath();
    context.rect(EDGE.left, 0, width - EDGE.left - EDGE.right, height);
    context.clip();
    for (const line of this.chart.lines) this.line(context, line, x, y);
    if (this.drag) {
      context.fillStyle = theme.read("accent-soft");
      context.globalAlpha = 0.6;
      context.fillRect(x(this.drag[0]), 0, x(this.drag[1]) - x(this.drag[0]), height - EDGE.bottom);
      context.globalAlpha = 1;
    }
    if (shared.cursor !== null) {
      context.strokeStyle = theme.muted;
      context.lineWidth = 1;
      context.beginPath();
      context.moveTo(x(shared.cursor), EDGE.top);
      context.lineTo(x(shared.cursor), height - EDGE.bottom);
      context.stroke();
    }
    context.restore();
    this.read();
  }

  /** Lowest and highest value that are seen, with some room. */
  bounds() {
    const [from, to] = this.shared.range;
    let [low, high] = [Infinity, -Infinity];
    for (const { times, values } of this.chart.lines) {
      for (let i = indexAt(times, from); i < times.length && times[i] <= to; i++) {
        if (values[i] === null) continue;
        low = Math.min(low, values[i]);
        high = Math.max(high, values[i]);
      }
    }
    if (!(high >= low)) return [0, 1];
    const room = Math.max(0.06 * (high - low), 1e-3);
    return [low - room, high + room];
  }

  axes(context, x, y, [low, high], width, height) {
    const { theme, shared } = this;
    context.font = `11px ${theme.font}`;
    context.fillStyle = theme.muted;
    context.strokeStyle = theme.grid;
    context.lineWidth = 1;
    context.textAlign = "right";
    context.textBaseline = "middle";
    const rows = ticks(low, high, 5);
    for (const value of rows.at) {
      const top = Math.round(y(value)) + 0.5;
      context.beginPath();
      context.moveTo(EDGE.left, top);
      context.lineTo(width - EDGE.right, top);
      context.stroke();
      context.fillText(decimal(value, decimals(rows.step)), EDGE.left - 8, top);
    }
    context.textAlign = "center";
    context.textBaseline = "alphabetic";
    const columns = ticks(...shared.range, Math.max(2, width / 110));
    for (const time of columns.at) context.fillText(`${decimal(time, decimals(columns.step))} s`, x(time), height - 6);
  }

  line(context, line, x, y) {
    const [from, to] = this.shared.range;
    const { times, values } = line;
    context.strokeStyle = this.theme.read(LINE_COLOURS[line.name]);
    context.lineWidth = LINE_WIDTHS[line.name];
    context.lineJoin = "round";
    const breaks = line.windows ? new Set(this.windows.map(([first]) => first)) : new Set();
    context.beginPath();
    let last = null;
    for (let i = indexAt(times, from); i < times.length; i++) {
      if (values[i] === null) continue;
      const [left, top] = [x(times[i]), y(values[i])];
      if (last === null || breaks.has(i)) context.moveTo(left, top);
      else {
        if (line.held) context.lineTo(left, last);
        context.lineTo(left, top);
      }
      last = top;
      if (times[i] > to) break;
    }
    context.stroke();
  }

  /** Writes the values at the cursor. */
  read() {
    const time = this.shared.cursor;
    const words = this.chart.lines.map((line) => {
      const value = line.values[indexAt(line.times, time ?? 0)];
      return `${line.name} ${value === null ? "none" : decimal(value, 2)}`;
    });
    write(this.reading, time === null ? "" : `${decimal(time, 2)} s: ${words.join(", ")}`);
  }
}

/** A list of what lines mean. */
function legend(names, list = make("ul", "legend")) {
  for (const name of names) {
    const entry = make("li");
    entry.append(make("i", name), name);
    list.append(entry);
  }
  return list;
}
