// What stands around the track: the title, the cars, the tools, and the controls of time.

/** Fills a choice with texts; the values are their places, or what is given. */
function fill(select, options, chosen) {
  select.replaceChildren(...options.map(([text, value]) => new Option(text, value)));
  select.value = chosen;
}

/** The heading, and which recordings are shown. */
class Header {
  constructor(app) {
    this.app = app;
    byId("theme").addEventListener("click", () => app.theme.toggle());
    byId("recording").addEventListener("change", (event) => {
      app.choose(app.recordings[Number(event.target.value)]);
    });
    byId("rival").addEventListener("change", (event) => {
      const value = event.target.value;
      if (value === "open") byId("file").click();
      else app.compare(value === "none" ? null : app.recordings[Number(value)]);
      this.update();
    });
    byId("file").addEventListener("change", (event) => {
      const [file] = event.target.files;
      if (file) this.open(file);
      event.target.value = "";
    });
    document.addEventListener("dragover", (event) => event.preventDefault());
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      const [file] = event.dataTransfer.files;
      if (file) this.open(file);
    });
  }

  /** Reads the recordings of another replay page and lays the first over this one. */
  async open(file) {
    try {
      const page = new DOMParser().parseFromString(await file.text(), "text/html");
      const found = readRecordings(page);
      this.app.recordings.push(...found);
      await this.app.compare(found[0]);
    } catch (error) {
      this.app.say(error.message);
    }
    this.update();
  }

  update() {
    const { recordings, recording, rival } = this.app;
    const { scenario, seed, episodes } = recording.raw;
    document.title = `${scenario} \u2013 replay`;
    write(byId("title"), scenario);
    const count = `${episodes.length} ${episodes.length === 1 ? "episode" : "episodes"}`;
    write(byId("subtitle"), `${recording.name} \u00b7 seed ${seed} \u00b7 ${count}`);
    const every = recordings.map(({ name }, index) => [name, index]);
    fill(byId("recording"), every, recordings.indexOf(recording));
    byId("recording-field").hidden = recordings.length < 2;
    const others = every.filter(([, index]) => recordings[index] !== recording);
    const rivals = [["none", "none"], ...others, ["open a replay\u2026", "open"]];
    fill(byId("rival"), rivals, rival ? recordings.indexOf(rival) : "none");
  }
}

/** The cars of the episode: which is selected, and how it ended for each. */
class Cars {
  constructor(app) {
    Object.assign(this, { app, box: byId("cars") });
  }

  update() {
    const { app } = this;
    const cars = app.recording.raw.cars;
    this.box.replaceChildren(
      ...cars.map((car, index) => {
        const button = make("button", "car");
        button.type = "button";
        button.setAttribute("aria-pressed", index === app.selected);
        button.title = "Select: its beams, its outcomes and its reward's terms are shown";
        const swatch = make("i", "swatch");
        swatch.style.background = app.theme.car(index);
        const name = make("span", "name", car.name);
        name.append(make("span", "role", car.role.replaceAll("_", " ")));
        button.append(swatch, name, this.fate(app.episode, index));
        if (app.ghost) button.append(this.fate(app.ghost, index, app.rival.name));
        button.addEventListener("click", () => {
          app.select(index);
          this.box.children[index].focus();
        });
        return button;
      }),
    );
  }

  /** How an episode ended for a car, and its laps. */
  fate(episode, index, ghost) {
    const end = episode.ends[index];
    const { word, colour } = outcomeOf(end.outcome);
    const fate = make("span", "fate");
    if (ghost) fate.append(make("em", "", `Ghost, ${ghost}: `));
    const when = clock(end.frame * episode.period);
    const why = reason(end, episode.recording.raw.cars);
    fate.append(make("b", colour, word), ` ${when}${why && " \u2013 "}${why}`);
    const laps = episode.raw.lapTimes[index];
    const shown = laps.slice(0, 8).map((lap) => decimal(lap, 2)).join(", ");
    if (laps.length) fate.append(make("span", "laps", `Laps: ${shown}${laps.length > 8 ? " \u2026" : ""} s`));
    return fate;
  }
}

