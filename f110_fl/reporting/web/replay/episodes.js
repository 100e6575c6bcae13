// The list of episodes: sorted by any column, filtered by outcome.

const COLUMNS = [
  { key: "number", title: "#", hint: "number of the episode's seed" },
  { key: "outcome", title: "Outcome", hint: "outcome of the selected car" },
  { key: "reward", title: "Return", hint: "return of the selected car" },
  { key: "lap", title: "Lap", hint: "best lap time" },
  { key: "time", title: "Time", hint: "duration" },
];

class EpisodeList {
  /** @param {App} app */
  constructor(app) {
    Object.assign(this, { app, sort: "number", down: false, outcome: null });
    this.box = byId("episode-list");
    this.chips = byId("filters");
    this.heads = COLUMNS.map((column) => this.head(column));
    byId("columns").replaceChildren(...this.heads);
    this.box.addEventListener("keydown", (event) => this.key(event));
  }

  head({ key, title, hint }) {
    const button = make("button", `head ${key}`, title);
    button.type = "button";
    button.title = `Sort by ${hint}`;
    button.addEventListener("click", () => {
      this.down = this.sort === key ? !this.down : key === "reward";
      this.sort = key;
      this.update();
    });
    return button;
  }

  /** What the list shows of an episode, for the selected car. */
  facts(raw) {
    const { recording, selected } = this.app;
    const agent = recording.raw.agents.indexOf(selected);
    const laps = raw.lapTimes[selected];
    return {
      number: raw.number,
      outcome: raw.ends[selected].outcome,
      reward: agent < 0 ? null : raw.returns[agent],
      lap: laps.length ? Math.min(...laps) : null,
      time: (raw.frames - 1) * recording.raw.period,
    };
  }

  /** Lists anew. */
  update() {
    const all = this.app.recording.raw.episodes.map((raw) => this.facts(raw));
    this.drawChips(all);
    const kept = all.filter(({ outcome }) => !this.outcome || outcome === this.outcome);
    const sign = this.down ? -1 : 1;
    kept.sort((a, b) => {
      const [one, two] = [a[this.sort], b[this.sort]];
      if (one === null || two === null) return (one === null) - (two === null); // none last
      return (one < two ? -sign : one > two ? sign : 0) || a.number - b.number;
    });
    this.numbers = kept.map(({ number }) => number);
    this.heads.forEach((head, k) => {
      const on = COLUMNS[k].key === this.sort;
      head.dataset.sorted = on ? (this.down ? "down" : "up") : "";
      head.setAttribute("aria-pressed", on);
    });
    const empty = ["reward", "lap"].filter((key) => all.every((facts) => facts[key] === null));
    this.heads.forEach((head, k) => (head.hidden = empty.includes(COLUMNS[k].key)));
    document.documentElement.dataset.columns = COLUMNS.length - empty.length;
    this.box.replaceChildren(...kept.map((facts) => this.row(facts, empty)));
    this.mark();
  }

  /** One button for each outcome that occurs, with how often it does. */
  drawChips(all) {
    const counts = new Map();
    for (const { outcome } of all) counts.set(outcome, (counts.get(outcome) ?? 0) + 1);
    if (!counts.has(this.outcome)) this.outcome = null;
    const chips = [[null, all.length], ...[...counts].sort((a, b) => b[1] - a[1])];
    this.chips.replaceChildren(
      ...chips.map(([outcome, count]) => {
        const chip = make("button", "chip");
        chip.type = "button";
        chip.dataset.outcome = outcome ?? "";
        chip.setAttribute("aria-pressed", outcome === this.outcome);
        if (outcome) chip.append(this.dot(outcome));
        const word = outcome ? outcomeOf(outcome).word : "All";
        chip.append(make("span", "", word), make("span", "count", String(count)));
        chip.addEventListener("click", () => {
          this.outcome = outcome;
          this.update();
          this.chips.querySelector('[aria-pressed="true"]').focus();
        });
        return chip;
      }),
    );
  }

  dot(outcome, hollow = false) {
    return make("i", `dot ${outcomeOf(outcome).colour}${hollow ? " hollow" : ""}`);
  }

  /** @param {string[]} empty columns that are left out */
  row({ number, outcome, reward, lap, time }, empty) {
    const row = make("div", "row");
    row.id = `episode-${number}`;
    row.setAttribute("role", "option");
    row.dataset.number = number;
    const badge = make("span", "outcome");
    badge.append(this.dot(outcome));
    const rival = this.app.rival?.raw.episodes.find((each) => each.number === number);
    if (rival) {
      const its = this.dot(rival.ends[this.app.selected].outcome, true);
      its.title = `${this.app.rival.name}: ${outcomeOf(rival.ends[this.app.selected].outcome).word}`;
      badge.append(its);
    }
    badge.append(make("span", "", outcomeOf(outcome).word));
    row.append(make("span", "number", String(number)), badge);
    const numbers = { reward: [reward, 2], lap: [lap, 2], time: [time, 1] };
    for (const [key, [value, digits]] of Object.entries(numbers)) {
      if (empty.includes(key)) continue;
      row.append(make("span", key, value === null ? "\u2013" : decimal(value, digits)));
    }
    row.addEventListener("click", () => this.app.show(number));
    return row;
  }

  /** Marks the episode that is shown. */
  mark() {
    const number = this.app.number;
    for (const row of this.box.children) {
      row.setAttribute("aria-selected", Number(row.dataset.number) === number);
    }
    const shown = byId(`episode-${number}`);
    this.box.setAttribute("aria-activedescendant", shown ? shown.id : "");
    if (shown) this.reveal(shown);
  }

  /** Scrolls the list, and nothing else, so that a row is seen. */
  reveal(row) {
    const [box, own] = [this.box.getBoundingClientRect(), row.getBoundingClientRect()];
    if (own.top < box.top) this.box.scrollTop -= box.top - own.top;
    if (own.bottom > box.bottom) this.box.scrollTop += own.bottom - box.bottom;
  }

  /** Shows the next episode of those listed, or one before. */
  go(by) {
    if (!this.numbers.length) return;
    const place = this.numbers.indexOf(this.app.number);
    const next = place < 0 ? 0 : Math.min(Math.max(place + by, 0), this.numbers.length - 1);
    this.app.show(this.numbers[next]);
  }

  key(event) {
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -1e9, End: 1e9 };
    if (!Object.hasOwn(steps, event.key) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    this.go(steps[event.key]);
  }
}
