// Keys: one table that both acts and explains.

/**
 * @param {App} app
 * @returns {{keys: string[], shown: string, does: string, act: () => void}[]}
 */
function keyTable(app) {
  const { player, list: episodes } = app;
  const second = () => Math.max(1, Math.round(1 / player.period));
  const next = (all, now) => all[(all.indexOf(now) + 1) % all.length];
  const cars = () => app.recording.raw.cars.map((_, index) => index);
  return [
    { keys: [" ", "k"], shown: "Space", does: "Play or pause", act: () => player.toggle() },
    { keys: ["ArrowLeft", ","], shown: "\u2190", does: "One step back", act: () => player.step(-1) },
    { keys: ["ArrowRight", "."], shown: "\u2192", does: "One step on", act: () => player.step(1) },
    {
      keys: ["Shift+ArrowLeft"],
      shown: "Shift \u2190",
      does: "One second back",
      act: () => player.step(-second()),
    },
    {
      keys: ["Shift+ArrowRight"],
      shown: "Shift \u2192",
      does: "One second on",
      act: () => player.step(second()),
    },
    { keys: ["Home"], shown: "Home", does: "To the start", act: () => player.seek(0) },
    { keys: ["End"], shown: "End", does: "To the end", act: () => player.seek(player.last) },
    { keys: ["["], shown: "[", does: "Slower", act: () => player.faster(-1) },
    { keys: ["]"], shown: "]", does: "Faster", act: () => player.faster(1) },
    { keys: ["ArrowUp"], shown: "\u2191", does: "Previous episode", act: () => episodes.go(-1) },
    { keys: ["ArrowDown"], shown: "\u2193", does: "Next episode", act: () => episodes.go(1) },
    {
      keys: ["c"],
      shown: "C",
      does: "Select the next car",
      act: () => app.select(next(cars(), app.selected)),
    },
    {
      keys: ["f"],
      shown: "F",
      does: "Follow the next car, or none",
      act: () => app.set({ follow: next([null, ...cars()], app.follow) }),
    },
    { keys: ["+", "="], shown: "+", does: "Zoom in", act: () => app.zoom(1.4) },
    { keys: ["-"], shown: "\u2212", does: "Zoom out", act: () => app.zoom(1 / 1.4) },
    { keys: ["0"], shown: "0", does: "Whole track", act: () => app.fit() },
    {
      keys: ["l"],
      shown: "L",
      does: "LiDAR beams",
      act: () => app.set({ beams: !app.beams }),
    },
    { keys: ["n"], shown: "N", does: "Names", act: () => app.set({ names: !app.names }) },
    {
      keys: ["t"],
      shown: "T",
      does: "Trails: past, whole, off",
      act: () => app.set({ trail: next(TRAILS, app.trail) }),
    },
    {
      keys: ["g"],
      shown: "G",
      does: "Next ghost, or none",
      act: () => app.nextRival(),
    },
    { keys: ["r"], shown: "R", does: "Rewards: per step, sum", act: () => app.charts.sum() },
    { keys: ["d"], shown: "D", does: "Light or dark", act: () => app.theme.toggle() },
    { keys: ["?"], shown: "?", does: "This help", act: () => byId("help").showModal() },
  ];
}

/** Listens to keys, and writes the help. */
function listenToKeys(app) {
  const table = keyTable(app);
  byId("keys").replaceChildren(
    ...table.map(({ shown, does }) => {
      const row = make("div", "key");
      const keys = make("dt");
      keys.append(...shown.split(" ").map((key) => make("kbd", "", key)));
      row.append(keys, make("dd", "", does));
      return row;
    }),
  );
  const help = byId("help");
  byId("help-open").addEventListener("click", () => help.showModal());
  byId("help-close").addEventListener("click", () => help.close());
  help.addEventListener("click", (event) => {
    if (event.target === help) help.close(); // beside the text
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
    const place = event.target;
    if (place instanceof HTMLSelectElement) return;
    const own = place instanceof HTMLButtonElement && event.key === " "; // presses the button
    if (own) return;
    const arrow = event.shiftKey && event.key.startsWith("Arrow");
    const key = arrow ? `Shift+${event.key}` : event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const found = table.find(({ keys }) => keys.includes(key));
    if (!found) return;
    event.preventDefault();
    found.act();
  });
}
