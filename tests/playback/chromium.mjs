// Drives one page of Chromium for tests/playback/chromium.py: a line of JSON in, a line of JSON out.

import { createInterface } from "node:readline";

const { chromium } = await import(process.env.PLAYWRIGHT_PACKAGE);
const DRAWING = process.env.LIKENESS_CHROMIUM_GPU ? ["--enable-gpu", "--ignore-gpu-blocklist"]
  : ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"];
const FLAGS = ["--no-sandbox", ...DRAWING,
  "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]; // a webcam that shows a test picture
let browser, page, log = [], requests = [];

const actions = {
  async start() {
    browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: FLAGS });
  },
  async open({ url, width = 1000, height = 700, touch = false }) {
    await page?.context().close();
    const context = await browser.newContext({ viewport: { width, height }, hasTouch: touch, isMobile: touch });
    page = await context.newPage();
    [log, requests] = [[], []];
    page.on("console", (message) => log.push(`${message.type()}: ${message.text()}`));
    page.on("pageerror", (error) => log.push(`uncaught: ${error.message}`));
    context.on("request", (request) => requests.push(request.url()));
    await page.goto(url);
  },
  visit: async ({ url }) => { await page.goto(url); }, // another address in the same browser, its cookies kept
  // Playwright evaluates in the page by the debugger, which no Content-Security-Policy hinders.
  evaluate: async ({ script, value }) => {
    const handle = await page.evaluateHandle(script);
    return page.evaluate(([f, v]) => (typeof f === "function" ? f(v) : f), [handle, value]);
  },
  resize: ({ width, height }) => page.setViewportSize({ width, height }),
  screenshot: async ({ path }) => { await page.screenshot({ path }); },
  drag: async ({ from, to }) => {
    await page.mouse.move(...from);
    await page.mouse.down();
    await page.mouse.move(...to, { steps: 5 });
    await page.mouse.up();
  },
  log: () => ({ log, requests }),
  drop: async ({ name, text }) => {
    const data = await page.evaluateHandle(([n, t]) => {
      const transfer = new DataTransfer();
      transfer.items.add(new File([t], n, { type: "text/csv" }));
      return transfer;
    }, [name, text]);
    await page.dispatchEvent("#stage", "drop", { dataTransfer: data });
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { action, ...values } = JSON.parse(line);
  let answer;
  try {
    answer = { value: await actions[action](values) };
  } catch (error) {
    answer = { error: error.message };
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
}
await browser?.close();
