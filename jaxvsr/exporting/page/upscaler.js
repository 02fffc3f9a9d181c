// Runs an exported file by LiteRT.js: frames in, upscaled frames out, as jaxvsr.exporting.playing.

import * as LiteRt from "@litertjs/core";

const ARRAYS = {float32: Float32Array, uint8: Uint8Array, int8: Int8Array};

export class Upscaler {
  // Loads NAME.tflite and its description NAME.json from the folder of the page.
  static async load(name, wasm = "./node_modules/@litertjs/core/wasm/") {
    const description = await (await fetch(`./${name}.json`)).json();
    await LiteRt.loadLiteRt(wasm, {threads: self.crossOriginIsolated});
    const model = await LiteRt.loadAndCompile(`./${name}.tflite`, {accelerator: "wasm"});
    return new Upscaler(model, description);
  }

  constructor(model, description) {
    this.model = model;
    this.ends = description.ends;
    this.scale = description.scale;
    this.lookahead = description.lookahead;
    [, this.height, this.width] = this.ends.frames.shape;
    this.reset();
  }

  // Forgets the frames and the state, at the start of a clip.
  reset() {
    this.window = [];
    const end = this.ends.hidden;
    this.hidden = end && ARRAYS[end.dtype].from({length: size(end)}, () => end.zero_point);
  }

  // Takes the next frame, (h, w, 3) uint8. Returns the frame that can now be upscaled, with its
  // upscaled form, or null while the look-ahead is being filled.
  async push(frame) {
    if (this.window.length === 0) this.window.push(frame);  // the first is its own predecessor
    this.window.push(frame);
    return this.window.length < 2 + this.lookahead ? null : this.run();
  }

  // Returns the last frame of a clip as `push`, after the look-ahead was cut off by its end.
  async finish() {
    if (this.lookahead === 0 || this.window.length < 2) return null;
    this.window.push(this.window[this.window.length - 1]);
    return this.run();
  }

  async run() {
    const end = this.ends.frames, count = 2 + this.lookahead;
    const frames = new ARRAYS[end.dtype](size(end));
    for (let pixel = 0; pixel < this.height * this.width; pixel++)
      for (let i = 0; i < count; i++)
        for (let c = 0; c < 3; c++)
          frames[(pixel * count + i) * 3 + c] = this.window[i][pixel * 3 + c];
    const values = {frames, hidden: this.hidden}, inputs = {};
    for (const detail of this.model.getInputDetails()) {
      const name = detail.name.includes("hidden") ? "hidden" : "frames";
      inputs[detail.name] = new LiteRt.Tensor(values[name], this.ends[name].shape);
    }
    const outputs = await this.model.run(inputs);
    let sr;
    for (const [name, tensor] of Object.entries(outputs)) {
      const data = await tensor.data();
      if (name.includes("hidden")) this.hidden = data.slice();
      else sr = Uint8Array.from(data, Math.round);
      tensor.delete();
    }
    for (const tensor of Object.values(inputs)) tensor.delete();
    const frame = this.window[1];
    this.window.shift();
    return {frame, sr};
  }
}

function size(end) {
  return end.shape.reduce((a, b) => a * b, 1);
}
