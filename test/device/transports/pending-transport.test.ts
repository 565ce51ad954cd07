/** A transport that is closed while its way is still to be found. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { DeviceError } from "../../../src/device/device-error.ts";
import { PendingTransport } from "../../../src/device/transports/pending-transport.ts";
import { CAPABILITIES, type Transport, type Way } from "../../../src/device/transports/transport.ts";
import { soon } from "../../support/watch.ts";

const WAY: Way = { transport: "longlived", host: "edge.example.com", port: 443, secure: true, proxies: [] };
const never = new Promise<never>(() => undefined);

/** A transport that neither establishes nor writes. */
function broken(): Transport {
  return {
    name: "longlived",
    capabilities: CAPABILITIES.longlived,
    established: never,
    answered: never,
    ended: never,
    heardAt: 0,
    remaining: 0,
    lost: undefined,
    read: () => never,
    write: () => Promise.reject(new Error("nothing can be written")),
    close: () => undefined,
  };
}

describe("a transport without a way", () => {
  it("that is closed says so at once, though nothing answers for the ways", async () => {
    const transport = new PendingTransport("longlived", { find: () => never, open: () => never });
    transport.close();
    await assert.rejects(soon(transport.established, "the end"), { name: "DeviceError", code: "Closed" });
    assert.equal(await soon(transport.read(), "the end of reading"), undefined);
  });

  it("that is closed while a way is opened says so, and opens no other", async () => {
    const opened: AbortSignal[] = [];
    const transport = new PendingTransport("longlived", {
      find: async () => [WAY, WAY],
      open: (_, signal) => {
        opened.push(signal);
        return new Promise((_, reject) => {
          signal.addEventListener("abort", () => reject(signal.reason));
        });
      },
    });
    while (opened.length === 0) await new Promise((resolve) => setImmediate(resolve));
    transport.close();
    await assert.rejects(soon(transport.established, "the end"), { name: "DeviceError", code: "Closed" });
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(opened.length, 1);
  });

  it("opens no way that is found after its end", async () => {
    const found = Promise.withResolvers<readonly Way[]>();
    let opened = 0;
    const transport = new PendingTransport("longlived", {
      find: () => found.promise,
      open: () => {
        opened += 1;
        return never;
      },
    });
    transport.close();
    found.resolve([WAY]);
    await assert.rejects(transport.established, { code: "Closed" });
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(opened, 0);
  });

  it("takes what is written only when the transport that is established has taken it", async () => {
    const taking = Promise.withResolvers<void>();
    const established = Promise.withResolvers<void>();
    const written: Uint8Array[] = [];
    const transport = new PendingTransport("websocket", {
      find: async () => [WAY, { ...WAY, host: "other.example.com" }],
      open: async () => {
        if (written.length > 0) return { ...broken(), established: established.promise, write: take };
        return {
          ...broken(),
          established: Promise.reject(new DeviceError("ConnectFailed", "this way fails")),
          write: take,
        };
      },
    });
    const take = (octets: readonly Uint8Array[]) => {
      written.push(...octets);
      return written.length < 2 ? never : taking.promise;
    };
    let isTaken = false;
    const writing = transport.write([Uint8Array.of(1)]).then(() => {
      isTaken = true;
    });
    await new Promise((resolve) => setImmediate(resolve));
    established.resolve();
    await transport.established;
    await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual([written.length, isTaken], [2, false], "both ways got it, and the second is not done");
    taking.resolve();
    await soon(writing, "the end of writing");
  });

  it("survives a way that cannot be written to", async () => {
    const transport = new PendingTransport("longlived", { find: async () => [WAY], open: async () => broken() });
    void transport.write([Uint8Array.of(1)]);
    await new Promise((resolve) => setImmediate(resolve));
    void transport.write([Uint8Array.of(2)]);
    await new Promise((resolve) => setImmediate(resolve));
    transport.close();
    await assert.rejects(transport.established, { code: "Closed" });
  });
});
