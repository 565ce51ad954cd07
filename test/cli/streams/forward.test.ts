/** `grooveway expose` and `grooveway forward`: programs that use TCP see a TCP connection. */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { stat, writeFile } from "node:fs/promises";
import { connect, createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { before, describe, it, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { LocalEdge } from "../../../src/cli/local-edge/local-edge.ts";
import { OFFLINE_TIMEOUT } from "../../../src/cli/streams/forwarded-port.ts";
import { afterAll, startEdge } from "../../edge/mailbox/support.ts";
import { FULL } from "../../support/long-form.ts";
import { type Carried, Obstacle } from "../../support/obstacle.ts";
import { folder, type Running, run, start, startShell } from "../support.ts";

const MIB = 1024 * 1024;
/** How much is carried while connections are cut, and how often they are. */
const MEBIBYTES = FULL ? 64 : 16;
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
  readonly env: { readonly XDG_CONFIG_HOME: string };
  readonly connection: readonly string[];
}

let count = 0;

/** A service that is exposed, and forwarded by another user. */
async function ends(
  t: TestContext,
  urls: { readonly here: string; readonly there: string },
  port: number,
  { transport = "websocket", trusted = true, options = [] as readonly string[] } = {},
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
    ["expose", "--edge", urls.there, "--as", office, ...common, ...trust, ...options, `echo=127.0.0.1:${port}`],
    undefined,
    { XDG_CONFIG_HOME: theirs },
  );
  await expose.line(/:echo is /);
  const connection = ["--edge", urls.here, "--as", alice, ...common];
  const forward = start(t, ["forward", ...connection, "0", `${office}:echo`], undefined, env);
  const [, bound = ""] = await forward.line(/127\.0\.0\.1:([0-9]+) is /);
  const as = (input: string, ...args: string[]) => run(t, args, input, env);
  return { expose, forward, port: Number(bound), as, env, connection: [...connection, office] };
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
    const sent = randomBytes(MIB);
    const exchange = () => {
      const socket = open(t, port);
      socket.end(sent);
      return readAll(socket);
    };
    const began = performance.now();
    const answer = await exchange().catch((error: unknown) => {
      // On a busy machine the command may take longer to connect than its port waits for it.
      if (performance.now() - began < OFFLINE_TIMEOUT) throw error;
      return exchange();
    });
    assert.deepEqual(answer, sent);
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

  it("leaves nothing of programs that come and leave at once", async (t) => {
    const { port: service, server } = await serve(t, echo);
    const { port, forward } = await ends(t, direct(), service);
    for (let n = 0; n < 100; n += 1) {
      const socket = open(t, port);
      if (n % 3 === 0) socket.end();
      if (n % 3 === 1) socket.once("connect", () => socket.destroy());
      if (n % 3 === 2) socket.once("connect", () => socket.resetAndDestroy());
      socket.on("error", () => undefined).resume();
      if (n % 10 === 9) await once(socket, "close");
    }
    const last = open(t, port);
    last.end("last");
    assert.equal((await readAll(last)).toString(), "last");
    const connections = () =>
      new Promise<number>((resolve, reject) =>
        server.getConnections((error, count) => (error ? reject(error) : resolve(count))),
      );
    for (const until = performance.now() + 60_000; (await connections()) > 0; ) {
      assert.ok(performance.now() < until, `${await connections()} connections to the service are left`);
      await sleep(20);
    }
    forward.process.kill("SIGTERM");
    assert.deepEqual((await forward.finished).code, 0);
  });

  it("can be a unix socket that leads to a unix socket, beside others", async (t) => {
    const [place, theirs, mine] = await Promise.all([folder(t), folder(t), folder(t)]);
    const { port } = await serve(t, (socket) => {
      socket.on("error", () => undefined).resume();
      socket.end("by tcp");
    });
    const path = join(place, "service");
    const local = createServer({ allowHalfOpen: true }, echo).listen(path);
    await once(local, "listening");
    t.after(() => local.close());
    const env = { XDG_CONFIG_HOME: mine };
    const trust = ["--trust", `alice=${(await run(t, ["id"], undefined, env)).stdout.trim()}`];
    const way = ["--edge", edge.url, "--transport", "websocket"];
    const exposed = [`local=unix:${path}`, `web=127.0.0.1:${port}`];
    const expose = start(t, ["expose", ...way, "--as", "office/unix", ...trust, ...exposed], undefined, {
      XDG_CONFIG_HOME: theirs,
    });
    await expose.line(/:web is /);
    const at = join(place, "forwarded");
    const pairs = [`unix:${at}`, "office/unix:local", "127.0.0.1:0", "office/unix:web"];
    const forward = start(t, ["forward", ...way, "--as", "alice/unix", ...pairs], undefined, env);
    const [, bound = ""] = await forward.line(/127\.0\.0\.1:([0-9]+) is office\/unix:web/);
    const socket = connect({ path: at, allowHalfOpen: true });
    t.after(() => socket.destroy());
    socket.end("by a unix socket");
    assert.equal((await readAll(socket)).toString(), "by a unix socket");
    assert.equal((await stat(at)).mode & 0o777, 0o600);
    const other = open(t, Number(bound));
    other.end();
    assert.equal((await readAll(other)).toString(), "by tcp");
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

  it("goes on while ls and several --stdio run under its name, as they do for ssh", async (t) => {
    const { port: service } = await serve(t, echo);
    const { as, port, env, connection } = await ends(t, direct(), service);
    const [office = "", way] = [connection.at(-1), connection.slice(0, -1)];
    const forwarded = open(t, port);
    const isEchoed = async (text: string) => {
      forwarded.write(text);
      const [data] = (await once(forwarded, "data")) as [Buffer];
      assert.equal(data.toString(), text);
    };
    await isEchoed("before");
    const go = join(env.XDG_CONFIG_HOME, "go");
    const script = `export XDG_CONFIG_HOME='${env.XDG_CONFIG_HOME}'
      { echo one; until [ -e '${go}' ]; do sleep 0.1; done; echo two; } | "$@"`;
    const args = ["forward", ...way, "--stdio", `${office}:echo`];
    const both = [startShell(t, script, args), startShell(t, script, args)];
    for (const each of both) await each.line(/^one$/m);
    assert.deepEqual(await as("", "ls", ...connection), { code: 0, stdout: "echo\n", stderr: "" });
    await writeFile(go, "");
    for (const { finished } of both) assert.deepEqual(await finished, { code: 0, stdout: "one\ntwo\n", stderr: "" });
    await isEchoed("after");
    forwarded.end();
    await once(forwarded, "end");
  });

  it("is refused by a device with another key than the pinned one, with the command that accepts it", async (t) => {
    const { port: service } = await serve(t, echo);
    const { as, forward, connection } = await ends(t, direct(), service);
    forward.process.kill("SIGTERM");
    assert.equal((await forward.finished).code, 0);
    const [office = "", way] = [connection.at(-1), connection.slice(0, -1)];
    const other = (await as("", "id")).stdout.trim();
    assert.equal((await as("", "trust", "--pin", office, other)).code, 0);
    const through = () => as("hello", "forward", ...way, "--stdio", `${office}:echo`);
    const refused = await through();
    assert.deepEqual([refused.code, refused.stdout], [4, ""]);
    assert.match(refused.stderr, /\[ChangedKey\]/);
    const told = /pin it: grooveway (trust) (--pin) (\S+) ([a-z2-7-]{64})/.exec(refused.stderr)?.slice(1) ?? [];
    assert.equal((await as("", ...told)).code, 0);
    assert.ok(!(await as("", "trust")).stdout.includes("accept"), "the device may not dial in");
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

  it("resets connections at both ends after the resume time, and both commands say why", async (t) => {
    const accepted = Promise.withResolvers<Socket>();
    const { port: service } = await serve(t, (socket) => {
      accepted.resolve(socket);
      socket.once("data", (data) => socket.write(data));
    });
    const obstacle = await Obstacle.start(t, edge.url);
    const urls = { here: edge.url, there: obstacle.url };
    const { port, forward, expose } = await ends(t, urls, service, { options: ["--resume", "2s"] });
    const here = open(t, port);
    here.write("hello");
    await once(here, "data");
    const there = await accepted.promise;
    const both = [here, there].map(errorOf);
    obstacle.treat = () => "refuse";
    obstacle.cut("websocket");
    here.write("nobody acknowledges this");
    assert.deepEqual(await Promise.all(both), ["ECONNRESET", "ECONNRESET"]);
    for (const { process, finished } of [forward, expose]) {
      process.kill("SIGTERM");
      assert.match((await finished).stderr, /echo: connections are reset: .* \[ResumeTimeout\]/);
    }
  });

  for (const [transport, carried] of [
    ["websocket", ["websocket"]],
    ["longlived", ["longlived get", "longlived post"]],
  ] as const satisfies readonly (readonly [string, readonly Carried[]])[]) {
    it(`carries ${MEBIBYTES} MiB there and back while connections are cut, over ${transport}`, async (t) => {
      const [here, there] = await Promise.all([Obstacle.start(t, edge.url), Obstacle.start(t, edge.url)]);
      const { port: service } = await serve(t, echo);
      const { port } = await ends(t, { here: here.url, there: there.url }, service, { transport });
      const socket = open(t, port);
      const [sent, came] = [createHash("sha256"), createHash("sha256")];
      const octets = MEBIBYTES * MIB;
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
