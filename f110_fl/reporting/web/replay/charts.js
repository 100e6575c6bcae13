// Charts over the time of the episode, which a finger or a mouse on them moves.

const PLOT = { left: 50, right: 14, top: 6, bottom: 6, foot: 20 }; // px around the curves

/** Round numbers, two to five, between two. */
function ticks(low, high) {
  const power = 10 ** Math.floor(Math.log10((high - low) / 5));
  const count = (unit) => Math.floor(high / unit + 1e-9) - Math.ceil(low / unit - 1e-9) + 1;
  const unit = power * [1, 2, 5, 10].find((step) => step === 10 || count(step * power) <= 5);
  const found = [];
  for (let k = Math.ceil(low / unit - 1e-9); k * unit <= high + unit * 1e-9; k++) found.push(k * unit);
  return found;
}

/**
 * The smallest and the largest of curves, a little apart.
 * @param {object[]} curves
 * @param {number} [spikes] single values are cut if with them the range is so many times what the
 *   rest needs
 */
function extent(curves, spikes) {
  const sorted = Float64Array.from(curves.flatMap(({ values }) => [...values])).sort();
  let [low, high] = [sorted[0], sorted.at(-1)];
  const cut = Math.ceil(sorted.length / 100);
  const [usual, most] = [sorted[cut], sorted.at(-1 - cut)];
  if (spikes && high - low > spikes * (most - usual) && most > usual) {
    [low, high] = [usual - (most - usual) / 2, most + (most - usual) / 2];
  }
  if (low > 0 && low < 0.4 * high) low = 0;
  const room = 0.06 * (high - low) || 0.5;
  return [low === 0 ? 0 : low - room, high + room];
}

/** One chart: a heading with the numbers of now, and a canvas. */
class Plot {
  /**
   * @param {{title: string, unit: string, digits: number, curves: object[]}} content a curve is
   *   {name, colour, dashed, values}, values by frame; with `keyed`, names are shown
   * @param {boolean} foot whether the times are written below
   * @param {(share: number) => void} seek called with the share of the episode pointed at
   */
  constructor(content, foot, seek) {
    Object.assign(this, content, { foot });
    this.element = make("figure", `plot${foot ? " foot" : ""}${this.keyed ? " keyed" : ""}`);
    const caption = make("figcaption");
    const title = make("span", "plot-title", this.title);
    title.append(this.toggle ? this.button() : make("span", "unit", this.unit));
    this.readings = make("span", "readings");
    caption.append(title, this.readings);
    this.canvas = make("canvas");
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", `${this.title} over time`);
    this.element.append(caption, this.canvas);
    this.cells = this.curves
      .filter((curve) => !curve.dashed)
      .map((curve) => {
        const cell = make("span", "reading");
        const swatch = make("i", "swatch");
        const number = make("b");
        cell.title = curve.name;
        cell.append(swatch);
        if (this.keyed) cell.append(make("span", "key-name", curve.label ?? curve.name));
        cell.append(number);
        this.readings.append(cell);
        return { curve, swatch, number };
      });
    this.range = extent(this.curves, this.spikes);
    this.still = document.createElement("canvas");
    this.listen(seek);
  }

  /** The unit, which changes what is shown. */
  button() {
    const button = make("button", "", this.unit);
    button.type = "button";
    button.title = "Each step's, or the sum so far (R)";
    button.addEventListener("click", this.toggle);
    return button;
  }

  listen(seek) {
    const point = (event) => {
      const box = this.canvas.getBoundingClientRect();
      const across = box.width - PLOT.left - PLOT.right;
      seek(Math.min(Math.max((event.clientX - box.left - PLOT.left) / across, 0), 1));
    };
    this.canvas.addEventListener("pointerdown", (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      point(event);
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (this.canvas.hasPointerCapture(event.pointerId)) point(event);
    });
  }

  /** Where a value lies, px from above. */
  top(value, height) {
    const [low, high] = this.range;
    const bottom = height - PLOT.bottom - (this.foot ? PLOT.foot : 0);
    return bottom - ((value - low) / (high - low)) * (bottom - PLOT.top);
  }

