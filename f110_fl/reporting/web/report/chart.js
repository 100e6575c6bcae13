// One chart: its heading, its axes, its series, and the crosshair that reads them.

// Around the curves, without texts, px; below them: lines of text.
const ROOM = { left: 12, right: 14, top: 8, bottom: 3.3 };
const LETTER = 0.58; // of the font's size: how wide a letter or digit is, on average
const LABELS = 12; // at most at the ends of lines: more would only be a heap

class Chart {
  /**
   * @param {string} id
   * @param {Link} link
   * @param {Painter} painter
   */
  constructor(id, link, painter) {
    Object.assign(this, { id, link, painter, scales: null, drawn: false, place: null });
    this.element = make("figure", "chart");
    this.element.id = `chart-${id.replace(/[^\w-]/g, "_")}`;
    this.title = make("span", "chart-title");
    this.headline = make("span", "headline");
    const caption = make("figcaption");
    caption.append(this.title, this.headline);
    this.plot = make("div", "plot");
    this.svg = draw("svg", { "aria-hidden": "true" });
    this.plot.append(this.svg);
    this.empty = make("p", "empty");
    this.element.append(caption, this.plot, this.empty);
    this.tip = new Tip(this.plot);
    link.charts.add(this);
    this.listen();
    painter.watch(this);
  }

  listen() {
    const point = (event) => {
      if (!this.scales) return;
      const box = this.svg.getBoundingClientRect();
      this.link.point(this.scales.x.value(event.clientX - box.left), this);
    };
    this.plot.addEventListener("pointermove", point);
    this.plot.addEventListener("pointerdown", point);
    this.plot.addEventListener("pointerleave", (event) => {
      if (event.pointerType === "mouse") this.link.point(null, null);
    });
    this.plot.addEventListener("blur", () => this.link.point(null, null));
    this.plot.addEventListener("keydown", (event) => this.key(event));
  }

  /**
   * Shows other numbers.
   * @param {object} spec
   * @param {string} spec.title
   * @param {string} [spec.unit]
   * @param {string} spec.axis of the x axis, see `axisOf`
   * @param {string} spec.form of the numbers, see `FORMS`
   * @param {Series[]} spec.series
   * @param {[number, number]} [spec.domain] of the y axis; else as the numbers are
   * @param {boolean} [spec.log]
   * @param {Series} [spec.main] whose last number is written in the heading
   * @param {string} spec.empty what is said without any number
   */
  set(spec) {
    this.spec = spec;
    write(this.title, spec.title);
    if (spec.unit) this.title.append(make("span", "unit", spec.unit));
    const some = spec.series.some((series) => series.some);
    this.plot.hidden = !some;
    this.empty.hidden = some;
    write(this.empty, some ? "" : spec.empty);
    const last = some && spec.main?.last;
    this.headline.replaceChildren();
    if (typeof last === "number") {
      this.headline.append(make("b", "", shown(last, spec.form)), ` ${spec.lastly ?? "last"}`);
    }
    this.plot.tabIndex = 0;
    this.plot.setAttribute("role", "slider");
    this.plot.setAttribute("aria-roledescription", "chart");
    this.plot.setAttribute("aria-label", `${spec.title}: chart, arrow keys read it`);
    this.painter.paint(this);
  }

  /** @returns {Series[]} those with numbers that are not hidden by the legend */
  get visible() {
    const { series, hidden } = this.spec;
    return series.filter((each) => each.some && !hidden?.has(each.key));
  }

  /** The series whose places the crosshair goes through. */
  get lead() {
    const all = this.visible;
    return all.find(({ weight }) => weight === "thick") ?? all[0] ?? null;
  }

