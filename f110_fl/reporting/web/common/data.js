// Recordings, tracks and episodes, unpacked when they are needed.

/**
 * Unpacks what Python wrote: base64 of zlib.
 * @param {string} text
 * @returns {Promise<Uint8Array>}
 */
async function unpack(text) {
  const letters = atob(text);
  const packed = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) packed[i] = letters.charCodeAt(i);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Reads rows of numbers off unpacked bytes, one channel after the other; see `Channel`. */
class Reader {
  /** @param {Uint8Array} bytes */
  constructor(bytes) {
    this.bytes = bytes;
    this.offset = 0;
  }

  /**
   * @param {{kind: string, unit: number}} channel how the numbers are written
   * @param {number} rows
   * @param {number} width numbers a row
   * @returns {Float64Array} rows * width numbers, row by row
   */
  read(channel, rows, width) {
    const count = rows * width;
    const size = channel.kind === "u2" ? 2 : 4;
    const words = new Uint32Array(count);
    for (let plane = 0; plane < size; plane++) {
      const start = this.offset + plane * count;
      for (let i = 0; i < count; i++) words[i] |= this.bytes[start + i] << (8 * plane);
    }
    this.offset += size * count;
    if (channel.kind === "f4") return Float64Array.from(new Float32Array(words.buffer));
    const whole = channel.kind === "u2" ? Uint16Array.from(words) : new Int32Array(words.buffer);
    for (let i = width; i < count; i++) whole[i] += whole[i - width];
    return Float64Array.from(whole, (value) => value * channel.unit);
  }
}

/** A track's lines, m: each a Float64Array x0, y0, x1, y1 ... */
class Track {
  /**
   * @param {object} raw as Python wrote it
   * @returns {Promise<Track>}
   */
  static async read(raw) {
    const total = raw.lengths.reduce((sum, length) => sum + length, 0);
    const points = new Reader(await unpack(raw.points)).read({ kind: "i4", unit: 1e-3 }, total, 2);
    const lines = [];
    let first = 0;
    for (const length of raw.lengths) {
      lines.push(points.subarray(2 * first, 2 * (first + length)));
      first += length;
    }
    return new Track(raw.name, raw.closed, lines);
  }

  constructor(name, closed, [finish, centre, ...walls]) {
    Object.assign(this, { name, closed, finish, centre, walls });
    const box = { left: Infinity, right: -Infinity, bottom: Infinity, top: -Infinity };
    for (const line of walls) {
      for (let i = 0; i < line.length; i += 2) {
        box.left = Math.min(box.left, line[i]);
        box.right = Math.max(box.right, line[i]);
        box.bottom = Math.min(box.bottom, line[i + 1]);
        box.top = Math.max(box.top, line[i + 1]);
      }
    }
    /** The smallest box around the free space, m. */
    this.box = box;
  }
}

/**
 * The frames of an episode. A time is a number of frames and may lie between two of them:
 * everything is then interpolated linearly.
 */
class Episode {
  /**
   * @param {Recording} recording
   * @param {object} raw as Python wrote it
   * @returns {Promise<Episode>}
   */
  static async read(recording, raw) {
    const [bytes, track] = await Promise.all([unpack(raw.data), recording.track(raw.track)]);
    return new Episode(recording, raw, track, new Reader(bytes));
  }

  constructor(recording, raw, track, reader) {
    const { cars, agents, lidar, channels, terms } = recording.raw;
    Object.assign(this, { recording, raw, track, number: raw.number, ends: raw.ends });
    this.frames = raw.frames;
    this.last = raw.frames - 1;
    this.period = recording.raw.period;
    this.cars = cars.length;
    this.beams = lidar.angles.length;
    const widths = { scan: cars.length * this.beams, reward: agents.length };
    for (const [name, channel] of Object.entries(channels)) {
      this[name] = reader.read(channel, raw.frames, widths[name] ?? cars.length);
    }
    const read = (name) => [name, reader.read(channels.reward, raw.frames, agents.length)];
    /** By name: numbers a frame and agent. */
    this.terms = new Map(terms.map(read));
    this.maxSpeed = this.speed.reduce((most, v) => Math.max(most, Math.abs(v)), 0.1);
  }

  /**
   * A car at a time.
   * @param {number} car
   * @param {number} at frames
   * @returns {{x: number, y: number, yaw: number, speed: number, steer: number}} SI units
   */
  pose(car, at) {
    const [i, j, share] = this.between(at, this.cars, car);
    const mix = (values) => values[i] + share * (values[j] - values[i]);
    const turn = 2 * Math.PI;
    const turned = this.yaw[j] - this.yaw[i];
    return {
      x: mix(this.x),
      y: mix(this.y),
      yaw: this.yaw[i] + share * (turned - turn * Math.round(turned / turn)),
      speed: mix(this.speed),
      steer: mix(this.steer),
    };
  }

  /**
   * What a beam of a car reads at a time, m.
   * @param {number} car
   * @param {number} beam
   * @param {number} at frames
   */
  range(car, beam, at) {
    const [i, j, share] = this.between(at, this.cars * this.beams, car * this.beams + beam);
    return this.scan[i] + share * (this.scan[j] - this.scan[i]);
  }

  /** Where a column's numbers before and after a time stand, and how far on it is. */
  between(at, width, column) {
    const before = Math.min(Math.max(Math.floor(at), 0), this.last);
    const after = Math.min(before + 1, this.last);
    return [before * width + column, after * width + column, Math.min(at, this.last) - before];
  }

  /** Whether another episode begins where this one does. */
  beginsLike(other) {
    const near = (mine, its) => Math.abs(mine - its) < 0.002;
    const every = [...Array(this.cars).keys()];
    return every.every((car) => near(this.x[car], other.x[car]) && near(this.y[car], other.y[car]));
  }

  /** @returns {Float64Array} one column of rows of numbers */
  column(values, width, column) {
    return Float64Array.from({ length: this.frames }, (_, frame) => values[frame * width + column]);
  }

  /** @returns {Float64Array} m from a car to another, by frame */
  distance(car, other) {
    const { cars, x, y } = this;
    return Float64Array.from({ length: this.frames }, (_, frame) => {
      const [own, its] = [frame * cars + car, frame * cars + other];
      return Math.hypot(x[its] - x[own], y[its] - y[own]);
    });
  }
}

/** A policy's episodes; tracks and episodes are unpacked once, when first asked for. */
class Recording {
  /**
   * @param {object} raw as Python wrote it
   * @param {number} most episodes that stay unpacked
   */
  constructor(raw, most = 9) {
    Object.assign(this, { raw, most });
    this.name = raw.name;
    this.tracks = new Map();
    this.unpacked = new Map();
  }

  /** @returns {Promise<Track>} */
  track(index) {
    if (!this.tracks.has(index)) this.tracks.set(index, Track.read(this.raw.tracks[index]));
    return this.tracks.get(index);
  }

  /**
   * @param {number} number of the episode's seed
   * @returns {Promise<Episode | null>} null if there is none
   */
  async episode(number) {
    const raw = this.raw.episodes.find((each) => each.number === number);
    if (!raw) return null;
    if (!this.unpacked.has(number)) {
      if (this.unpacked.size >= this.most) this.unpacked.delete(this.unpacked.keys().next().value);
      this.unpacked.set(number, Episode.read(this, raw));
    }
    return this.unpacked.get(number);
  }

  /** Whether episodes of the same number may begin alike in both. */
  comparable(other) {
    const same = ["seed", "period"].every((key) => this.raw[key] === other.raw[key]);
    return same && this.raw.cars.length === other.raw.cars.length;
  }
}
