/** Thumbnails for a canvas: fetched a few at a time, rounded once, kept while there is room. */

import { address, blob } from "./api.js";

const SIDE = 128;
const AT_ONCE = 6;
const KEPT = 1500;

/** Sprites by id; `get` answers null until one is there, then `arrived` is called. */
export class Sprites {
  constructor(arrived) {
    this.arrived = arrived;
    this.made = new Map();
    this.wanted = [];
    this.running = 0;
  }

  /** The sprite of an item, asked for if it is not there; false where there is none. */
  get(id) {
    if (!this.made.has(id)) {
      this.made.set(id, null);
      this.wanted.push(id);
      this.work();
    }
    return this.made.get(id);
  }

  /** Forget what waits: the view has moved on. */
  forget() {
    for (const id of this.wanted) this.made.delete(id);
    this.wanted = [];
  }

  async work() {
    if (this.running >= AT_ONCE || !this.wanted.length) return;
    this.running += 1;
    const id = this.wanted.shift();
    try {
      const bitmap = await createImageBitmap(await blob(address(id, "thumbnail")));
      this.made.set(id, rounded(bitmap));
      bitmap.close();
    } catch {
      this.made.set(id, false);
    }
    if (this.made.size > KEPT) this.made.delete(this.made.keys().next().value);
    this.running -= 1;
    this.arrived();
    this.work();
  }
}

function rounded(bitmap) {
  const scale = SIDE / Math.max(bitmap.width, bitmap.height);
  const [width, height] = [Math.max(1, Math.round(bitmap.width * scale)), Math.max(1, Math.round(bitmap.height * scale))];
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const paint = canvas.getContext("2d");
  paint.beginPath();
  paint.roundRect(0, 0, width, height, 12);
  paint.clip();
  paint.drawImage(bitmap, 0, 0, width, height);
  // White pages on white paper need an edge.
  paint.strokeStyle = "rgb(128 136 132 / 0.45)";
  paint.lineWidth = 3;
  paint.roundRect(0, 0, width, height, 12);
  paint.stroke();
  return canvas;
}
