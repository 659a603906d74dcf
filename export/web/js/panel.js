// The sliders: one for each expression, by part of the face, and three that turn the head.

import { fromRotvec, multiply } from "./rotations.js";
import { limited, neutralState, turnEyes } from "./states.js";
import { turnedHead } from "./show.js";

const HEAD = [["yaw", "Turn"], ["pitch", "Nod"], ["roll", "Tilt"]];
const HEAD_LIMIT = 0.45; // radians

function element(tag, properties = {}, children = []) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

export class Sliders {
  /** changed(state): called with the whole state when a slider moves. limit(): whether to keep to what was seen. */
  constructor(root, facts, changed, limit) {
    Object.assign(this, { facts, changed, limit, inputs: new Map(), head: new Map() });
    this.base = neutralState(facts);
    for (const group of facts.groups) {
      const rows = group.items.map(({ name, label }) => this._row(name, label, 0, 1, this.inputs));
      root.append(this._group(group.name, rows));
    }
    const rows = HEAD.map(([name, label]) => this._row(name, label, -HEAD_LIMIT, HEAD_LIMIT, this.head));
    root.append(this._group("Head", rows));
    const mouth = this.inputs.get("jawOpen")?.closest("details") ?? root.children[0];
    if (mouth) mouth.open = true;
  }

  /** Shows a state without calling back, as what the next move starts from; the neutral one if none is given. */
  reset(state = null) {
    this.base = state ?? neutralState(this.facts);
    this.facts.expression_names.forEach((name, e) => this._show(this.inputs.get(name), this.base.expression[e]));
    for (const input of this.head.values()) this._show(input, 0);
  }

  _group(name, rows) {
    return element("details", { className: "group" }, [element("summary", { textContent: name }), ...rows]);
  }

  _row(name, label, low, high, inputs) {
    const input = element("input", { type: "range", min: low, max: high, step: 0.01, value: 0, title: name });
    input.dataset.name = name;
    const value = element("output", { textContent: "0" });
    const row = element("label", { className: "row" }, [element("span", { textContent: label }), input, value]);
    inputs.set(name, input);
    input.addEventListener("input", () => { this._show(input, Number(input.value)); this._moved(name); });
    row.addEventListener("dblclick", () => { this._show(input, 0); this._moved(name); });
    return row;
  }

  _show(input, value) {
    input.value = value;
    input.nextElementSibling.textContent = Math.round(value * 100) / 100;
  }

  _moved(name) {
    const { facts } = this;
    const place = facts.expression_names.indexOf(name);
    if (place >= 0) {
      const expression = Float32Array.from(this.base.expression);
      expression[place] = Number(this.inputs.get(name).value);
      if (this.limit()) expression[place] = limited(facts, expression)[place];
      this.base = { ...this.base, expression, joints: Float32Array.from(this.base.joints) };
      if (name.startsWith("eyeLook")) turnEyes(facts, this.base);
    }
    const [yaw, pitch, roll] = HEAD.map(([key]) => Number(this.head.get(key).value));
    const turn = multiply(multiply(fromRotvec([0, yaw, 0]), fromRotvec([pitch, 0, 0])), fromRotvec([0, 0, roll]));
    this.changed(turnedHead(this.base, turn));
  }
}
