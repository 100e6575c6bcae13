// Who took part in which round: a row for each client, a column for each round.

const CELL = { height: 18, gap: 2, left: 7, foot: 22 }; // px; left: of the font's size

const PARTS = {
  took: "took part",
  dropped: "dropped",
  asked: "asked, no reply is recorded",
  idle: "not asked",
};

/** @returns {{kind: string, why: string}} what a client did in a round */
function partOf(round, client) {
  if (Object.hasOwn(round.dropped ?? {}, client)) return { kind: "dropped", why: round.dropped[client] };
  if ((round.clients ?? []).includes(client)) return { kind: "took", why: "" };
  return { kind: (round.asked ?? []).includes(client) ? "asked" : "idle", why: "" };
}

class Strip {
  /**
   * @param {HTMLElement} box
   * @param {Painter} painter
   */
  constructor(box, painter) {
    Object.assign(this, { element: box, plot: box, painter, at: null });
    this.svg = draw("svg", { "aria-hidden": "true" });
    box.append(this.svg);
    this.tip = new Tip(box);
    box.tabIndex = 0;
    box.setAttribute("role", "slider");
    box.setAttribute("aria-roledescription", "grid of rounds and clients");
    box.setAttribute("aria-label", "Who took part in which round: arrow keys read it");
    box.addEventListener("pointermove", (event) => this.pointed(event));
    box.addEventListener("pointerdown", (event) => this.pointed(event));
    box.addEventListener("pointerleave", () => this.point(null));
    box.addEventListener("blur", () => this.point(null));
    box.addEventListener("keydown", (event) => this.key(event));
    painter.watch(this);
  }

  /** @param {Run} run */
  set(run) {
    this.run = run;
    this.element.setAttribute("aria-valuemin", 0);
    this.element.setAttribute("aria-valuemax", Math.max(run.history.length - 1, 0));
    this.element.style.height = `${run.clients.length * (CELL.height + CELL.gap) + CELL.foot}px`;
    this.painter.paint(this);
  }

  draw() {
    const { run } = this;
    const width = this.plot.clientWidth;
    if (!run || !width || !run.history.length) return;
    const rounds = run.history.length;
    const height = run.clients.length * (CELL.height + CELL.gap) + CELL.foot;
    this.left = CELL.left * parseFloat(getComputedStyle(this.plot).fontSize);
    this.step = Math.min((width - this.left) / rounds, 34);
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const paths = { took: "", dropped: "", asked: "", idle: "" };
    const texts = [];
    run.clients.forEach((client, row) => {
      const top = row * (CELL.height + CELL.gap);
      texts.push(draw("text", { x: this.left - 10, y: top + 13, class: "tick end" }, clientName(client)));
      run.history.forEach((round, k) => {
        paths[partOf(round, client).kind] += this.cell(k, top, partOf(round, client).kind);
      });
    });
    const marks = Object.entries(paths).map(([kind, d]) => draw("path", { d, class: `part ${kind}` }));
    this.frame = draw("rect", { class: "frame", rx: 3, visibility: "hidden" });
    this.svg.replaceChildren(...texts, ...marks, ...this.numbers(height), this.frame);
  }

  /** A full cell, a cross, a ring or a dot: the shapes tell without colour. */
  cell(k, top, kind) {
    const gap = this.step > 5 ? 1 : 0.2;
    const [left, wide] = [tenth(this.left + k * this.step + gap), tenth(this.step - 2 * gap)];
    const [middle, centre, arm] = [tenth(left + wide / 2), top + CELL.height / 2, Math.min(wide / 2, 4)];
    const full = kind === "took" || (kind === "dropped" && wide < 7);
    if (full) return `M${left} ${top}h${wide}v${CELL.height}h${-wide}Z`;
    if (kind === "dropped") {
      const cross = `M${middle - arm} ${centre - 4}L${middle + arm} ${centre + 4}`;
      return `${cross}M${middle - arm} ${centre + 4}L${middle + arm} ${centre - 4}`;
    }
    if (kind === "asked") return `M${left} ${centre}h${wide}`;
    return `M${middle} ${centre}h0`;
  }

  numbers(height) {
    const { history } = this.run;
    const [first, last] = [history[0].round, history.at(-1).round];
    const wanted = Math.max((history.length * this.step) / 60, 1);
    const ticks = first === last ? [first] : roundTicks(first, last, wanted);
    return ticks.flatMap((tick) => {
      const k = history.findIndex(({ round }) => round === tick);
      if (k < 0) return [];
      const left = tenth(this.left + (k + 0.5) * this.step);
      return [draw("text", { x: left, y: height - 6, class: "tick middle" }, count(tick))];
    });
  }

  pointed(event) {
    if (!this.step) return;
    const box = this.svg.getBoundingClientRect();
    const k = Math.floor((event.clientX - box.left - this.left) / this.step);
    const row = Math.floor((event.clientY - box.top) / (CELL.height + CELL.gap));
    const inside = k >= 0 && k < this.run.history.length && row >= 0 && row < this.run.clients.length;
    this.point(inside ? { k, row } : null);
  }

  /** Points at a round of a client, or at none. */
  point(at) {
    this.at = at;
    if (!this.frame) return;
    this.frame.setAttribute("visibility", at ? "visible" : "hidden");
    if (!at) return this.tip.hide();
    const left = this.left + at.k * this.step;
    const top = at.row * (CELL.height + CELL.gap);
    const frame = { x: tenth(left - 0.5), y: top - 1, width: tenth(this.step + 1), height: CELL.height + 2 };
    for (const [name, value] of Object.entries(frame)) this.frame.setAttribute(name, value);
    const { heading, text } = this.words();
    this.element.setAttribute("aria-valuenow", at.k);
    this.element.setAttribute("aria-valuetext", `${heading}: ${text}`);
    this.tip.show(heading, [], left + this.step, this.plot.clientWidth);
    this.tip.box.append(make("p", "", text));
    this.tip.box.style.top = `${top + CELL.height + 6}px`;
  }

  words() {
    const { run, at } = this;
    const [round, client] = [run.history[at.k], run.clients[at.row]];
    const { kind, why } = partOf(round, client);
    const heading = `round ${round.round}, ${clientName(client)}`;
    return { heading, text: why ? `${PARTS[kind]}: ${why}` : PARTS[kind] };
  }

  key(event) {
    const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.key === "Escape") this.point(null);
    if (!Object.hasOwn(ways, event.key) || !this.run?.history.length) return;
    event.preventDefault();
    const [along, down] = ways[event.key];
    const { k, row } = this.at ?? { k: this.run.history.length - 1 - along, row: -down };
    const within = (value, most) => Math.min(Math.max(value, 0), most - 1);
    this.point({
      k: within(k + along, this.run.history.length),
      row: within(row + down, this.run.clients.length),
    });
  }
}
