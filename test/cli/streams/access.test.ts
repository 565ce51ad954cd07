/** Who may connect to what is exposed: said by rules of this user, which running commands follow. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type Server } from "node:net";
import { before, describe, it, type TestContext } from "node:test";
import type { LocalEdge } from "../../../src/cli/local-edge/local-edge.ts";
import { afterAll, startEdge } from "../../edge/mailbox/support.ts";
import { eventually } from "../../support/watch.ts";
import { folder, run, start } from "../support.ts";
import { errorOf, isEchoed, open, told } from "./support.ts";

let count = 0;

/** A service, and two users: one exposes it as `office`, one connects as `alice`. */
async function users(t: TestContext, edge: LocalEdge) {
  const sockets: { connections: number; server: Server } = {
    connections: 0,
    server: createServer({ allowHalfOpen: true }, (socket) => {
      sockets.connections += 1;
      socket.on("error", () => undefined);
      socket.pipe(socket);
    }),
  };
  sockets.server.listen(0, "127.0.0.1");
  await once(sockets.server, "listening");
  t.after(() => sockets.server.close());
  const { port } = sockets.server.address() as { port: number };
  const [here, there] = await Promise.all([folder(t), folder(t)]);
  count += 1;
  const [alice, office] = [`alice/access${count}`, `office/access${count}`];
  const way = ["--edge", edge.url, "--transport", "websocket"];
  const asAlice = (...args: string[]) => run(t, args, undefined, { XDG_CONFIG_HOME: here });
  const asOffice = (...args: string[]) => run(t, args, undefined, { XDG_CONFIG_HOME: there });
  return {
    alice,
    office,
    sockets,
    asAlice,
    asOffice,
    fingerprint: async (as: typeof asAlice) => (await as("id")).stdout.trim(),
    async expose(...options: string[]) {
      const exposing = start(t, ["expose", ...way, "--as", office, ...options, `echo=127.0.0.1:${port}`], undefined, {
        XDG_CONFIG_HOME: there,
      });
      await exposing.line(/:echo is /);
      return exposing;
    },
    async forward(service = "echo") {
      const forwarding = start(t, ["forward", ...way, "--as", alice, "0", `${office}:${service}`], undefined, {
        XDG_CONFIG_HOME: here,
      });
      const [, bound = ""] = await forwarding.line(/127\.0\.0\.1:([0-9]+) is /);
      return { forwarding, connect: () => open(t, { port: Number(bound), host: "127.0.0.1" }) };
    },
  };
}

describe("who may connect", () => {
  let edge: LocalEdge;
  const context = afterAll();
  before(async () => {
    edge = await startEdge(context);
  });

  it("is said by trust: a removed rule ends its connections within seconds, and a new one admits at once", async (t) => {
    const { office, sockets, asOffice, asAlice, fingerprint, expose, forward } = await users(t, edge);
    const key = await fingerprint(asAlice);
    assert.equal((await asOffice("trust", "alice", key)).code, 0);
    await expose();
    const { connect } = await forward();
    const socket = connect();
    await isEchoed(socket, "admitted");
    const lost = errorOf(socket);
    assert.equal((await asOffice("trust", "--remove", "alice")).code, 0);
    const before = performance.now();
    assert.equal(await lost, "ECONNRESET");
    assert.ok(performance.now() - before < 10_000);
    await eventually(
      () => new Promise<boolean>((resolve) => sockets.server.getConnections((_, open) => resolve(open === 0))),
      "the end of its connection to the service",
    );
    assert.equal(await errorOf(connect()), "ECONNRESET");
    assert.equal(sockets.connections, 1, "no connection is opened for who is not admitted");
    assert.equal((await asOffice("trust", "alice/*", key)).code, 0);
    await isEchoed(connect(), "again");
    // The dialing side has pinned a key, and takes it back.
    const other = connect();
    await isEchoed(other, "pinned");
    const ended = errorOf(other);
    assert.equal((await asAlice("trust", "--pin", office, key)).code, 0);
    assert.equal(await ended, "ECONNRESET");
  });

  it("does not include services that are not exposed, nor devices that no pattern has", async (t) => {
    const { sockets, asOffice, asAlice, fingerprint, expose, forward } = await users(t, edge);
    const key = await fingerprint(asAlice);
    assert.equal((await asOffice("trust", "alice/pc*", key)).code, 0);
    await expose("--trust", `bob=${key}`);
    const { forwarding, connect } = await forward();
    const why = told(forwarding, /\[UnknownKey\]/);
    assert.equal(await errorOf(connect()), "ECONNRESET");
    await why;
    assert.match((await asOffice("trust", "--pending")).stdout, new RegExp(`^pending  ${key}  alice/access`, "m"));
    assert.equal((await asOffice("trust", "alice/access*", key)).code, 0);
    assert.equal((await asOffice("trust", "--pending")).stdout, "");
    await isEchoed(connect(), "admitted");
    forwarding.process.kill("SIGTERM");
    await forwarding.finished;
    const { forwarding: other, connect: connectOther } = await forward("other");
    const unknown = told(other, /\[ServiceUnknown\]/);
    assert.equal(await errorOf(connectOther()), "ECONNRESET");
    await unknown;
    assert.equal(sockets.connections, 1);
  });

  it("is anybody's first key with --accept-new, which is said at each start", async (t) => {
    const { alice, asOffice, asAlice, fingerprint, expose, forward } = await users(t, edge);
    const [first, second] = [await expose("--accept-new"), await forward()];
    await isEchoed(second.connect(), "unknown before");
    assert.match(
      (await asOffice("trust")).stdout,
      new RegExp(`^accept   ${await fingerprint(asAlice)}  ${alice}$`, "m"),
    );
    first.process.kill("SIGTERM");
    const said = /--accept-new: the first key of every address that connects is accepted/;
    assert.match((await first.finished).stderr, said);
    const again = await expose("--accept-new");
    again.process.kill("SIGTERM");
    assert.match((await again.finished).stderr, said);
  });
});