  /** Draws everything but the crosshair. */
  draw() {
    if (this.plot.hidden) return void (this.drawn = true);
    const [width, height] = [this.plot.clientWidth, this.plot.clientHeight];
    if (!width || !height) return;
    this.size = parseFloat(getComputedStyle(this.plot).fontSize);
    const letter = LETTER * this.size;
    const base = height - ROOM.bottom * this.size;
    const all = this.visible;
    const log = Boolean(this.spec.log);
    const ys = all.flatMap((series) => [...series.values()]).filter((y) => !log || y > 0);
    const xs = all.flatMap(({ x }) => (x.length ? [x[0], x.at(-1)] : []));
    const most = Math.max(...xs, 1e-9);
    this.axis = axisOf(this.spec.axis, most);
    const ends = xs.length ? [Math.min(...xs), most] : [0, 1];
    const domain = [ends[0] < 0.1 * ends[1] ? 0 : ends[0], ends[1]];
    if (domain[0] === domain[1]) domain[0] -= 1;
    const y = new Scale(this.spec.domain ?? extentOf(ys, log), [base, ROOM.top], log);
    const ticks = this.spec.ticks ?? y.ticks(height / (4.2 * this.size));
    const texts = tickTexts(ticks, this.spec.form, log);
    const left = ROOM.left + letter * Math.max(...texts.map((text) => text.length), 1);
    const labels = this.labels(all, y);
    const wide = Math.max(0, ...labels.map(({ text }) => text.length));
    const right = width - ROOM.right - (wide && letter * wide + 12);
    const x = new Scale(domain, [left, right]);
    this.scales = { x, y };
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const layers = new Layers(x, y);
    const box = { x: left - 4, y: 0, width: right - left + 8, height: base + 2 };
    const clip = draw("svg", { ...box, viewBox: Object.values(box).join(" ") });
    const order = ["faint", "thin", "thick"];
    const sorted = [...all].sort((a, b) => order.indexOf(a.weight) - order.indexOf(b.weight));
    clip.append(...sorted.flatMap((series) => layers.of(series)));
    this.cursor = draw("g", { class: "cursor" });
    const grid = this.grid(ticks, texts, { left, right, height });
    this.svg.replaceChildren(...grid, clip, ...this.texts(labels, right), this.cursor);
    this.drawn = true;
    this.cross();
  }

  /** Axes: lines for numbers, and numbers beside them. */
  grid(ticks, texts, { left, right, height }) {
    const { scales, size } = this;
    const { x, y } = scales;
    const bottom = y.pixels[0];
    const found = [];
    ticks.forEach((tick, k) => {
      const top = Math.round(y.at(tick)) + 0.5;
      const base = Math.abs(tick) < 1e-12 && !y.log ? "grid zero" : "grid";
      found.push(draw("path", { d: `M${left} ${top}H${right}`, class: base }));
      found.push(draw("text", { x: left - 8, y: top + 0.32 * size, class: "tick end" }, texts[k]));
    });
    const { unit, tick, title } = this.axis;
    const own = x.domain.map((value) => value / unit);
    for (const value of roundTicks(...own, Math.max((right - left) / (5.3 * size), 2))) {
      if (this.spec.axis !== "seconds" && value % 1) continue;
      const place = x.at(value * unit);
      found.push(draw("path", { d: `M${tenth(place)} ${bottom}v4`, class: "grid zero" }));
      found.push(
        draw("text", { x: tenth(place), y: bottom + 5 + size, class: "tick middle" }, tick(value * unit)),
      );
    }
    found.push(draw("path", { d: `M${left} ${bottom + 0.5}H${right}`, class: "grid zero" }));
    found.push(draw("text", { x: right, y: height - 4, class: "axis end" }, title));
    return found;
  }

  /** What is written at the ends of lines. */
  labels(all, y) {
    const own = all.filter((series) => series.label);
    if (own.length > LABELS) return [];
    const found = own.flatMap((series) => {
      const k = series.y.findLastIndex((value) => value !== null && (!y.log || value > 0));
      if (k < 0) return [];
      const value = series.floor ? (series.floor[k] + series.roof[k]) / 2 : (series.drawn?.y ?? series.y)[k];
      return [{ series, text: series.label, top: y.at(value) }];
    });
    return spread(found, 1.1 * this.size, y.pixels[1] + 4, y.pixels[0]);
  }

  texts(labels, right) {
    return labels.flatMap(({ series, text, top }) => [
      tint(draw("circle", { cx: right + 9, cy: tenth(top), r: 3 }), "fill", series.colour),
      draw("text", { x: right + 16, y: tenth(top + 0.32 * this.size), class: "label" }, text),
    ]);
  }