/** What of the track is shown, and how. */
class Tools {
  constructor(app) {
    this.app = app;
    byId("follow").addEventListener("change", (event) => {
      app.set({ follow: event.target.value === "" ? null : Number(event.target.value) });
    });
    byId("trail").addEventListener("change", (event) => app.set({ trail: event.target.value }));
    byId("beams").addEventListener("click", () => app.set({ beams: !app.beams }));
    byId("names").addEventListener("click", () => app.set({ names: !app.names }));
    byId("zoom-in").addEventListener("click", () => app.zoom(1.4));
    byId("zoom-out").addEventListener("click", () => app.zoom(1 / 1.4));
    byId("fit").addEventListener("click", () => app.fit());
  }

  update() {
    const { app } = this;
    const cars = app.recording.raw.cars.map(({ name }, index) => [name, index]);
    fill(byId("follow"), [["none", ""], ...cars], app.follow ?? "");
    byId("trail").value = app.trail;
    byId("beams").setAttribute("aria-pressed", app.beams);
    byId("names").setAttribute("aria-pressed", app.names);
  }
}

/** Play, pause, steps, the scrubber and the speed. */
class Transport {
  constructor(app) {
    Object.assign(this, { app, scrubber: byId("scrubber"), marks: byId("marks") });
    const { player } = app;
    byId("play").addEventListener("click", () => player.toggle());
    byId("back").addEventListener("click", () => player.step(-1));
    byId("forward").addEventListener("click", () => player.step(1));
    this.scrubber.addEventListener("input", () => player.seek(Number(this.scrubber.value)));
    const rates = RATES.map((rate) => [`${rate}\u00d7`, rate]);
    fill(byId("rate"), rates, player.rate);
    byId("rate").addEventListener("change", (event) => player.setRate(Number(event.target.value)));
  }

  /** Shows the length of the episode, and where something happened. */
  update() {
    const { episode } = this.app;
    this.scrubber.max = episode.last;
    this.marks.replaceChildren();
    const cars = episode.recording.raw.cars;
    episode.ends.forEach((end, car) => {
      if (["none", "other_done"].includes(end.outcome)) return;
      const { word, colour } = outcomeOf(end.outcome);
      this.mark(end.frame, colour, `${cars[car].name}: ${word}`);
    });
    episode.raw.lapFrames.forEach((laps, car) => {
      laps.forEach((frame, k) => this.mark(frame, "lap", `${cars[car].name}: lap ${k + 1}`));
    });
    write(byId("duration"), clock(episode.last * episode.period));
  }

  mark(frame, colour, title) {
    const mark = make("i", `mark ${colour}`);
    mark.title = title;
    mark.style.left = `${(100 * frame) / Math.max(this.app.episode.last, 1)}%`;
    this.marks.append(mark);
  }

  /** Shows the time. */
  tick() {
    const { player } = this.app;
    this.scrubber.value = Math.floor(player.at);
    this.scrubber.style.setProperty("--played", `${(100 * player.at) / Math.max(player.last, 1)}%`);
    const time = clock(player.time);
    this.scrubber.setAttribute("aria-valuetext", `${time}, step ${player.frame} of ${player.last}`);
    write(byId("now"), time);
    write(byId("step"), `step ${player.frame} / ${player.last}`);
    const play = byId("play");
    play.dataset.playing = player.playing;
    play.setAttribute("aria-label", player.playing ? "Pause" : "Play");
    const rate = byId("rate");
    if (Number(rate.value) !== player.rate) rate.value = player.rate;
  }
}

/** On narrow screens one panel is shown at a time. */
class Tabs {
  constructor() {
    this.tabs = [...document.querySelectorAll("[role=tab]")];
    for (const tab of this.tabs) {
      tab.addEventListener("click", () => this.choose(tab));
      tab.addEventListener("keydown", (event) => {
        if (!["ArrowLeft", "ArrowRight"].includes(event.key)) return;
        event.stopPropagation();
        const other = this.tabs.find((each) => each !== tab);
        this.choose(other);
        other.focus();
      });
    }
    this.choose(this.tabs[0]);
  }

  choose(chosen) {
    for (const tab of this.tabs) {
      tab.setAttribute("aria-selected", tab === chosen);
      tab.tabIndex = tab === chosen ? 0 : -1;
    }
    document.documentElement.dataset.panel = chosen.getAttribute("aria-controls");
  }
}
