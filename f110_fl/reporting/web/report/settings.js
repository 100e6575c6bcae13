// The settings that differ from the defaults or between the runs; the machine; the starts.

class Settings {
  /** @param {App} app */
  constructor(app) {
    Object.assign(this, { app, text: "", differing: false });
    byId("filter").addEventListener("input", ({ target }) => {
      this.text = target.value.trim().toLowerCase();
      this.table();
    });
    byId("differing").addEventListener("click", () => {
      this.differing = !this.differing;
      this.table();
    });
  }

  update() {
    byId("differing").hidden = this.app.model.runs.length < 2;
    this.table();
    byId("machines").replaceChildren(...machines(this.app.model.runs));
    byId("origins").classList.toggle("many", this.app.model.runs.length > 1);
    byId("starts").replaceChildren(...this.app.model.runs.map(startsOf));
  }

  table() {
    const { model } = this.app;
    const all = model.raw.settings ?? [];
    const differs = ({ values }) => new Set(values).size > 1;
    const fits = ({ key, values, default: usual }) =>
      [key, usual, ...values].some((text) => text?.toLowerCase().includes(this.text));
    const kept = all.filter((row) => fits(row) && (!this.differing || differs(row)));
    byId("differing").setAttribute("aria-pressed", this.differing);
    const columns = [
      { title: "Setting", words: true },
      { title: "Default", words: true },
    ];
    columns.push(
      ...(model.runs.length > 1
        ? model.runs.map(({ name }) => ({ title: name, words: true }))
        : [{ title: "Here", words: true }]),
    );
    const rows = kept.map((row) => {
      const key = make("code", "", row.key);
      return [key, setting(row.default, false), ...row.values.map((value) => setting(value, differs(row)))];
    });
    fillTable(byId("settings-table"), columns, rows, "Settings");
    byId("settings-table").hidden = !kept.length;
    const none = all.length ? "No setting fits." : "All settings are the defaults.";
    write(byId("settings-empty"), kept.length ? "" : none);
    write(byId("settings-count"), all.length ? `${kept.length} of ${plural(all.length, "setting")}` : "");
  }
}

/** A setting's value; absent in a run that has no such setting. */
function setting(value, differs) {
  if (value === null || value === undefined) return make("span", "absent", "not there");
  return make("code", differs ? "differs" : "", value);
}

/** The machines, each once with the runs that ran on it. */
function machines(runs) {
  const found = new Map();
  for (const { raw, name } of runs) {
    const key = JSON.stringify(raw.machine ?? []);
    found.set(key, [...(found.get(key) ?? []), name]);
  }
  const boxes = [...found]
    .filter(([key]) => key !== "[]")
    .map(([key, names]) => {
      const box = make("div");
      if (found.size > 1) box.append(make("h3", "", list(names)));
      const pairs = make("dl", "pairs");
      for (const [what, text] of JSON.parse(key)) pairs.append(make("dt", "", what), make("dd", "", text));
      box.append(pairs);
      return box;
    });
  return boxes.length ? boxes : [make("p", "empty", "Nothing is recorded of the machine.")];
}

function startsOf({ raw, name }, index, all) {
  const box = make("div");
  if (all.length > 1) box.append(make("h3", "", name));
  if (!raw.starts?.length) {
    box.append(make("p", "empty", "No start is recorded."));
    return box;
  }
  const items = make("ol", "starts");
  for (const { at, resumed, command } of raw.starts) {
    const item = make("li");
    item.append(make("span", "when", `${at}${resumed ? ", resumed" : ""}`), make("code", "", command));
    items.append(item);
  }
  box.append(items);
  return box;
}
