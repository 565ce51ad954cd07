/** The entry for browsers as a script, and pages in Chromium that use it. */
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { browse } from "../support/chromium.ts";

const ENTRY = fileURLToPath(new URL("../../src/device/browser.ts", import.meta.url));

export { NO_CHROMIUM } from "../support/chromium.ts";

/** The entry for browsers and all that it imports, in one script. */
export async function bundled() {
  const { outputFiles, metafile } = await build({
    entryPoints: [ENTRY],
    bundle: true,
    write: false,
    metafile: true,
    format: "esm",
    platform: "browser",
    target: "es2024",
    logLevel: "silent",
  });
  return { text: outputFiles[0]?.text ?? "", metafile };
}

export interface Page {
  /** The entry for browsers, which the page imports as `/device.js`. */
  readonly script: string;
  /** It posts its result to `/result`. */
  readonly html: string;
  /** Handed to the page in the hash of its URL. */
  readonly task: unknown;
  /** Called with what the page posts elsewhere. It goes on when this has returned. */
  readonly onPost?: (path: string, body: string) => void;
}

/** Opens a page in Chromium, from an origin of its own; resolves with what it reports. */
export async function openPage<Result>(
  t: TestContext,
  { script, html, task, onPost }: Page,
): Promise<{ readonly result: Promise<Result> }> {
  const { promise, resolve } = Promise.withResolvers<Result>();
  const server = createServer((request, response) => {
    const { method, url = "" } = request;
    if (method === "POST") {
      const pieces: Buffer[] = [];
      request.on("data", (piece: Buffer) => pieces.push(piece));
      request.on("end", () => {
        const body = Buffer.concat(pieces).toString();
        if (url === "/result") resolve(JSON.parse(body));
        else onPost?.(url, body);
        response.end();
      });
      return;
    }
    const isScript = url === "/device.js";
    response.setHeader("Content-Type", isScript ? "text/javascript" : "text/html");
    response.end(isScript ? script : html);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/#${encodeURIComponent(JSON.stringify(task))}`;
  await browse(t, url);
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return { result: promise };
}
