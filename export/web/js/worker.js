// The avatar off the main thread. Receives { type: "load" } once, then { type: "draw", state, eye, buffer, ticket }, and
// answers with the buffer filled. Buffers travel; nothing is copied between the threads.

import { Avatar } from "./avatar.js";
import { readArrays, unpacked } from "./arrays.js";
import { packColors, packShapes, packedLength } from "./packing.js";

let avatar = null, words = null, wasHeld = false;

async function fetched(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url.pathname}: the server answers ${response.status}; export the avatar again`);
  return response;
}

async function load(base) {
  const facts = await (await fetched(new URL("avatar.json", base))).json();
  if (facts.format !== "likeness-web-avatar" || facts.format_version !== 1) {
    throw new Error("avatar.json: not an avatar of this page's version; export it again");
  }
  const content = await unpacked(await (await fetched(new URL("avatar.bin", base))).arrayBuffer());
  const arrays = readArrays(facts.arrays, content);
  const recording = {};
  for (const name of ["expression", "joints", "head", "body", "times", "sway"]) {
    recording[name] = arrays[`recording.${name}`];
  }
  avatar = new Avatar(facts, arrays);
  words = new Uint32Array(packedLength(avatar.count));
  postMessage({ type: "loaded", facts: { ...facts, arrays: undefined }, recording, target: middle(arrays) });
}

/** The middle of what follows the head: what the camera turns about. */
function middle(arrays) {
  const { columns: n, values } = arrays.means;
  const weights = arrays.head_weights ? arrays.head_weights.values : null;
  return [0, 1, 2].map((axis) => {
    const kept = Array.from(values.subarray(axis * n, axis * n + n)).filter((_, i) => !weights || weights[i] > 0.5);
    const sorted = (kept.length ? kept : [0]).sort((a, b) => a - b);
    return (sorted[Math.floor(sorted.length * 0.02)] + sorted[Math.floor(sorted.length * 0.98)]) / 2;
  });
}

/** state: null when it is the last one again. */
function draw({ state, eye, buffer, ticket }) {
  const start = performance.now();
  if (state) avatar.evaluate(state);
  const isHeld = avatar.shade(eye);
  if (state || isHeld || wasHeld) packShapes(avatar, words);
  wasHeld = isHeld;
  packColors(avatar, words);
  new Uint32Array(buffer).set(words);
  postMessage({ type: "drawn", buffer, ticket, milliseconds: performance.now() - start }, [buffer]);
}

onmessage = (event) => {
  if (event.data.type === "draw") return draw(event.data);
  load(event.data.base).catch((error) => postMessage({ type: "failed", reason: error.message }));
};
