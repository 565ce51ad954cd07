/** `grooveway expose` and `grooveway forward`: programs that use TCP see a TCP connection. */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import { before, describe, it, type TestContext } from "node:test";
import type { LocalEdge } from "../../../src/cli/local-edge/local-edge.ts";
import { afterAll, startEdge } from "../../edge/mailbox/support.ts";
import { type Carried, Obstacle } from "../../support/obstacle.ts";
import { folder, type Running, run, start } from "../support.ts";

const MIB = 1024 * 1024;
/** How often connections are cut during a transfer. */
const CUTS = 6;

interface Service {
  readonly port: number;
  readonly server: Server;
}

async function serve(t: TestContext, handle: (socket: Socket) => void): Promise<Service> {
  const server = createServer({ allowHalfOpen: true }, handle);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  return { server, port: (server.address() as { port: number }).port };
}

const echo = (socket: Socket) => {
  socket.on("error", () => undefined);
  socket.pipe(socket);
};

interface Ends {
  readonly expose: Running;
  readonly forward: Running;
  /** Where the forward listens. */
  readonly port: number;
  /** Runs a command as the user of the forward, who knows the key of the exposing device. */
  as(input: string, ...args: string[]): ReturnType<typeof run>;
  readonly connection: readonly string[];
}

let count = 0;

/** A service that is exposed, and forwarded by another user. */
async function ends(
  t: TestContext,
  urls: { readonly here: string; readonly there: string },
  port: number,
  { transport = "websocket", trusted = true } = {},
): Promise<Ends> {
  const [mine, theirs] = await Promise.all([folder(t), folder(t)]);
  const env = { XDG_CONFIG_HOME: mine };
  const fingerprint = (await run(t, ["id"], undefined, env)).stdout.trim();
  count += 1;
  const [alice, office] = [`alice/pc${count}`, `office/desk${count}`];
  const trust = trusted ? ["--trust", `alice=${fingerprint}`] : [];
  const common = ["--transport", transport];
  const expose = start(
    t,
    ["expose", "--edge", urls.there, "--as", office, ...common, ...trust, `echo=127.0.0.1:${port}`],
    undefined,
    { XDG_CONFIG_HOME: theirs },
  );
  await expose.line(/:echo is /);
  const connection = ["--edge", urls.here, "--as", alice, ...common];
  const forward = start(t, ["forward", ...connection, "0", `${office}:echo`], undefined, env);
  const [, bound = ""] = await forward.line(/127\.0\.0\.1:([0-9]+) is /);
  const as = (input: string, ...args: string[]) => run(t, args, input, env);
  return { expose, forward, port: Number(bound), as, connection: [...connection, office] };
}

function open(t: TestContext, port: number): Socket {
  const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
  t.after(() => socket.destroy());
  return socket;
}

async function readAll(socket: Socket): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of socket.iterator({ destroyOnReturn: false })) pieces.push(piece as Buffer);
  return Buffer.concat(pieces);
}

/** Resolves with the code of the error with which a socket ends. */
async function errorOf(socket: Socket): Promise<string | undefined> {
  socket.resume();
  const [error] = (await once(socket, "error")) as [NodeJS.ErrnoException];
  return error.code;
}

