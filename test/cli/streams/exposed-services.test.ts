/** An exposed service gets a socket for each stream of a device that is admitted to it, and for nothing else. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:net";
import { describe, it, type TestContext } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { FileKeyring } from "../../../src/cli/keyring/file-keyring.ts";
import { ExposedServices } from "../../../src/cli/streams/exposed-services.ts";
import { StreamLog } from "../../../src/cli/streams/stream-log.ts";
import { type Device, DeviceError, MemoryKeyring, publicKeyOf, StreamError } from "../../../src/device/index.ts";
import type { StreamHost } from "../../../src/device/streams/stream-host.ts";
import { KIND } from "../../../src/streams/packet.ts";
import { HostileEdge, packetsOf, parcelOf } from "../../torture/hostile-edge.ts";
import { folder, withVariables } from "../support.ts";

const OVER = new DeviceError("Closed", "over");
const OFFICE = "office/desk";

/** A device that exposes `echo` to the devices of alice, and counts the connections that the service gets. */
async function exposing(t: TestContext) {
  t.mock.method(console, "log", () => undefined);
  const hosts: StreamHost[] = [];
  t.after(() => {
    for (const host of hosts) host.end(OVER);
  });
  let connections = 0;
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    connections += 1;
    socket.on("error", () => undefined);
    socket.pipe(socket);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  const { port } = server.address() as { port: number };
  const alice = new MemoryKeyring();
  const rule = { kind: "accept", address: "alice/*", key: publicKeyOf(alice.secretKey) } as const;
  const keys = await withVariables(
    { XDG_CONFIG_HOME: await folder(t) },
    async () => new FileKeyring({ beside: [rule] }),
  );
  const join = (edge: HostileEdge, address: string, keyring: MemoryKeyring | FileKeyring): StreamHost => {
    const host = edge.join(address, keyring);
    hosts.push(host);
    return host;
  };
  /** Starts the device, or starts it again. */
  const start = (edge: HostileEdge): StreamHost => {
    const host = join(edge, OFFICE, keys);
    const device: Pick<Device, "address" | "serve"> = {
      address: OFFICE,
      serve: (service, handler) => host.serve(service, handler),
    };
    const services = new Map([["echo", { host: "127.0.0.1", port }]]);
    new ExposedServices(device, new StreamLog()).set({ services, destinations: [] });
    return host;
  };
  return { alice, join, start, connections: () => connections };
}

/** Lets everything pass that is on its way. */
async function quiet(): Promise<void> {
  for (let n = 0; n < 50; n += 1) await turn();
}

async function echoed(host: StreamHost): Promise<string> {
  const stream = await host.dial(OFFICE, "echo");
  const writer = stream.writable.getWriter();
  await writer.write(new TextEncoder().encode("hello"));
  await writer.close();
  const text = await new Response(stream.readable).text();
  await stream.closed;
  return text;
}

const because = (reason: string) => (error: unknown) => error instanceof StreamError && error.reason === reason;

describe("an exposed service gets no connection", () => {
  it("for a name that is not exposed, an address that no rule has, or a key that no rule has", async (t) => {
    const { alice, join, start, connections } = await exposing(t);
    const edge = new HostileEdge();
    start(edge);
    const admitted = join(edge, "alice/pc", alice);
    await assert.rejects(admitted.dial(OFFICE, "other"), because("ServiceUnknown"));
    await assert.rejects(admitted.dial(OFFICE, "echo2"), because("ServiceUnknown"));
    // The key is right, and the address is another's.
    await assert.rejects(join(edge, "alicia/pc", alice).dial(OFFICE, "echo"), because("UnknownKey"));
    await assert.rejects(join(edge, "alice/tv", new MemoryKeyring()).dial(OFFICE, "echo"), because("UnknownKey"));
    assert.equal(connections(), 0);
    assert.equal(await echoed(admitted), "hello");
    assert.equal(connections(), 1);
  });

  it("from an edge that plays a whole session again, also after a restart", async (t) => {
    const { alice, join, start, connections } = await exposing(t);
    const edge = new HostileEdge();
    const first = start(edge);
    const dialer = join(edge, "alice/pc", alice);
    assert.equal(await echoed(dialer), "hello");
    dialer.end(OVER);
    await quiet();
    // By IK, whose first message already proves who has written it.
    assert.equal(await echoed(join(edge, "alice/pc", alice)), "hello");
    assert.equal(connections(), 2);
    const session = [...edge.seen];
    edge.treat = (parcel) => (parcel.from === OFFICE ? [parcel] : []);
    const replay = async () => {
      for (const order of [session, session.toReversed(), session]) {
        for (const parcel of order) edge.deliver(parcel);
        await quiet();
      }
    };
    await replay();
    first.end(OVER);
    start(edge);
    await replay();
    assert.equal(connections(), 2);
  });

  it("from an edge that passes only the handshake on, or under another name", async (t) => {
    const { alice, join, start, connections } = await exposing(t);
    const edge = new HostileEdge();
    start(edge);
    const dialer = join(edge, "alice/pc", alice);
    edge.treat = (parcel) =>
      packetsOf(parcel).flatMap((each) => (each.body[0] === KIND.record ? [] : [parcelOf(each)]));
    const dialing = dialer.dial(OFFICE, "echo");
    await quiet();
    dialer.end(OVER);
    await assert.rejects(dialing);
    edge.treat = (parcel) => {
      if (parcel.to === OFFICE) return [{ ...parcel, from: "alice/evil" }];
      return parcel.to === "alice/evil" ? [{ ...parcel, to: "alice/pc" }] : [parcel];
    };
    await assert.rejects(join(edge, "alice/pc", alice).dial(OFFICE, "echo"), because("HandshakeFailed"));
    assert.equal(connections(), 0);
  });

  it("from an edge that stands between the devices at first contact", async (t) => {
    const { alice, join, start, connections } = await exposing(t);
    const [near, far] = [new HostileEdge(), new HostileEdge()];
    start(far);
    const mallory = new MemoryKeyring();
    mallory.accept("alice/pc", publicKeyOf(alice.secretKey));
    const asAlice = join(far, "alice/pc", mallory);
    const outcome = Promise.withResolvers<unknown>();
    join(near, OFFICE, mallory).serve("echo", async (stream) => {
      stream.accept();
      await asAlice.dial(OFFICE, "echo").then(() => outcome.resolve("opened"), outcome.resolve);
    });
    await join(near, "alice/pc", alice).dial(OFFICE, "echo");
    assert.ok(because("UnknownKey")(await outcome.promise));
    assert.equal(connections(), 0);
  });
});
