// Brings states, camera, worker and view together: the loop that runs once a frame of the screen.

import { Orbit } from "./orbit.js";
import { neutralState } from "./states.js";
import { composed, rotated } from "./rotations.js";
import { View, cameraOf, eyeOf, orbited } from "./view.js";
import { packedLength } from "./packing.js";

const now = () => performance.now();

/** Starts the worker; gives { worker, facts, recording, target } once it has loaded the avatar. */
export function startWorker() {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    worker.onerror = (event) => reject(new Error(event.message || "js/worker.js could not be started"));
    worker.onmessage = ({ data }) => {
      if (data.type === "failed") reject(new Error(data.reason));
      else if (data.type === "loaded") resolve({ ...data, worker });
    };
    worker.postMessage({ type: "load", base: document.baseURI });
  });
}

export class Show {
  constructor(canvas, { worker, facts, recording, target }) {
    Object.assign(this, { canvas, worker, facts, recording });
    this.view = new View(canvas, facts.num_gaussians);
    this.home = cameraOf(facts.camera);
    this.fixedCamera = null;
    this.state = neutralState(facts);
    const head = this.state.head;
    this.target = rotated(head, target).map((v, i) => v + head[4 + i]);
    this.orbit = new Orbit(canvas, () => this.moveCamera());
    this.shown = null; // the state that is on the screen
    this.buffer = new ArrayBuffer(4 * packedLength(facts.num_gaussians));
    this.ticket = this.answered = 0; // of the last request; of the last answer
    this.newState = this.newCamera = true;
    this.source = null; // a function that gives the state of this moment, or null
    this.onFrame = () => {};
    this.times = { maths: 0, draw: 0, frames: [] };
    worker.onmessage = ({ data }) => this._receive(data);
    this.resize();
    const tick = () => { this._tick(); requestAnimationFrame(tick); };
    requestAnimationFrame(tick);
  }

  /** Shows a state { expression, joints, head, body } from the next frame on. */
  setState(state) {
    this.state = state;
    this.newState = true;
  }

  /** A camera { K, pose, width, height } instead of the orbit, with a canvas of its size; null goes back. */
  setCamera(camera) {
    this.fixedCamera = camera;
    this.canvas.classList.toggle("fixed", camera !== null);
    if (camera) {
      this.canvas.style.width = `${camera.width}px`;
      this.canvas.style.height = `${camera.height}px`;
    } else {
      this.canvas.style.width = this.canvas.style.height = "";
    }
    this.resize();
  }

  get camera() {
    if (this.fixedCamera) return this.fixedCamera;
    const { clientWidth, clientHeight } = this.canvas;
    return orbited(this.home, this.target, this.orbit, Math.max(1, clientWidth), Math.max(1, clientHeight));
  }

  resize() {
    const camera = this.camera;
    // More than two pixels a CSS pixel costs a phone much and shows nothing more.
    const ratio = this.fixedCamera ? 1 : Math.min(2, window.devicePixelRatio || 1);
    this.view.resize(camera.width, camera.height, ratio);
    this.moveCamera();
  }

  moveCamera() {
    this.newCamera = true;
    this.canvas.style.maskImage = this.fixedCamera ? "" : this._mask();
    if (this.shown) this.view.setCamera(this.camera, this.shown.head);
  }

  /** Fades out what lies beyond the edges of the home picture: nobody has seen it. */
  _mask() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const scale = Math.min(width / this.home.width, height / this.home.height) / this.orbit.zoom;
    const fade = (direction, size, seen, both) => {
      const [low, high] = [(size - seen) / 2, (size + seen) / 2], soft = 0.06 * seen;
      const start = both ? `transparent ${low}px, black ${low + soft}px, ` : "black 0, ";
      return `linear-gradient(to ${direction}, ${start}black ${high - soft}px, transparent ${high}px)`;
    };
    return [
      fade("right", width, this.home.width * scale, true), fade("bottom", height, this.home.height * scale, false),
    ].join(", ");
  }

  /** Waits until the last state and camera are on the screen, sorted. */
  async settled() {
    const done = () => !this.newState && !this.newCamera && this.buffer && this.answered === this.ticket
      && this.view.sorted;
    let calm = 0; // frames in a row
    while (calm < 3) {
      await new Promise(requestAnimationFrame);
      calm = done() ? calm + 1 : 0;
    }
  }

  _tick() {
    if (this.source) this.setState(this.source());
    if (this.buffer && (this.newState || this.newCamera)) this._request();
    const start = now();
    if (!this.held && this.view.draw()) {
      if (this.measuring) this._measureDrawing(start);
      this.times.frames.push(start);
      while (this.times.frames[0] < start - 2000) this.times.frames.shift();
    }
    this.onFrame();
  }

  /** One drawing at a time is measured, until the graphics card has done it. */
  async _measureDrawing(start) {
    if (this.waiting) return;
    this.waiting = true;
    await this.view.finished();
    this.times.draw = now() - start;
    this.waiting = false;
  }

  _request() {
    const { buffer, state } = this;
    this.buffer = null;
    this.pending = state;
    const message = { type: "draw", state: this.newState ? state : null, eye: eyeOf(this.camera, state.head) };
    this.newState = this.newCamera = false;
    this.worker.postMessage({ ...message, buffer, ticket: ++this.ticket }, [buffer]);
  }

  _receive({ buffer, ticket, milliseconds }) {
    this.view.setGaussians(new Uint32Array(buffer));
    this.buffer = buffer;
    this.answered = ticket;
    this.shown = this.pending;
    this.times.maths = milliseconds;
    this.view.setCamera(this.camera, this.shown.head);
  }

  /** Pictures a second over the last two seconds. */
  get rate() {
    const { frames } = this.times;
    if (frames.length < 2 || now() - frames[frames.length - 1] > 500) return 0;
    return ((frames.length - 1) * 1000) / (frames[frames.length - 1] - frames[0]);
  }

  /** Milliseconds of ``count`` states in a row, each brought to the screen and waited for: [maths, drawing] medians. */
  async measure(states) {
    const maths = [], drawing = [];
    await this.settled();
    await this.view.finished();
    this.held = true; // nothing is drawn but what is measured
    for (const state of states) {
      this.setState(state);
      while (this.newState || !this.buffer) await new Promise(requestAnimationFrame);
      const start = now();
      this.view.dirty = true;
      this.view.draw();
      await this.view.finished();
      maths.push(this.times.maths);
      drawing.push(now() - start);
    }
    this.held = false;
    return [maths, drawing].map((values) => values.sort((a, b) => a - b)[values.length >> 1]);
  }
}

/** A state with the head turned by a rotation in its own frame; the body stays. */
export function turnedHead(state, rotation) {
  return { ...state, head: composed(state.head, [...rotation, 0, 0, 0]) };
}
