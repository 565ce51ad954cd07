/** A page in Chromium that a test drives, by the DevTools protocol. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import type { TestContext } from "node:test";
import { WebSocket } from "ws";
import { folder } from "../cli/support.ts";
import { CHROMIUM, FLAGS } from "./chromium.ts";

export interface Look {
  /** CSS pixels. */
  readonly width: number;
  readonly height?: number;
  readonly dark?: boolean;
  readonly javascript?: boolean;
}

export interface DrivenPage {
  /** Everything that the page has logged, and what the browser has refused it. */
  readonly said: readonly string[];
  look(look: Look): Promise<void>;
  open(url: string): Promise<void>;
  /** From now on takes any certificate. */
  trustAll(): Promise<void>;
  /** Names of the cookies that the browser has for a page. */
  cookies(url: string): Promise<string[]>;
  /** Runs something in the page, and returns its value when its promise resolves. */
  run<T>(expression: string): Promise<T>;
  /** Does something that loads another page, and waits for that. */
  follow(expression: string): Promise<void>;
  /** Presses a key, such as Tab or Enter. */
  press(key: string): Promise<void>;
  /** The whole page as a PNG. */
  screenshot(): Promise<Buffer>;
}

/** Opens an empty page until the test is over. */
export async function openPage(t: TestContext): Promise<DrivenPage> {
  const args = [...FLAGS, "--remote-debugging-port=0", `--user-data-dir=${await folder(t)}`, "about:blank"];
  const browser = spawn(CHROMIUM, args, { stdio: ["ignore", "ignore", "pipe"] });
  t.after(async () => {
    const gone = once(browser, "exit");
    if (browser.kill("SIGTERM")) await gone;
  });
  const url = await new Promise<string>((resolve, reject) => {
    createInterface({ input: browser.stderr }).on("line", (line) => {
      const found = /ws:\/\/\S+/.exec(line)?.[0];
      if (found !== undefined) resolve(found);
    });
    browser.once("exit", () => reject(new Error("Chromium has ended")));
  });
  const pages = await fetch(`http://${new URL(url).host}/json/list`);
  const [page] = ((await pages.json()) as { type: string; webSocketDebuggerUrl: string }[]).filter(
    ({ type }) => type === "page",
  );
  const socket = new WebSocket(page?.webSocketDebuggerUrl ?? "");
  await once(socket, "open");
  t.after(() => socket.close());

  interface Answer {
    readonly id?: number;
    readonly method?: string;
    readonly params?: Record<string, unknown>;
    readonly result?: Record<string, unknown>;
    readonly error?: { readonly message: string };
  }
  const said: string[] = [];
  const waiting = new Map<number, (answer: Answer) => void>();
  let loads = 0;
  let loaded: (() => void) | undefined;
  socket.on("message", (data) => {
    const answer = JSON.parse(String(data)) as Answer;
    if (answer.id !== undefined) waiting.get(answer.id)?.(answer);
    if (answer.method === "Page.loadEventFired") {
      loads += 1;
      loaded?.();
    }
    if (answer.method === "Log.entryAdded" || answer.method === "Runtime.exceptionThrown") {
      said.push(JSON.stringify(answer.params));
    }
  });
  let last = 0;
  const send = async (method: string, params: object = {}): Promise<Record<string, unknown>> => {
    const id = ++last;
    const answered = new Promise<Answer>((resolve) => waiting.set(id, resolve));
    socket.send(JSON.stringify({ id, method, params }));
    const { result = {}, error } = await answered;
    waiting.delete(id);
    if (error !== undefined) throw new Error(`${method}: ${error.message}`);
    return result;
  };
  const untilLoaded = async (before: number) => {
    while (loads <= before) await new Promise<void>((resolve) => (loaded = resolve));
  };
  const run = async <T>(expression: string): Promise<T> => {
    const { result, exceptionDetails } = await send("Runtime.evaluate", {
      expression,
      awaitPromise: true,
      returnByValue: true,
      userGesture: true,
    });
    if (exceptionDetails !== undefined) throw new Error(JSON.stringify(exceptionDetails));
    return (result as { value: T }).value;
  };
  await send("Page.enable");
  await send("Runtime.enable");
  await send("Log.enable");
  return {
    said,
    async look({ width, height = 900, dark = false, javascript = true }) {
      await send("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: width < 600 });
      await send("Emulation.setEmulatedMedia", {
        features: [{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }],
      });
      await send("Emulation.setScriptExecutionDisabled", { value: !javascript });
    },
    async open(address) {
      const before = loads;
      await send("Page.navigate", { url: address });
      await untilLoaded(before);
    },
    run,
    async trustAll() {
      await send("Security.setIgnoreCertificateErrors", { ignore: true });
    },
    async cookies(address) {
      const { cookies } = await send("Network.getCookies", { urls: [address] });
      return (cookies as { name: string }[]).map(({ name }) => name);
    },
    async follow(expression) {
      const before = loads;
      await run(`void (${expression})`);
      await untilLoaded(before);
    },
    async press(key) {
      const text = key === "Enter" ? { text: "\r" } : {};
      const code = { Enter: 13, Tab: 9 }[key];
      const event = { key, code: key, ...(code !== undefined && { windowsVirtualKeyCode: code }) };
      await send("Input.dispatchKeyEvent", { type: "keyDown", ...event, ...text });
      await send("Input.dispatchKeyEvent", { type: "keyUp", ...event });
    },
    async screenshot() {
      const { data } = await send("Page.captureScreenshot", { captureBeyondViewport: true });
      return Buffer.from(String(data), "base64");
    },
  };
}
