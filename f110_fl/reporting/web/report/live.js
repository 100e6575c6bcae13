// A report that is served while its runs go on asks for the data again and again.

class Live {
  /**
   * @param {App} app
   * @param {string} text the data as the page came with it
   */
  constructor(app, text) {
    Object.assign(this, { app, text, lost: false });
    this.box = byId("live");
  }

  /** Begins to ask, if the page is served live. */
  begin() {
    const every = this.app.model.raw.live?.every;
    if (!every) return;
    this.say(`live \u00b7 ${this.app.model.raw.written}`);
    setTimeout(() => this.ask(), 1000 * every);
  }

  /** Asks once, and once more after a while. */
  async ask() {
    let every = this.app.model.raw.live?.every ?? 3;
    try {
      const answer = await fetch("data", { cache: "no-store" });
      if (!answer.ok) throw new Error(answer.statusText);
      const text = await answer.text();
      if (text !== this.text) this.app.replace(JSON.parse(text));
      this.text = text;
      this.say(`live \u00b7 updated ${new Date().toLocaleTimeString("en-GB")}`);
      if (!this.app.model.raw.live) return this.say(""); // the runs have ended
      every = this.app.model.raw.live.every;
    } catch {
      this.say("connection lost, the run may have ended", true);
    }
    setTimeout(() => this.ask(), 1000 * every);
  }

  say(text, lost = false) {
    this.box.hidden = !text;
    this.box.classList.toggle("lost", lost);
    write(this.box, text);
  }
}
