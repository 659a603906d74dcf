// Runs the exported page's own modules in node, for tests/playback/test_web.py: node web_maths.mjs FOLDER < request.
// request: { task, ... } as JSON; the answer is JSON on stdout.

import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const folder = process.argv[2];
const load = (name) => import(pathToFileURL(`${folder}/js/${name}.js`).href);
const request = JSON.parse(readFileSync(0, "utf8"));
const facts = request.task === "conformance" ? null : JSON.parse(readFileSync(`${folder}/avatar.json`, "utf8"));

/** [N][c] as rows, one after the other. */
const rows = (table) => table[0].flatMap((_, column) => table.map((row) => row[column]));
const columns = (values, n) => Array.from({ length: n }, (_, i) =>
  Array.from({ length: values.length / n }, (_, row) => values[row * n + i]));

/** The cloud of an avatar without modes, moved as the case of tests/ops/conformance.json says. */
function deformed(Avatar, { samples, solve }, given) {
  const n = given.means.length, K = given.sh[0].length, looks = given.sh.map((own) => [0, ...own.flat()]);
  const arrays = Object.fromEntries(Object.entries({
    base_looks: rows(looks), look_modes: [], means: rows(given.means), quats: rows(given.quats),
    log_scales: rows(given.scales).map(Math.log), head_weights: given.head_weights,
    rig_vertices: rows(given.vertices), rig_weights: rows(given.weights),
    rig_shapes: given.shapes.flatMap(rows), "coder.0.weight": [], "coder.0.bias": [],
    "harmonics.directions": rows(samples), "harmonics.solve": solve.flat(),
  }).map(([name, values]) => [name, { values }]));
  Object.assign(arrays["coder.0.weight"], { rows: 0, columns: 0 });
  arrays.rig_shapes.columns = 3 * given.shapes[0].length;
  arrays["harmonics.directions"].columns = samples.length;
  arrays["harmonics.solve"].rows = K;
  const avatar = new Avatar({
    num_gaussians: n, sh_degree: Math.sqrt(K) - 1, layers: 1, motion: false, rigged: true, two_frames: true,
    pose_correction: false, sway: given.lattice, limits: [-20, 20], units: { shift_m: 1, turn_rad: 1 },
    tuning: { neutral: given.expression.map(() => 0), gains: given.expression.map(() => 1) }, caps: [],
  }, arrays);
  avatar.evaluate({ ...given, joints: given.joints.flat(), sway: given.secondary_motion.flat() });
  return { moved_means: columns(avatar.means, n), moved_quats: columns(avatar.quats, n),
    moved_sh: columns(avatar.looks, n).map((own) => own.slice(1)) };
}

const tasks = {
  async conformance({ cases }) {
    const { basis, turnMatrix } = await load("harmonics");
    const { canonical, fromMatrix, fromRotvec, toMatrix, toRotvec } = await load("rotations");
    const { codesOf } = await load("codes");
    const { Avatar } = await load("avatar");
    const { rotations, harmonics, harmonics_rotation: turned, codes } = cases;
    const values = harmonics.directions.map((d) => { const out = new Array(16); basis(3, ...d, out); return out; });
    const layers = Object.fromEntries(codes.layers.map((part, i) => {
      const name = `coder.${Math.floor(i / 2)}.${i % 2 ? "bias" : "weight"}`;
      return [name, { rows: part.length, columns: i % 2 ? 1 : part[0].length, values: part.flat() }];
    }));
    return {
      rotations: {
        quats: rotations.rotvecs.map(fromRotvec), matrices: rotations.quats.map(toMatrix),
        from_matrices: rotations.matrices.map(fromMatrix), rotvecs: rotations.quats.map((q) => toRotvec(canonical(q))),
      },
      harmonics: { values },
      harmonics_rotation: { matrix: Array.from(turnMatrix(2, turned.rotation,
        { columns: turned.samples.length, values: rows(turned.samples) },
        { rows: turned.solve.length, values: turned.solve.flat() })) },
      deform: deformed(Avatar, turned, cases.deform),
      codes: { codes: codesOf(layers, 2, { ...codes, joints: codes.joints.flat() }) },
    };
  },
  async clouds({ states, eyes }) {
    const { Avatar } = await load("avatar");
    const { readArrays, unpacked } = await load("arrays");
    const { stateOf } = await load("states");
    const bytes = readFileSync(`${folder}/avatar.bin`);
    const content = await unpacked(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
    const avatar = new Avatar(facts, readArrays(facts.arrays, content));
    const byRow = (values) => Array.from({ length: values.length / avatar.count }, (_, r) =>
      Array.from(values.subarray(r * avatar.count, (r + 1) * avatar.count)));
    return states.map((state, i) => {
      avatar.evaluate(stateOf(facts, state));
      avatar.shade(eyes[i]);
      const { means, quats, sizes, opacities, colors } = avatar;
      return Object.fromEntries(Object.entries({ means, quats, logScales: sizes, opacities, colors })
        .map(([name, values]) => [name, byRow(values)]));
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
