// The whole page: its data, what of it is chosen, its sections, and the loop that draws.

class App {
  /** @param {object} raw the page's data */
  constructor(raw) {
    this.model = new Model(raw);
    this.choice = new Choice(this.model);
    this.theme = new Theme();
    this.painter = new Painter();
    this.machine = new Machine(this);
    this.sections = [
      new Summary(this),
      new Curves(this),
      new Rounds(this),
      new Globals(this),
      new Comparison(this),
      new Settings(this),
    ];
    byId("theme").addEventListener("click", () => this.theme.toggle());
    document.addEventListener("keydown", (event) => {
      const typed = event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement;
      if (event.key === "d" && !typed && !event.ctrlKey && !event.metaKey && !event.altKey)
        this.theme.toggle();
    });
    this.printing();
    followSections();
  }

  /** The run whose clients and rounds are shown; null where groups are compared. */
  get run() {
    return this.choice.run === null ? null : this.model.runs[this.choice.run];
  }

  /** Has everything drawn anew. */
  async update() {
    for (const section of this.sections) section.update();
    await this.machine.update();
  }

  /**
   * Chooses what is seen.
   * @param {object} changes of the choice
   * @param {string} [section] where to go
   */
  choose(changes, section) {
    Object.assign(this.choice, changes);
    this.choice.fit(this.model);
    this.update();
    if (section) byId(section).scrollIntoView();
  }

  /** Hides a series in all charts, or shows it again. */
  toggle(key) {
    const { hidden } = this.choice;
    if (!hidden.delete(key)) hidden.add(key);
    for (const each of this.sections) each.update();
  }

  /** Shows a section, and the link to it, or hides both. */
  show(id, there) {
    byId(id).hidden = !there;
    for (const link of document.querySelectorAll(`nav a[href="#${id}"]`)) link.hidden = !there;
  }

  /** Takes other data; what is chosen stays chosen. */
  replace(raw) {
    this.model = new Model(raw);
    this.choice.fit(this.model);
    return this.update();
  }

  /** On paper everything is light, and everything is there. */
  printing() {
    let dark = false;
    addEventListener("beforeprint", () => {
      dark = this.theme.dark;
      if (dark) this.theme.use(false);
      this.painter.all();
      this.machine.invalidate();
      this.machine.draw(performance.now());
    });
    addEventListener("afterprint", () => dark && this.theme.use(true));
  }

  /** What tests may know. */
  state() {
    const { run, axis, client, agent, log, smooth, hidden } = this.choice;
    const grids = this.sections.flatMap((each) => [each.grid, each.losses].filter(Boolean));
    const charts = grids.flatMap(({ charts: own }) => [...own.values()].map((chart) => chart.state()));
    const chosen = { run, axis, client, agent, log, smooth, hidden: [...hidden] };
    return {
      ...chosen,
      dark: this.theme.dark,
      pending: this.painter.stale.size,
      charts,
      machine: this.machine.state(),
    };
  }
}

/** Marks the link to the section that is read. */
function followSections() {
  const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
  const seen = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        if (!isIntersecting) continue;
        for (const [id, link] of links) {
          if (id === target.id) link.setAttribute("aria-current", "true");
          else link.removeAttribute("aria-current");
        }
      }
    },
    { rootMargin: "-30% 0px -65% 0px" },
  );
  links.values().next().value.setAttribute("aria-current", "true");
  for (const id of links.keys()) seen.observe(byId(id));
}

/** Starts the page; `data-ready` at the root says that everything that is seen is drawn. */
async function start() {
  const root = document.documentElement;
  const text = byId("data").textContent;
  try {
    const app = new App(JSON.parse(text));
    window.report = Object.freeze({ state: () => app.state() });
    await app.update();
    const loop = (now) => {
      app.machine.draw(now);
      root.dataset.ready = "1";
      requestAnimationFrame(loop);
    };
    requestAnimationFrame(loop);
    new Live(app, text).begin();
  } catch (error) {
    const old = typeof DecompressionStream === "undefined";
    byId("trouble").hidden = false;
    byId("trouble").textContent = old ? "This browser is too old for this page." : error.message;
    root.dataset.ready = "1";
    throw error;
  }
}

start();