  /**
   * What the series say where the crosshair is.
   * @returns {{x: number, rows: object[]} | null}
   */
  reading() {
    const { x } = this.link;
    const lead = this.spec && this.lead;
    if (x === null || !this.scales || !lead || this.plot.hidden) return null;
    this.place = nearest(lead.x, x);
    const at = lead.x[this.place];
    const rows = this.visible.flatMap((series) => {
      const found = series.reading(at);
      return found ? [{ series, ...found }] : [];
    });
    if (rows[0]?.series.floor) rows.reverse();
    else rows.sort((a, b) => b.value - a.value);
    return { x: at, rows };
  }

  /** Draws the crosshair, and says the numbers where it was moved in this chart. */
  cross() {
    if (!this.cursor) return;
    const reading = this.reading();
    this.cursor.replaceChildren();
    if (!reading) return this.tip.hide();
    const { x, y } = this.scales;
    const left = tenth(x.at(reading.x));
    this.cursor.append(draw("path", { d: `M${left} ${y.pixels[1]}V${y.pixels[0]}`, class: "hair" }));
    for (const { series, value, x: own } of reading.rows) {
      if (series.floor || (y.log && value <= 0)) continue;
      const dot = draw("circle", { cx: tenth(x.at(own)), cy: tenth(y.at(value)), r: 3.5 });
      this.cursor.append(tint(dot, "fill", series.colour));
    }
    const texts = reading.rows.map((row) => this.say(row));
    const heading = this.axis.write(reading.x);
    const said = texts.map(({ series, text, apart }) => `${series.name} ${text} ${apart}`.trim()).join(", ");
    this.plot.setAttribute("aria-valuenow", this.place);
    this.plot.setAttribute("aria-valuemin", 0);
    this.plot.setAttribute("aria-valuemax", this.lead.x.length - 1);
    this.plot.setAttribute("aria-valuetext", `${heading}: ${said}`);
    if (this.link.source === this) this.tip.show(heading, texts, left, this.plot.clientWidth);
    else this.tip.hide();
  }

  /** A number with its interval. */
  say({ series, value, band }) {
    const { form } = this.spec;
    const apart = band && series.weight !== "faint" ? `(${interval(...band, form)})` : "";
    return { series, text: shown(value, form), apart };
  }

  key(event) {
    const steps = { ArrowRight: 1, ArrowLeft: -1, PageDown: 10, PageUp: -10, Home: -1e9, End: 1e9 };
    const lead = this.spec && this.lead;
    if (!lead || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") this.link.point(null, null);
    if (!Object.hasOwn(steps, event.key)) return;
    event.preventDefault();
    const last = lead.x.length - 1;
    const now = this.link.x === null ? -1 : nearest(lead.x, this.link.x);
    const place = Math.min(Math.max(now + steps[event.key], 0), last);
    this.link.point(lead.x[place], this);
  }

  /** What tests may know. */
  state() {
    const reading = this.reading();
    const { title, series, hidden, log } = this.spec;
    return {
      ...{ id: this.id, title, log: Boolean(log), drawn: this.drawn },
      series: series.map((each) => ({
        ...{ key: each.key, name: each.name, hidden: Boolean(hidden?.has(each.key)) },
        points: each.y.filter((value) => value !== null).length,
      })),
      reading: reading && {
        x: reading.x,
        values: reading.rows.map((row) => ({
          key: row.series.key,
          name: row.series.name,
          x: row.x,
          value: row.value,
        })),
      },
    };
  }
}

/** The numbers beside an axis, all with as many digits. */
function tickTexts(ticks, form, log) {
  if (form === "share") return ticks.map(share);
  const size = Math.max(...ticks.map(Math.abs), 0);
  if (log) return ticks.map((tick) => (tick >= 1 ? compact(tick) : String(Number(tick.toPrecision(1)))));
  if (size >= 10000) return ticks.map(compact);
  const step = Math.abs(ticks[1] - ticks[0]) || 1;
  if (step < 1e-4) return ticks.map((tick) => (tick ? number(tick) : "0"));
  const digits = Math.max(0, Math.ceil(-Math.log10(step) - 1e-9));
  return ticks.map((tick) => decimal(tick, digits));
}
