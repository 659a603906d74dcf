// The camera about the head: one finger or the mouse turns, two fingers or the wheel go nearer, a double tap goes home.
// Limits keep it where the avatar was seen, more or less.

const MAX_YAW = 0.7, MAX_PITCH = 0.4, NEAREST = 0.35, FARTHEST = 2; // radians; shares of the home distance

export class Orbit {
  /** element: where gestures happen. changed: called after each. */
  constructor(element, changed) {
    Object.assign(this, { element, changed, pointers: new Map(), spread: 0 });
    this.home();
    element.addEventListener("pointerdown", (e) => this._down(e));
    element.addEventListener("pointermove", (e) => this._move(e));
    for (const name of ["pointerup", "pointercancel"]) element.addEventListener(name, (e) => this._up(e));
    element.addEventListener("wheel", (e) => this._wheel(e), { passive: false });
    element.addEventListener("dblclick", () => { this.home(); changed(); });
    element.addEventListener("keydown", (e) => this._key(e));
  }

  home() {
    this.yaw = this.pitch = 0;
    this.zoom = 1;
  }

  turn(yaw, pitch) {
    this.yaw = Math.min(MAX_YAW, Math.max(-MAX_YAW, this.yaw + yaw));
    this.pitch = Math.min(MAX_PITCH, Math.max(-MAX_PITCH, this.pitch + pitch));
    this.changed();
  }

  scale(factor) {
    this.zoom = Math.min(FARTHEST, Math.max(NEAREST, this.zoom * factor));
    this.changed();
  }

  _down(event) {
    this.element.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    this.spread = this._spread();
  }

  _move(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    const unit = 3 / Math.max(200, Math.min(this.element.clientWidth, this.element.clientHeight));
    if (this.pointers.size === 1) {
      this.turn((event.clientX - before[0]) * unit, (event.clientY - before[1]) * unit);
    } else {
      const spread = this._spread();
      if (spread > 0 && this.spread > 0) this.scale(this.spread / spread);
      this.spread = spread;
    }
  }

  _up(event) {
    this.pointers.delete(event.pointerId);
    this.spread = this._spread();
  }

  _spread() {
    const [a, b] = [...this.pointers.values()];
    return a && b ? Math.hypot(a[0] - b[0], a[1] - b[1]) : 0;
  }

  _wheel(event) {
    event.preventDefault();
    this.scale(Math.exp(Math.max(-80, Math.min(80, event.deltaY)) * 0.002));
  }

  _key(event) {
    const step = 0.08;
    const turns = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    if (turns[event.key]) this.turn(...turns[event.key]);
    else if (event.key === "+") this.scale(0.9);
    else if (event.key === "-") this.scale(1 / 0.9);
    else if (event.key === "Home") { this.home(); this.changed(); }
    else return;
    event.preventDefault();
  }
}
