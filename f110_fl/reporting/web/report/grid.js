// Charts beside each other, their legend, and who draws them when.

/** Draws charts: those that are seen at once, the others when nothing else is to be done. */
class Painter {
  constructor() {
    Object.assign(this, { stale: new Set(), owners: new Map(), waiting: false });
    this.sizes = new ResizeObserver((entries) => {
      for (const { target } of entries) {
        const chart = this.owners.get(target);
        if (chart && chart.plot.clientWidth !== chart.width) this.paint(chart);
      }
    });
  }

  /** Has a chart drawn anew whenever its size changes. */
  watch(chart) {
    this.owners.set(chart.plot, chart);
    this.sizes.observe(chart.plot);
  }

  forget(chart) {
    this.owners.delete(chart.plot);
    this.sizes.unobserve(chart.plot);
    this.stale.delete(chart);
  }

  /** Has a chart drawn soon. */
  paint(chart) {
    this.stale.add(chart);
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => this.seen());
  }

  /** Draws what is seen. */
  seen() {
    this.waiting = false;
    for (const chart of [...this.stale]) {
      const { top, bottom } = chart.element.getBoundingClientRect();
      if (bottom > -200 && top < innerHeight + 200) this.draw(chart);
    }
    this.later();
  }

  later() {
    if (!this.stale.size || this.idle) return;
    const soon = window.requestIdleCallback ?? ((then) => setTimeout(then, 30));
    this.idle = soon(() => {
      this.idle = null;
      for (const chart of [...this.stale].slice(0, 4)) this.draw(chart);
      this.later();
    });
  }

  /** Draws everything now, for example before it is printed. */
  all() {
    for (const chart of [...this.stale]) this.draw(chart);
  }

  draw(chart) {
    this.stale.delete(chart);
    chart.width = chart.plot.clientWidth;
    chart.draw();
  }
}

/** Charts with a common crosshair; those that stay are kept, with their focus. */
class Grid {
  /**
   * @param {HTMLElement} box
   * @param {Painter} painter
   */
  constructor(box, painter) {
    Object.assign(this, { box, painter, link: new Link(), charts: new Map() });
  }

  /** @param {object[]} specs see `Chart.set`, each with an `id` */
  show(specs) {
    const ids = new Set(specs.map(({ id }) => id));
    for (const [id, chart] of this.charts) {
      if (ids.has(id)) continue;
      this.painter.forget(chart);
      this.link.charts.delete(chart);
      chart.element.remove();
      this.charts.delete(id);
    }
    specs.forEach((spec, k) => {
      if (!this.charts.has(spec.id)) this.charts.set(spec.id, new Chart(spec.id, this.link, this.painter));
      const chart = this.charts.get(spec.id);
      if (this.box.children[k] !== chart.element)
        this.box.insertBefore(chart.element, this.box.children[k] ?? null);
      chart.set(spec);
    });
  }
}

/** What the colours mean; each entry hides its series, and shows them again. */
class Legend {
  /**
   * @param {HTMLElement} box
   * @param {(key: string) => void} toggle
   */
  constructor(box, toggle) {
    Object.assign(this, { box, toggle });
  }

  /**
   * @param {Series[]} all one for each entry
   * @param {Set<string>} hidden keys
   */
  show(all, hidden) {
    const focused = this.box.contains(document.activeElement) && document.activeElement.dataset.key;
    const entries = new Map(all.map((series) => [series.key, series]));
    this.box.replaceChildren(
      ...[...entries.values()].map((series) => {
        const button = make("button", "entry");
        button.type = "button";
        button.dataset.key = series.key;
        button.setAttribute("aria-pressed", !hidden.has(series.key));
        button.title = "Hide or show";
        button.append(swatch(series), make("span", "", series.name));
        button.addEventListener("click", () => this.toggle(series.key));
        return button;
      }),
    );
    this.box.hidden = entries.size < 2;
    if (focused) [...this.box.children].find(({ dataset }) => dataset.key === focused)?.focus();
  }
}