describe("a forwarded port", () => {
  let edge: LocalEdge;
  const context = afterAll();
  before(async () => {
    edge = await startEdge(context);
  });
  const direct = () => ({ here: edge.url, there: edge.url });

  it("carries a connection whose ends half-close one after the other", async (t) => {
    // Answers only after it has read to the end.
    const { port: service } = await serve(t, async (socket) => socket.end(await readAll(socket)));
    const { port } = await ends(t, direct(), service);
    const socket = open(t, port);
    const sent = randomBytes(MIB);
    socket.end(sent);
    assert.deepEqual(await readAll(socket), sent);
  });

  it("carries many connections at a time, and what is written first by the service", async (t) => {
    const { port: service } = await serve(t, (socket) => {
      socket.write("hello ");
      echo(socket);
    });
    const { port } = await ends(t, direct(), service, { transport: "longlived" });
    const texts = Array.from({ length: 50 }, (_, n) => `connection ${n}`);
    const answers = await Promise.all(
      texts.map(async (text) => {
        const socket = open(t, port);
        socket.end(text);
        return (await readAll(socket)).toString();
      }),
    );
    assert.deepEqual(
      answers,
      texts.map((text) => `hello ${text}`),
    );
  });

  it("passes a reset on, in both directions", async (t) => {
    const accepted: Socket[] = [];
    const came = Promise.withResolvers<Socket>();
    const { port: service } = await serve(t, (socket) => {
      accepted.push(socket);
      socket.once("data", (data) => {
        if (data.toString() === "reset") socket.resetAndDestroy();
        else came.resolve(socket);
      });
    });
    const { port } = await ends(t, direct(), service);
    const first = open(t, port);
    first.write("reset");
    assert.equal(await errorOf(first), "ECONNRESET");
    const second = open(t, port);
    second.write("stay");
    const there = await came.promise;
    const error = errorOf(there);
    second.resetAndDestroy();
    assert.equal(await error, "ECONNRESET");
  });

  it("resets a connection whose service does not listen, and goes on", async (t) => {
    const { port: service, server } = await serve(t, echo);
    const { port, expose } = await ends(t, direct(), service);
    server.close();
    await once(server, "close");
    assert.equal(await errorOf(open(t, port)), "ECONNRESET");
    server.listen(service, "127.0.0.1");
    await once(server, "listening");
    const socket = open(t, port);
    socket.end("again");
    assert.equal((await readAll(socket)).toString(), "again");
    expose.process.kill("SIGTERM");
    const { code, stderr } = await expose.finished;
    assert.equal(code, 0);
    assert.match(stderr, /echo: 127\.0\.0\.1:[0-9]+ refused alice\/pc/);
  });

  it("is refused to a key that is not accepted, without a connection to the service, until it is", async (t) => {
    let connections = 0;
    const { port: service } = await serve(t, (socket) => {
      connections += 1;
      echo(socket);
    });
    const { port, forward, expose } = await ends(t, direct(), service, { trusted: false });
    assert.equal(await errorOf(open(t, port)), "ECONNRESET");
    assert.equal(connections, 0);
    forward.process.kill("SIGTERM");
    assert.match((await forward.finished).stderr, /\[UnknownKey\]/);
    expose.process.kill("SIGTERM");
    assert.match((await expose.finished).stderr, /to accept it: grooveway trust alice\/pc[0-9]+ [a-z2-7-]{64}/);
  });

  it("is not needed: ls lists what there is, and --stdio connects standard input and output", async (t) => {
    const { port: service } = await serve(t, echo);
    const { as, forward, connection } = await ends(t, direct(), service);
    forward.process.kill("SIGTERM");
    assert.equal((await forward.finished).code, 0);
    const listed = await as("", "ls", ...connection);
    assert.deepEqual([listed.code, listed.stdout], [0, "echo\n"]);
    assert.match(listed.stderr, /has the key [a-z2-7-]{64}; it is pinned from now on/);
    const [office, way] = [connection.at(-1), connection.slice(0, -1)];
    const sent = randomBytes(300_000).toString("base64");
    assert.deepEqual(await as(sent, "forward", ...way, "--stdio", `${office}:echo`), {
      code: 0,
      stdout: sent,
      stderr: "",
    });
    const nothing = await as("", "forward", ...way, "--stdio", `${office}:other`);
    assert.equal(nothing.code, 4);
    assert.match(nothing.stderr, /ServiceUnknown/);
  });

  it("is refused by a device with another key than the pinned one, with the command that accepts it", async (t) => {
    const { port: service } = await serve(t, echo);
    const { as, forward, connection } = await ends(t, direct(), service);
    forward.process.kill("SIGTERM");
    assert.equal((await forward.finished).code, 0);
    const [office = "", way] = [connection.at(-1), connection.slice(0, -1)];
    const other = (await as("", "id")).stdout.trim();
    assert.equal((await as("", "trust", office, other)).code, 0);
    const through = () => as("hello", "forward", ...way, "--stdio", `${office}:echo`);
    const refused = await through();
    assert.deepEqual([refused.code, refused.stdout], [4, ""]);
    assert.match(refused.stderr, /\[ChangedKey\]/);
    const [, ...command] = /accept it: (grooveway) (trust) (\S+) ([a-z2-7-]{64})/.exec(refused.stderr)?.slice(1) ?? [];
    assert.equal((await as("", ...command)).code, 0);
    assert.deepEqual(await through(), { code: 0, stdout: "hello", stderr: "" });
  });

  it("resets new connections while the edge is away, and says why", async (t) => {
    const { port: service } = await serve(t, echo);
    const obstacle = await Obstacle.start(t, edge.url);
    const { port, forward } = await ends(t, { here: obstacle.url, there: edge.url }, service);
    obstacle.treat = () => "refuse";
    obstacle.cut("websocket");
    const before = performance.now();
    assert.equal(await errorOf(open(t, port)), "ECONNRESET");
    assert.ok(performance.now() - before < 30_000);
    obstacle.treat = () => "pass";
    forward.process.kill("SIGTERM");
    assert.match((await forward.finished).stderr, /not connected to its edge/);
  });

  for (const [transport, carried] of [
    ["websocket", ["websocket"]],
    ["longlived", ["longlived get", "longlived post"]],
  ] as const satisfies readonly (readonly [string, readonly Carried[]])[]) {
    it(`carries 64 MiB there and back while connections are cut, over ${transport}`, async (t) => {
      const [here, there] = await Promise.all([Obstacle.start(t, edge.url), Obstacle.start(t, edge.url)]);
      const { port: service } = await serve(t, echo);
      const { port } = await ends(t, { here: here.url, there: there.url }, service, { transport });
      const socket = open(t, port);
      const [sent, came] = [createHash("sha256"), createHash("sha256")];
      const octets = 64 * MIB;
      const writing = (async () => {
        for (let at = 0; at < octets; at += MIB) {
          const piece = randomBytes(MIB);
          sent.update(piece);
          if (!socket.write(piece)) await once(socket, "drain");
        }
        socket.end();
      })();
      let [got, cuts] = [0, 0];
      for await (const piece of socket.iterator({ destroyOnReturn: false })) {
        came.update(piece as Buffer);
        got += (piece as Buffer).length;
        if (cuts === CUTS || got < ((cuts + 1) * octets) / (CUTS + 1)) continue;
        cuts += 1;
        for (const what of carried) (cuts % 2 === 0 ? here : there).cut(what);
      }
      await writing;
      assert.deepEqual([got, cuts], [octets, CUTS]);
      assert.equal(came.digest("hex"), sent.digest("hex"));
    });
  }
});