  /** Draws what does not change with time. */
  drawStill(theme, seconds, last, marks) {
    const { width, height, ratio } = fitPixels(this.canvas);
    Object.assign(this, { width, height, ratio, last });
    this.still.width = this.canvas.width;
    this.still.height = this.canvas.height;
    if (!width || !height) return;
    const context = this.still.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.drawGrid(context, theme, seconds);
    const across = width - PLOT.left - PLOT.right;
    for (const mark of marks) {
      context.fillStyle = theme[mark.colour];
      context.globalAlpha = 0.7;
      context.fillRect(PLOT.left + (mark.frame / last) * across - 0.75, PLOT.top, 1.5, this.bottom - PLOT.top);
    }
    context.lineJoin = "round";
    context.save();
    context.beginPath();
    context.rect(PLOT.left - 2, PLOT.top - 2, across + 4, this.bottom - PLOT.top + 4);
    context.clip();
    for (const curve of this.curves) {
      context.strokeStyle = theme.car(curve.colour);
      context.globalAlpha = curve.dashed ? 0.65 : 1;
      context.lineWidth = curve.dashed ? 1.2 : 1.6;
      context.setLineDash(curve.dashed ? [4, 3] : []);
      context.beginPath();
      curve.values.forEach((value, frame) => {
        if (frame <= last) context.lineTo(PLOT.left + (frame / last) * across, this.top(value, height));
      });
      context.stroke();
    }
    context.restore();
    for (const { swatch, curve } of this.cells) swatch.style.background = theme.car(curve.colour);
  }

  drawGrid(context, theme, seconds) {
    const { width, height } = this;
    this.bottom = this.top(this.range[0], height);
    context.font = `11px ${theme.font}`;
    context.fillStyle = theme.muted;
    context.textBaseline = "middle";
    context.textAlign = "right";
    const marks = ticks(...this.range);
    const digits = Math.max(0, -Math.floor(Math.log10(Math.abs(marks[1] - marks[0]) || 1) + 1e-9));
    for (const value of marks) {
      const y = Math.round(this.top(value, height)) + 0.5;
      context.strokeStyle = theme.grid;
      context.globalAlpha = Math.abs(value) < 1e-9 ? 1 : 0.6;
      context.beginPath();
      context.moveTo(PLOT.left, y);
      context.lineTo(width - PLOT.right, y);
      context.stroke();
      context.globalAlpha = 1;
      context.fillText(decimal(value, digits), PLOT.left - 7, y);
    }
    if (!this.foot) return;
    context.textAlign = "center";
    const across = width - PLOT.left - PLOT.right;
    for (const time of ticks(0, seconds)) {
      const text = `${Number(time.toFixed(3))} s`;
      const x = Math.min(PLOT.left + (time / seconds) * across, width - 14);
      context.fillText(text, x, this.bottom + PLOT.foot / 2 + 3);
    }
  }

  /** Draws the chart at a time. */
  draw(theme, at) {
    const { canvas, width, height, ratio } = this;
    const context = canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (width && height) {
      context.drawImage(this.still, 0, 0);
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      const x = PLOT.left + (at / this.last) * (width - PLOT.left - PLOT.right);
      context.fillStyle = theme.text;
      context.fillRect(x - 0.5, PLOT.top, 1, this.bottom - PLOT.top);
    }
    for (const { curve, number } of this.cells) {
      const value = curve.values[Math.min(Math.floor(at), curve.values.length - 1)];
      write(number, decimal(value, this.digits));
      if (!width || !height) continue;
      const x = PLOT.left + (Math.floor(at) / this.last) * (width - PLOT.left - PLOT.right);
      context.fillStyle = theme.car(curve.colour);
      context.beginPath();
      const y = Math.min(Math.max(this.top(value, height), PLOT.top), this.bottom);
      context.arc(x, y, 3, 0, 2 * Math.PI);
      context.fill();
    }
  }
}

/** @returns {Float64Array} the sums up to each value */
function sums(values) {
  let sum = 0;
  return values.map((value) => (sum += value));
}

/** @returns {Float64Array} numbers of one agent, by frame: 0 for a car that is none */
function ofAgent(episode, values, car) {
  const { agents } = episode.recording.raw;
  const place = agents.indexOf(car);
  if (!values || place < 0) return new Float64Array(episode.frames);
  return episode.column(values, agents.length, place);
}

/**
 * What the terms of an agent's reward paid, as curves: those that paid anything, in the order of
 * the settings. If there are more than colours, those that paid least are one curve.
 * @param {Episode[]} both the episode and perhaps the ghost's
 * @param {number} car
 * @param {boolean} summed
 */
function termCurves(both, car, summed) {
  const names = [...new Set(both.flatMap((each) => [...each.terms.keys()]))];
  const size = (values) => values.reduce((sum, value) => sum + Math.abs(value), 0);
  let found = names
    .map((name) => ({ name, paid: both.map((each) => ofAgent(each, each.terms.get(name), car)) }))
    .map((term) => ({ ...term, size: Math.max(...term.paid.map(size)) }))
    .filter((term) => term.size > 0);
  if (found.length > CAR_COLOURS) {
    const least = [...found].sort((a, b) => a.size - b.size).slice(0, found.length - CAR_COLOURS + 1);
    found = found.filter((term) => !least.includes(term));
    const paid = both.map((_, k) => least[0].paid[k].map((_, t) => least.reduce((sum, term) => sum + term.paid[k][t], 0)));
    found.push({ name: least.map(({ name }) => name).join(", "), label: `${least.length} others`, paid });
  }
  return both.flatMap((_, k) =>
    found.map(({ name, label, paid }, colour) => ({
      ...{ name, label, colour, dashed: k > 0 },
      values: summed ? sums(paid[k]) : paid[k],
    })),
  );
}

