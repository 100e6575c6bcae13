// Groups of runs beside each other, and their differences.

class Comparison {
  /** @param {App} app */
  constructor(app) {
    this.app = app;
  }

  update() {
    const { raw, groups } = this.app.model;
    const table = raw.table;
    this.app.show("comparison", this.app.model.runs.length > 1);
    const some = Boolean(table?.rows?.length);
    byId("comparison-empty").hidden = some;
    byId("comparison-content").hidden = !some;
    if (!some) return;
    const heads = table.columns.map(({ title }) => ({ title }));
    const rows = table.rows.map(({ group, cells }) => [
      tagged(groups[group].name, group),
      count(groups[group].seeds.length),
      ...table.columns.map(({ key, form }) => {
        const cell = cells[key];
        return withInterval(cell?.value, cell?.low, cell?.high, form);
      }),
    ]);
    const columns = [{ title: "Group", words: true }, { title: "Seeds" }, ...heads];
    fillTable(byId("comparison-table"), columns, rows, "Groups");
    this.pairs(table);
  }

  pairs({ columns, pairs }) {
    const { groups } = this.app.model;
    byId("pairs-part").hidden = !pairs?.length;
    if (!pairs?.length) return;
    const heads = [
      { title: "Metric", words: true },
      { title: "Group", words: true },
      { title: "Against", words: true },
      { title: "Difference" },
      { title: "Interval around zero" },
      { title: "Seeds" },
      { title: "Verdict", words: true },
    ];
    const rows = pairs.map((pair) => {
      const column = columns.find(({ key }) => key === pair.key) ?? { title: pair.key, form: "number" };
      const sameMetric = pairs.filter(({ key }) => key === pair.key);
      const verdict = make("span", `verdict ${verdictTone(pair.verdict)}`, pair.verdict);
      return [
        column.title,
        tagged(groups[pair.group].name, pair.group),
        tagged(groups[pair.other].name, pair.other),
        difference(pair, column.form),
        forest(pair, sameMetric),
        count(pair.seeds),
        verdict,
      ];
    });
    fillTable(byId("pairs"), heads, rows, "Paired differences");
  }
}

function verdictTone(verdict) {
  return { better: "good", worse: "bad" }[verdict] ?? "even";
}

/** A signed difference with its interval; of shares in points. */
function difference({ difference: value, low, high }, form) {
  const cell = make("span", "estimate");
  cell.append(make("span", "", form === "share" ? `${signed(value, form)} points` : signed(value, form)));
  if (typeof low === "number")
    cell.append(make("small", "", `${signed(low, form)} to ${signed(high, form)}`));
  return cell;
}

/** The interval of a difference, beside zero. */
function forest({ difference: value, low, high }, all) {
  const [width, height] = [140, 22];
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, class: "forest", "aria-hidden": "true" });
  const known = all.flatMap((pair) => [pair.difference, pair.low, pair.high]).filter(Number.isFinite);
  const most = Math.max(...known.map(Math.abs), 1e-9) * 1.1;
  const x = new Scale([-most, most], [4, width - 4]);
  const middle = tenth(x.at(0));
  svg.append(draw("path", { d: `M${middle} 1V${height - 1}`, class: "grid zero" }));
  if (Number.isFinite(low) && Number.isFinite(high)) {
    svg.append(draw("path", { d: `M${tenth(x.at(low))} 11H${tenth(x.at(high))}`, class: "whiskers ink" }));
  }
  if (Number.isFinite(value))
    svg.append(draw("circle", { cx: tenth(x.at(value)), cy: 11, r: 4, class: "ink" }));
  return svg;
}
