/** The names of an edge on this machine: every one it prints, and every one it is given. */
import assert from "node:assert/strict";
import { networkInterfaces } from "node:os";
import { describe, it, type TestContext } from "node:test";
import { edgeNames } from "../../../src/cli/local-edge/edge-names.ts";
import { type LocalEdge, type LocalEdgeOptions, startLocalEdge } from "../../../src/cli/local-edge/local-edge.ts";
import { DeviceError } from "../../../src/device/device-error.ts";
import { Device } from "../../../src/device/index.ts";
import { startRelay } from "../../../src/relay/index.ts";

describe("names of an edge", () => {
  for (const [host, said, names] of [
    ["127.0.0.1", [], ["127.0.0.1", "localhost", "[::1]"]],
    ["::1", [], ["[::1]", "localhost", "127.0.0.1"]],
    ["localhost", [], ["localhost", "127.0.0.1", "[::1]"]],
    ["127.0.0.5", ["Edge.Example.com"], ["edge.example.com", "127.0.0.5", "localhost", "127.0.0.1", "[::1]"]],
    ["192.0.2.7", ["a.example.com", "b.example.com"], ["a.example.com", "b.example.com", "192.0.2.7"]],
    ["2001:DB8::7", ["2001:db8::8"], ["[2001:db8::8]", "[2001:db8::7]"]],
  ] as const) {
    it(`are ordered by preference (listening on ${host}, given ${said.join(" and ") || "none"})`, () => {
      assert.deepEqual(edgeNames(host, said), names);
    });
  }

  it("include each address of the machine when it listens on all addresses", () => {
    const addresses = Object.values(networkInterfaces()).flatMap((all) => all ?? []);
    const names = edgeNames("0.0.0.0", []);
    for (const { family, address } of addresses) if (family === "IPv4") assert(names.includes(address), address);
    assert(names.includes("localhost") && !names.includes("[::1]") && !names.includes("0.0.0.0"));
    assert(edgeNames("::", []).includes("[::1]"));
  });

  it("exclude a name of an origin relay on this machine, unless the operator assigns it to the edge", () => {
    assert(!edgeNames("127.0.0.1", [], ["localhost"]).includes("localhost"));
    assert(!edgeNames("127.0.0.1", [], ["127.0.0.1:2492"]).includes("127.0.0.1"));
    assert(edgeNames("127.0.0.1", [], ["127.0.0.1:2493"]).includes("127.0.0.1"));
    assert(edgeNames("127.0.0.1", ["localhost"], ["localhost"]).includes("localhost"));
  });
});

it("an edge tells which of its names mean an origin relay instead", async (context) => {
  const edge = await start(context, { relayAllow: ["127.0.0.1"] });
  assert.deepEqual([edge.names, edge.relayNames], [["localhost", "[::1]"], ["127.0.0.1"]]);
});

async function start(context: TestContext, options: Partial<LocalEdgeOptions>): Promise<LocalEdge> {
  const edge = await startLocalEdge({ port: 0, relayAllow: [], dev: "open", ...options });
  context.after(() => edge.close());
  return edge;
}

async function meet(url: string, transport: "keepalive" | "websocket", relay?: string): Promise<void> {
  const device = await Device.connect({
    edge: url,
    address: "alice/pc",
    transport,
    ...(relay !== undefined && { relay }),
  });
  await device.close();
}

describe("a device that names the edge by the host of its URL", () => {
  for (const host of ["::1", "127.0.0.1", "0.0.0.0"]) {
    it(`reaches one that listens on ${host} by its printed URL and by localhost`, async (context) => {
      const edge = await start(context, { host });
      await meet(edge.url, "keepalive");
      if (host !== "::1") await meet(edge.url.replace("127.0.0.1", "localhost"), "websocket");
    });
  }

  it("exchanges messages over a link with a relay when both listen on ::1 and have no other name", async (context) => {
    const relay = await startRelay({ host: "::1", port: 0 });
    context.after(() => relay.close());
    const at = `[::1]:${relay.port}`;
    const edge = await start(context, { host: "::1", relayAllow: [at], dev: "open private" });
    assert.equal(edge.names[0], "[::1]");
    const alice = await Device.connect({ edge: edge.url, address: "alice/pc", transport: "websocket" });
    context.after(() => alice.close());
    const bob = await Device.connect({ relay: at, address: "bob/pc", transport: "tcp" });
    context.after(() => bob.close());
    await alice.send(`bob/pc@${at}`, "there");
    for await (const message of bob.messages()) {
      message.done();
      assert.deepEqual([message.text(), message.from, message.vouched], ["there", "alice/pc@[::1]", true]);
      await bob.send(message.from ?? "", "and back");
      break;
    }
    for await (const message of alice.messages()) {
      message.done();
      assert.deepEqual([message.text(), message.from], ["and back", `bob/pc@${at}`]);
      break;
    }
  });

  it("reaches one with several names, and sends to a peer by any of them", async (context) => {
    const edge = await start(context, { relayName: ["edge.example.com", "edge.example.net"] });
    const bob = await Device.connect({
      edge: edge.url,
      address: "bob/pc",
      transport: "websocket",
      relay: "edge.example.net",
    });
    const alice = await Device.connect({ edge: edge.url, address: "alice/pc", transport: "keepalive" });
    context.after(() => Promise.all([alice.close(), bob.close()]));
    for (const name of edge.names) await alice.send(`bob/pc@${name}`, `by ${name}`);
    const came: string[] = [];
    for await (const message of bob.messages()) {
      message.done();
      came.push(new TextDecoder().decode(message.body));
      if (came.length === edge.names.length) break;
    }
    assert.deepEqual(
      came,
      edge.names.map((name) => `by ${name}`),
    );
  });

  for (const transport of ["keepalive", "websocket"] as const) {
    it(`is told which name to use behind a reverse proxy (${transport})`, async (context) => {
      const edge = await start(context, { relayName: "edge.example.com" });
      await assert.rejects(meet(edge.url, transport, "proxy.example.com"), (error: unknown) => {
        assert(error instanceof DeviceError);
        assert.equal(error.code, "Refused");
        assert.match(
          error.message,
          /name it edge\.example\.com \(--relay edge\.example\.com\)\. .* add it to ORIGIN_RELAYS.*\[RelayNotAllowed\]$/,
        );
        return true;
      });
    });
  }

  it("finds the name in the problem document as well", async (context) => {
    const edge = await start(context, { relayName: "edge.example.com" });
    const answer = await fetch(`${edge.url}/2.0/proxy.example.com/${"0".repeat(39)},ConnType=KeepAlive`);
    assert.equal(answer.status, 403);
    assert.equal(answer.headers.get("Grooveway-Relay"), "edge.example.com");
    assert.match(
      ((await answer.json()) as { detail: string }).detail,
      /name it edge\.example\.com \(--relay edge\.example\.com\)\.$/,
    );
  });
});
