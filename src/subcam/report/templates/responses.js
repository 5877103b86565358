"use strict";
/* Response maps and masks of the images, unpacked from the page, drawn on canvases, scored against the ground truth. */
const one = (selector, within = document) => within.querySelector(selector);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const store = JSON.parse(one("#data").textContent);
const palette = bytesOf(store.palette);
const scale = bytesOf(store.scale);
const IGNORED = 255;
const CANVAS_SIDE = 240;

/* What the reader has chosen. */
const settings = { draw: "response", mask: one("#mask-choice")?.value ?? "", opacity: Number(one("#opacity")?.value ?? 65) / 100 };

/* ---------- unpacking ---------- */
function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

async function unpacked(base64, width) {
  const stream = new Blob([bytesOf(base64)]).stream().pipeThrough(new DecompressionStream("deflate"));
  const values = new Uint8Array(await new Response(stream).arrayBuffer());
  for (let i = 0; i < values.length; i++) {
    if (i % width) values[i] += values[i - 1];
    else if (i) values[i] += values[i - width];
  }
  return values;
}

function stretched(labels, from, to) {
  if (from.width === to.width && from.height === to.height) return labels;
  const out = new Uint8Array(to.width * to.height);
  for (let y = 0; y < to.height; y++) {
    const row = Math.floor(((y + 0.5) * from.height) / to.height) * from.width;
    for (let x = 0; x < to.width; x++) {
      out[y * to.width + x] = labels[row + Math.floor(((x + 0.5) * from.width) / to.width)];
    }
  }
  return out;
}

/* Bilinear, each value at the centre of its cell (align_corners False). */
function upsampled(values, grid, to) {
  const out = new Float32Array(to.width * to.height);
  const steps = (length, cells) =>
    Array.from({ length }, (_, place) => {
      const at = Math.min(Math.max(((place + 0.5) * cells) / length - 0.5, 0), cells - 1);
      const low = Math.floor(at);
      return [low, Math.min(low + 1, cells - 1), at - low];
    });
  const columns = steps(to.width, grid[0]);
  steps(to.height, grid[1]).forEach(([top, bottom, down], y) => {
    columns.forEach(([left, right, across], x) => {
      const above = values[top * grid[0] + left] * (1 - across) + values[top * grid[0] + right] * across;
      const below = values[bottom * grid[0] + left] * (1 - across) + values[bottom * grid[0] + right] * across;
      out[y * to.width + x] = (above * (1 - down) + below * down) / 255;
    });
  });
  return out;
}

/* ---------- one image ---------- */
class ResponseImage {
  constructor(index) {
    this.data = store.images[index];
    const { width, height } = this.data;
    const enlarge = Math.max(1, Math.ceil(CANVAS_SIDE / Math.max(width, height)));
    this.size = { width: width * enlarge, height: height * enlarge };
    this.photo = one(`#photo-${index}`);
    this.responses = new Map();
    this.masks = new Map();
    this.ready = null;
  }

  load() {
    this.ready ??= (async () => {
      await this.photo.decode();
      this.truth = this.data.truth ? await this.labels(this.data.truth) : null;
      this.maps = await Promise.all(
        this.data.maps.map((maps) => Promise.all(maps.map((map) => unpacked(map, this.data.grid[0])))),
      );
    })();
    return this.ready;
  }

  async labels(base64) {
    return stretched(await unpacked(base64, this.data.width), this.data, this.size);
  }

  async mask(name) {
    if (!this.data.masks[name]) return null;
    if (!this.masks.has(name)) this.masks.set(name, await this.labels(this.data.masks[name]));
    return this.masks.get(name);
  }

  /* The strongest response at each pixel, and its class. */
  response(round) {
    if (!this.responses.has(round)) {
      const { width, height } = this.size;
      const strongest = new Float32Array(width * height);
      const owner = new Uint8Array(width * height).fill(this.data.classes[0] ?? 0);
      this.maps[round].forEach((map, place) => {
        const values = upsampled(map, this.data.grid, this.size);
        for (let i = 0; i < values.length; i++) {
          if (values[i] > strongest[i]) {
            strongest[i] = values[i];
            owner[i] = this.data.classes[place];
          }
        }
      });
      this.responses.set(round, { strongest, owner });
    }
    return this.responses.get(round);
  }

