// Runs the exported page's own maths in node, for tests/playback/test_web.py: node web_maths.mjs FOLDER < request.
// request: { task, ... } as JSON; the answer is JSON on stdout.

import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const folder = process.argv[2];
const load = (name) => import(pathToFileURL(`${folder}/js/${name}.js`).href);
const request = JSON.parse(readFileSync(0, "utf8"));
const facts = JSON.parse(readFileSync(`${folder}/avatar.json`, "utf8"));

const tasks = {
  async clouds({ states, eyes }) {
    const { Avatar } = await load("avatar");
    const { readArrays, unpacked } = await load("arrays");
    const { stateOf } = await load("states");
    const bytes = readFileSync(`${folder}/avatar.bin`);
    const content = await unpacked(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
    const avatar = new Avatar(facts, readArrays(facts.arrays, content));
    const rows = (values) => Array.from({ length: values.length / avatar.count }, (_, r) =>
      Array.from(values.subarray(r * avatar.count, (r + 1) * avatar.count)));
    return states.map((state, i) => {
      avatar.evaluate(stateOf(facts, state));
      avatar.shade(eyes[i]);
      const { means, quats, sizes, opacities, colors } = avatar;
      return Object.fromEntries(Object.entries({ means, quats, logScales: sizes, opacities, colors })
        .map(([name, values]) => [name, rows(values)]));
    });
  },
  async halves({ values }) {
    const { half } = await load("packing");
    return values.map(half);
  },
  async curves({ text }) {
    const { parseLiveLink } = await load("livelink");
    try {
      const sequence = parseLiveLink("take.csv", text, facts, false);
      return Array.from(sequence.times, (time, i) => {
        const { expression, joints, head, body } = sequence.states(i);
        return { time, expression: Array.from(expression), joints: Array.from(joints), head, body };
      });
    } catch (error) {
      return { error: error.message };
    }
  },
};

process.stdout.write(JSON.stringify(await tasks[request.task](request)));
