/** Streams of a page in Chromium: to a device in Node and back, through an edge. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { before, describe, it, type TestContext } from "node:test";
import type { LocalEdge } from "../../../src/cli/local-edge/local-edge.ts";
import { type DeviceStream, MemoryKeyring, parseFingerprint } from "../../../src/device/index.ts";
import { hs256, type Issuer, jwks } from "../../edge/issuer.ts";
import { afterAll, connect, startEdge } from "../../edge/mailbox/support.ts";
import { pattern } from "../../streams/support.ts";
import { soon } from "../../support/watch.ts";
import { bundled, NO_CHROMIUM, openPage } from "../page.ts";
import { digestOf, sendAll } from "./support.ts";

const OCTETS = 8 * 1024 * 1024;

/** How long a step of a page may take, in milliseconds: on a busy machine a browser takes a minute. */
const STEP = 300_000;

/**
 * Makes a key, loads itself again, and then has the key from IndexedDB. Reports its fingerprint each time, and what it has
 * seen of its streams in the end.
 */
const PAGE = `<!doctype html><title>page</title><script type="module">
  import { Device, formatFingerprint, MemoryKeyring, parseFingerprint } from "/device.js";
  const { options, to, fingerprint, octets } = JSON.parse(decodeURIComponent(location.hash.slice(1)));
  const done = (request) => new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  const report = (path, value) => fetch(path, { method: "POST", body: JSON.stringify(value) });
  const reasonOf = (promise) => promise.then(() => "none", ({ reason }) => reason);

  function pattern(seed) {
    const made = new Uint8Array(octets);
    for (let at = 0; at < octets; at += 1) made[at] = (at * 167 + (at >>> 8) * 13 + seed * 59) & 0xff;
    return made;
  }

  async function digestOf({ readable }) {
    const all = new Uint8Array(await new Response(readable).arrayBuffer());
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", all));
    return all.length + " " + [...digest].map((octet) => octet.toString(16).padStart(2, "0")).join("");
  }

  async function run() {
    const opening = indexedDB.open("keys");
    opening.onupgradeneeded = () => opening.result.createObjectStore("keyring");
    const database = await done(opening);
    const store = () => database.transaction("keyring", "readwrite").objectStore("keyring");
    const saving = [];
    const save = (contents) => {
      const saved = done(store().put(contents, "mine"));
      saving.push(saved);
      return saved;
    };
    const contents = await done(store().get("mine"));
    const keyring = new MemoryKeyring(contents, { onChanged: save });
    await report("/fingerprint", keyring.fingerprint);
    if (contents === undefined) {
      await save(keyring.contents);
      location.reload();
      return;
    }
    keyring.accept(to, parseFingerprint(fingerprint));
    const device = await Device.connect({ ...options, keyring, receive: "streams" });
    const served = new Promise((resolve) => {
      device.serve("echo", async (stream) => {
        await stream.readable.pipeTo(stream.writable);
        await stream.closed;
        resolve(stream.peer.address);
      });
    });
    await report("/serving");
    const whole = await device.dial(to, "whole");
    const writer = whole.writable.getWriter();
    await writer.write(pattern(1));
    await writer.close();
    const download = await digestOf(whole);
    await whole.closed;
    const theirs = await device.dial(to, "reset");
    theirs.writable.getWriter().write(new Uint8Array(1)).catch(() => undefined);
    const wasReset = await reasonOf(theirs.closed);
    const mine = await device.dial(to, "wait");
    await mine.writable.abort();
    const unknown = await reasonOf(device.dial(to, "unknown"));
    const result = { download, wasReset, unknown, caller: await served, transport: device.transport };
    await device.close();
    await Promise.all(saving);
    const kept = (await done(store().get("mine"))).pins.get(to);
    await report("/result", { ...result, pinned: formatFingerprint(kept) });
  }

  run().catch((error) => report("/result", { error: String(error) }));
</script>`;

interface Result {
  readonly error?: string;
  readonly download?: string;
}

function digestText({ octets, digest }: { readonly octets: number; readonly digest: string }): string {
  return `${octets} ${digest}`;
}

function expected(seed: number): string {
  const octets = pattern(seed, 0, OCTETS);
  return digestText({ octets: OCTETS, digest: createHash("sha256").update(octets).digest("hex") });
}

describe("a page in Chromium", { skip: NO_CHROMIUM }, () => {
  let edge: LocalEdge;
  let issuer: Issuer;
  let script: string;
  const context = afterAll();

  before(async () => {
    issuer = await hs256();
    edge = await startEdge(context, { keys: jwks(issuer) });
    script = (await bundled()).text;
  });

  /** A device in Node that the page dials, and what it has seen. */
  async function node(t: TestContext, token: string, address: string) {
    const keyring = new MemoryKeyring();
    const device = await connect(edge, address, "websocket", { keyring, receive: "streams", token });
    t.after(() => device.close());
    const upload = Promise.withResolvers<string>();
    const wasReset = Promise.withResolvers<string>();
    device.serve("whole", async (stream) => {
      // The page has half-closed, and still reads.
      upload.resolve(digestText(await digestOf(stream)));
      await sendAll(stream, [pattern(2, 0, OCTETS)]);
    });
    device.serve("reset", async (stream) => {
      await stream.readable.getReader().read();
      stream.reset();
    });
    device.serve("wait", (stream) => {
      stream.accept();
      stream.closed.catch(({ reason }: { readonly reason: string }) => wasReset.resolve(reason));
    });
    return { device, keyring, upload: upload.promise, wasReset: wasReset.promise };
  }

  for (const transport of ["websocket", "keepalive"] as const) {
    it(`dials and serves by ${transport}: 8 MiB each way, half-close and reset, with a key that it keeps`, async (t) => {
      const [here, there] = [`node/${transport}`, `page/${transport}`];
      const token = await issuer.issue({ address: "*", scope: "connect receive send:* stream:*" });
      const { device, keyring, upload, wasReset } = await node(t, token, here);
      const fingerprints: string[] = [];
      const serving = Promise.withResolvers<void>();
      const { result } = await openPage<Result>(t, {
        script,
        html: PAGE,
        task: {
          options: { edge: edge.url, address: there, token, transport },
          to: here,
          fingerprint: keyring.fingerprint,
          octets: OCTETS,
        },
        onPost: (path, body) => {
          if (path === "/serving") serving.resolve();
          else if (fingerprints.push(JSON.parse(body)) === 2) {
            keyring.accept(there, parseFingerprint(fingerprints[1] ?? "") ?? new Uint8Array());
          }
        },
      });
      const failed = result.then((early) => assert.fail(JSON.stringify(early)));
      failed.catch(() => undefined);
      await soon(Promise.race([serving.promise, failed]), "the page's service", STEP);
      const echo: DeviceStream = await device.dial(there, "echo");
      const [, came] = await soon(
        Promise.all([sendAll(echo, [pattern(3, 0, OCTETS)]), digestOf(echo)]),
        "what the page sends back",
        STEP,
      );
      assert.equal(digestText(came), expected(3));
      assert.deepEqual(await soon(result, "the result", STEP), {
        download: expected(2),
        wasReset: "ConnectionReset",
        unknown: "ServiceUnknown",
        caller: here,
        transport,
        pinned: keyring.fingerprint,
      });
      assert.equal(await upload, expected(1));
      assert.equal(await soon(wasReset, "the page's reset", STEP), "ConnectionReset");
      assert.equal(fingerprints.length, 2);
      assert.equal(fingerprints[0], fingerprints[1]);
    });
  }
});
