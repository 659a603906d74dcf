// Draws the Gaussians with Spark on three.js. Both see the head frame as their world.

import { Color, Matrix4, PackedSplats, PerspectiveCamera, Scene, SparkRenderer, SplatMesh, WebGLRenderer }
  from "../vendor/three-spark.min.js";
import { packedLength } from "./packing.js";
import { composed, inverted, rotated, fromTransform, toMatrix } from "./rotations.js";

const NEAR = 0.01, FAR = 100; // metres

export class View {
  /** canvas: to draw on. count: Gaussians. Throws where the browser has no WebGL 2. */
  constructor(canvas, count) {
    this.renderer = new WebGLRenderer({ canvas, antialias: false, alpha: true, premultipliedAlpha: true });
    this.scene = new Scene();
    this.camera = new PerspectiveCamera();
    this.camera.matrixAutoUpdate = false;
    // As the avatar's own renderer: 0.3 px² added to each covariance, contributions from 1/255 on, order by depth.
    this.spark = new SparkRenderer({
      renderer: this.renderer, preBlurAmount: 0.3, blurAmount: 0, maxStdDev: 3.33, minAlpha: 1 / 255, clipXY: 2,
      maxPixelRadius: 4096, sortRadial: false, accumExtSplats: true, enableLod: false,
    });
    // Each Gaussian's square ends where its share falls below 1/255: the same picture with fewer pixels to fill.
    const vertex = this.spark.material.vertexShader;
    this.spark.material.vertexShader = vertex.replace("adjustedStdDev = maxStdDev;",
      "adjustedStdDev = min(maxStdDev, sqrt(2.0 * max(0.0, log(rgba.a / minAlpha))));");
    if (this.spark.material.vertexShader === vertex) throw new Error("vendor/three-spark.min.js: not the version expected");
    this.words = new Uint32Array(packedLength(count));
    this.splats = new PackedSplats({ packedArray: this.words, numSplats: count });
    this.mesh = new SplatMesh({ packedSplats: this.splats });
    this.scene.add(this.spark, this.mesh);
    this.setBackground("#ffffff");
  }

  /** Shows a colour (#rrggbb) behind, or nothing for null. */
  setBackground(color) {
    this.renderer.setClearColor(new Color(color ?? "#000000"), color ? 1 : 0);
    this.dirty = true;
  }

  /** The size of the picture: in CSS pixels, with ``ratio`` real ones for each. */
  resize(width, height, ratio) {
    this.renderer.setPixelRatio(ratio);
    this.renderer.setSize(width, height, false);
    this.dirty = true;
  }

  /** Takes the Gaussians that the worker packed. */
  setGaussians(words) {
    this.words.set(words);
    this.splats.needsUpdate = true;
    this.mesh.updateVersion();
    this.dirty = true;
  }

  /** camera: { K [3][3], pose (camera from world), width, height }. head: pose (world from head). */
  setCamera(camera, head) {
    const { K, width, height } = camera;
    const pose = composed(camera.pose, head), m = toMatrix(pose);
    // OpenGL's camera looks along -z with +y up: rows 2 and 3 change their sign.
    const view = new Matrix4().set(
      m[0], m[1], m[2], pose[4], -m[3], -m[4], -m[5], -pose[5], -m[6], -m[7], -m[8], -pose[6], 0, 0, 0, 1);
    this.camera.matrix.copy(view).invert();
    this.camera.updateMatrixWorld(true);
    this.camera.projectionMatrix.set(
      (2 * K[0][0]) / width, (-2 * K[0][1]) / width, 1 - (2 * K[0][2]) / width, 0,
      0, (2 * K[1][1]) / height, (2 * K[1][2]) / height - 1, 0,
      0, 0, -(FAR + NEAR) / (FAR - NEAR), (-2 * FAR * NEAR) / (FAR - NEAR), 0, 0, -1, 0);
    this.camera.projectionMatrixInverse.copy(this.camera.projectionMatrix).invert();
    this.dirty = true;
  }

  /** Draws if anything has changed; returns whether it did. */
  draw() {
    if (!this.dirty && !this.spark.dirty) return false;
    this.dirty = false;
    this.renderer.render(this.scene, this.camera);
    return true;
  }

  /** Whether what is on the screen is sorted by the present depths. */
  get sorted() {
    return !this.spark.sorting && !this.spark.sortDirty && !this.spark.dirty && !this.dirty;
  }

  /** Waits until the graphics card has drawn all that it was told to. */
  async finished() {
    const gl = this.renderer.getContext();
    const fence = gl.fenceSync(gl.SYNC_GPU_COMMANDS_COMPLETE, 0);
    gl.flush();
    while (gl.clientWaitSync(fence, 0, 0) === gl.TIMEOUT_EXPIRED) await new Promise((done) => setTimeout(done, 0));
    gl.deleteSync(fence);
  }

  /** The picture as a PNG data URL. */
  picture() {
    this.renderer.render(this.scene, this.camera);
    return this.renderer.domElement.toDataURL("image/png");
  }
}

/** The camera's centre in the head frame. */
export function eyeOf(camera, head) {
  return inverted(composed(camera.pose, head)).slice(4);
}

/** The camera of a description { K, T_cam_world, width, height }. */
export function cameraOf({ K, T_cam_world, width, height }) {
  return { K, pose: fromTransform(T_cam_world), width, height };
}

/** The home camera orbited about a point of the world, its picture fitted into width x height. */
export function orbited(home, target, orbit, width, height) {
  const scale = Math.min(width / home.width, height / home.height);
  const [left, top] = [(width - home.width * scale) / 2, (height - home.height * scale) / 2];
  const K = [
    [home.K[0][0] * scale, home.K[0][1] * scale, home.K[0][2] * scale + left],
    [0, home.K[1][1] * scale, home.K[1][2] * scale + top],
    [0, 0, 1],
  ];
  const center = rotated(home.pose, target).map((v, i) => v + home.pose[4 + i]);
  // The camera's y looks down: a positive yaw shows more of the side that came in from the left.
  const half = [orbit.yaw / 2, orbit.pitch / 2];
  const about = [Math.cos(half[1]), Math.sin(half[1]), 0, 0, 0, 0, 0];
  const turn = composed(about, [Math.cos(half[0]), 0, -Math.sin(half[0]), 0, 0, 0, 0]);
  const moved = rotated(turn, center);
  const shift = center.map((v, i) => (i === 2 ? v * orbit.zoom : v) - moved[i]);
  return { K, pose: composed([...turn.slice(0, 4), ...shift], home.pose), width, height };
}
