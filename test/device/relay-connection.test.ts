/** When a connection writes what its engine has to send. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type Destination, RelayConnection } from "../../src/device/relay-connection.ts";
import { CAPABILITIES, type Transport, type TransportName } from "../../src/device/transports/transport.ts";
import { endOfTurn } from "../../src/lib/runtime/timeout.ts";
import { Connection } from "../../src/sstp/index.ts";

const BOB: Destination = {
  to: "bob",
  key: "bob",
  resourceURL: "stream",
  identityURL: "grooveIdentity://bob",
  deviceURL: "",
  relayURL: "",
  newId: () => "1",
};

/** A connection with a session to bob, over a transport whose writes the test sees. */
async function connected(name: TransportName) {
  const relay = new Connection({ role: "relay", outbound: false, localDeviceURLs: ["grooveDNS://edge"], now: 0 });
  const writes: number[] = [];
  const bodies: string[] = [];
  const broken = { is: false };
  let read: (octets: Uint8Array | undefined) => void = () => undefined;
  const answer = () => {
    for (const block of relay.output(0)) read(block);
  };
  const take = (block: Uint8Array) => {
    for (const event of relay.receive(block.slice(), 0)) {
      if (event.type === "connect") relay.acceptConnect();
      if (event.type === "open") relay.setAvailability(event.sessionId, "ready");
      if (event.type === "data") bodies.push(Buffer.from(event.octets).toString());
    }
  };
  const transport: Transport = {
    name,
    capabilities: CAPABILITIES[name],
    established: Promise.resolve(),
    answered: Promise.resolve(),
    ended: new Promise(() => undefined),
    heardAt: 0,
    remaining: Number.POSITIVE_INFINITY,
    lost: undefined,
    read: () => new Promise((resolve) => (read = resolve)),
    async write(blocks) {
      if (broken.is) throw new Error("broken");
      writes.push(blocks.length);
      for (const block of blocks) take(block);
      setImmediate(answer);
    },
    close: () => undefined,
  };
  const options = { transport: name, relay: "edge", address: { identity: "alice", device: "pc" }, ends: true } as const;
  const carrier = new RelayConnection(
    { ...options, receive: false, open: () => transport },
    () => undefined,
    () => undefined,
  );
  await carrier.connect();
  const opened = await carrier.session(BOB);
  assert.ok(opened.ok);
  writes.length = 0;
  const send = (body: string) => {
    carrier.engine.beginMessage(opened.sessionId, { userRef: "1" });
    carrier.engine.data(opened.sessionId, Buffer.from(body));
    carrier.engine.endMessage(opened.sessionId);
  };
  return { carrier, writes, bodies, broken, send };
}

describe("what a device sends now", () => {
  it("is written at once, and what follows in the same turn at its end", async () => {
    const { carrier, writes, bodies, send } = await connected("websocket");
    send("a");
    void carrier.flushNow();
    assert.deepEqual([writes.length, bodies], [1, ["a"]]);
    send("b");
    void carrier.flushNow();
    send("c");
    const flushed = carrier.flushNow();
    assert.equal(writes.length, 1);
    await flushed;
    assert.deepEqual([writes.length, bodies], [2, ["a", "b", "c"]]);
    send("d");
    void carrier.flushNow();
    assert.deepEqual(bodies, ["a", "b", "c", "d"]);
  });

  it("is written at once even if the end of the turn was awaited already", async () => {
    const { carrier, writes, send } = await connected("websocket");
    const flushed = carrier.flush();
    send("a");
    void carrier.flushNow();
    assert.equal(writes.length, 1);
    await flushed;
    assert.equal(writes.length, 1);
  });

  for (const name of ["keepalive", "polling"] as const) {
    it(`waits for the end of the turn by ${name}, where each write is a request`, async () => {
      const { carrier, writes, send } = await connected(name);
      send("a");
      const flushed = carrier.flushNow();
      assert.equal(writes.length, 0);
      await flushed;
      assert.equal(writes.length, 1);
    });
  }

  it("ends the connection if it cannot be written", async () => {
    const { carrier, broken, send } = await connected("websocket");
    broken.is = true;
    send("a");
    await carrier.flushNow();
    await endOfTurn();
    assert.match(carrier.engine.closed?.detail ?? "", /Resting|closed/);
  });
});