/**
 * What is shown of an episode, and of the ghost's.
 * @param {Episode} episode
 * @param {Episode | null} ghost
 * @param {number} selected the car whose reward is shown term by term; the first agent's if it
 *   is none
 * @param {boolean} summed whether rewards are summed up
 * @param {() => void} toggle changes that
 */
function contents(episode, ghost, selected, summed, toggle) {
  const { cars, agents } = episode.recording.raw;
  const both = [episode, ...(ghost ? [ghost] : [])];
  const curves = (indices, values) =>
    both.flatMap((each) =>
      indices.map((index) => ({
        name: cars[index].name,
        colour: index,
        dashed: each === ghost,
        values: values(each, index),
      })),
    );
  const every = cars.map((_, index) => index);
  const column = (name) => (each, car) => each.column(each[name], each.cars, car);
  const how = { digits: summed ? 2 : 3, toggle, unit: summed ? "sum" : "per step" };
  const found = [
    { title: "Speed", unit: "m/s", digits: 2, curves: curves(every, column("speed")) },
    { title: "Steering", unit: "rad", digits: 2, curves: curves(every, column("steer")) },
  ];
  if (agents.length) {
    const paid = (each, car) => {
      const own = ofAgent(each, each.reward, car);
      return summed ? sums(own) : own;
    };
    found.push({ title: "Reward", ...how, spikes: summed ? undefined : 10, curves: curves(agents, paid) });
    const agent = agents.includes(selected) ? selected : agents[0];
    const terms = termCurves(both, agent, summed);
    const whose = agents.length > 1 ? ` of ${cars[agent].name}` : "";
    if (terms.length) found.push({ title: `Reward terms${whose}`, ...how, spikes: summed ? 3 : 10, keyed: true, curves: terms });
  }
  const hunters = every.filter((car) => cars[car].target !== null);
  if (hunters.length) {
    const away = curves(hunters, (each, car) => each.distance(car, cars[car].target));
    const seen = new Set(); // two cars after each other are equally far apart
    const once = away.filter(({ colour, dashed }) => {
      const pair = `${[colour, cars[colour].target].sort()} ${dashed}`;
      return !seen.has(pair) && seen.add(pair);
    });
    found.push({ title: "Distance to target", unit: "m", digits: 2, curves: once });
  }
  return found;
}

/** All charts of an episode, below each other. */
class Charts {
  constructor(parent, theme, seek) {
    Object.assign(this, { parent, theme, seek, plots: [], stale: true, summed: false });
    new ResizeObserver(() => this.refresh()).observe(parent);
    theme.onChange(() => this.refresh());
  }

  /** Draws anew what does not change with time, at the next frame. */
  refresh() {
    this.stale = true;
  }

  /** Shows an episode and, dashed, a ghost's; of the selected car, also its reward's terms. */
  show(episode, ghost, selected) {
    Object.assign(this, { episode, ghost, selected });
    const all = contents(episode, ghost, selected, this.summed, () => this.sum());
    this.plots = all.map(
      (content, k) => new Plot(content, k === all.length - 1, (share) => this.seek(share * episode.last)),
    );
    this.parent.replaceChildren(...this.plots.map((plot) => plot.element));
    this.refresh();
  }

  /** Changes between each step's rewards and their sums. */
  sum() {
    this.summed = !this.summed;
    const focused = this.parent.contains(document.activeElement);
    this.show(this.episode, this.ghost, this.selected);
    if (focused) this.parent.querySelector("button").focus();
  }

  /** @returns {object[]} moments worth a line: the ends of cars' episodes */
  get marks() {
    return this.episode.ends
      .filter(({ outcome }) => !["none", "other_done"].includes(outcome))
      .map((end) => ({ frame: end.frame, colour: outcomeOf(end.outcome).colour }));
  }

  draw(at) {
    const last = Math.max(this.episode.last, 1);
    if (this.stale) {
      const seconds = last * this.episode.period;
      for (const plot of this.plots) plot.drawStill(this.theme, seconds, last, this.marks);
      this.stale = false;
    }
    for (const plot of this.plots) plot.draw(this.theme, at);
  }
}
