// A report that is served while its runs go on asks for the data again and again.

class Live {
  /**
   * @param {App} app
   * @param {string} text the data as the page came with it
   */
  constructor(app, text) {
    Object.assign(this, { app, text });
    this.box = byId("live");
  }

  /** Begins to ask, if the page is served live. */
  begin() {
    const every = this.app.model.raw.live?.every;
    if (!every) return;
    this.say(`live \u00b7 ${this.app.model.raw.written}`);
    setTimeout(() => this.ask(), 1000 * every);
  }

  /** Asks once, and once more after a while, as long as the runs go on. */
  async ask() {
    const text = await this.fetch();
    if (text === null) this.say("connection lost, the run may have ended", true);
    else await this.take(text);
    const { live } = this.app.model.raw;
    if (live) setTimeout(() => this.ask(), 1000 * live.every);
  }

  /** @returns {Promise<string | null>} the data as they are now; null if nobody answers */
  async fetch() {
    try {
      const answer = await fetch("data", { cache: "no-store" });
      return answer.ok ? await answer.text() : null;
    } catch {
      return null;
    }
  }

  /** Shows data where they have changed; what cannot be read is said. */
  async take(text) {
    try {
      if (text !== this.text) await this.app.replace(JSON.parse(text));
      this.text = text;
      const now = new Date().toLocaleTimeString("en-GB");
      this.say(this.app.model.raw.live ? `live \u00b7 updated ${now}` : "");
    } catch (error) {
      this.say(error.message, true);
    }
  }

  say(text, lost = false) {
    this.box.hidden = !text;
    this.box.classList.toggle("lost", lost);
    write(this.box, text);
  }
}