  segmented(round, threshold) {
    const { strongest, owner } = this.response(round);
    return owner.map((label, i) => (strongest[i] > threshold ? label : 0));
  }

  /* Mean IoU over the object classes in the ground truth, as `image_iou` in Python; null where there are none. */
  iou(labels) {
    if (!this.truth || !labels) return null;
    const hits = new Uint32Array(256);
    const actual = new Uint32Array(256);
    const predicted = new Uint32Array(256);
    for (let i = 0; i < labels.length; i++) {
      if (this.truth[i] === IGNORED || labels[i] === IGNORED) continue;
      actual[this.truth[i]]++;
      predicted[labels[i]]++;
      if (labels[i] === this.truth[i]) hits[labels[i]]++;
    }
    const objects = [...actual.keys()].filter((label) => label > 0 && actual[label]);
    if (!objects.length) return null;
    return objects.reduce((sum, c) => sum + hits[c] / (actual[c] + predicted[c] - hits[c]), 0) / objects.length;
  }

  /* The image, in grey if asked for, below the colours that `paint(i)` returns as [red, green, blue, opacity]. */
  draw(canvas, paint, { grey = false, outline = null } = {}) {
    const { width, height } = this.size;
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext("2d");
    context.drawImage(this.photo, 0, 0, width, height);
    if (grey) {
      context.globalCompositeOperation = "saturation";
      context.fillStyle = "#808080";
      context.fillRect(0, 0, width, height);
      context.globalCompositeOperation = "source-over";
    }
    const layer = new ImageData(width, height);
    for (let i = 0; i < width * height; i++) layer.data.set(paint(i), 4 * i);
    if (outline) {
      const reach = Math.max(1, Math.round(Math.max(width, height) / 240));
      for (let y = 0; y < height - reach; y++) {
        for (let x = 0; x < width - reach; x++) {
          const i = y * width + x;
          if (outline[i] !== outline[i + reach] || outline[i] !== outline[i + reach * width]) {
            layer.data.set([255, 255, 255, 255], 4 * i);
          }
        }
      }
    }
    const overlay = new OffscreenCanvas(width, height);
    overlay.getContext("2d").putImageData(layer, 0, 0);
    context.drawImage(overlay, 0, 0);
  }

  drawResponse(canvas, round, threshold) {
    const { strongest } = this.response(round);
    const labels = this.segmented(round, threshold);
    sayEmpty(canvas, labels);
    const paint = (i) => {
      const at = 3 * Math.min(255, Math.max(0, Math.round(strongest[i] * 255)));
      return [scale[at], scale[at + 1], scale[at + 2], 255 * settings.opacity];
    };
    this.draw(canvas, paint, { grey: true, outline: labels });
    return labels;
  }

  drawMask(canvas, labels) {
    const { width } = this.size;
    const paint = (i) => {
      const label = labels[i];
      if (!label) return [0, 0, 0, 0];
      if (label === IGNORED) return ((i % width) + Math.floor(i / width)) % 8 < 2 ? [150, 150, 150, 255] : [255, 255, 255, 190];
      return [palette[3 * label], palette[3 * label + 1], palette[3 * label + 2], 255 * settings.opacity];
    };
    this.draw(canvas, paint, { outline: labels });
    sayEmpty(canvas, labels);
  }
}

/* Under a drawing in which no pixel has a class, say so. */
function sayEmpty(canvas, labels) {
  const empty = !labels.some((label) => label);
  const caption = one("figcaption", canvas.parentElement);
  one(".nothing", caption)?.remove();
  if (empty) {
    const said = document.createElement("strong");
    said.className = "nothing bad";
    said.textContent = " only background";
    caption.append(said);
  }
  return empty;
}
