/** Commands of streams that start before their edge, or lose it. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import { it } from "node:test";
import { startEdge } from "../../edge/mailbox/support.ts";
import { folder, run, start } from "../support.ts";
import { echo, errorOf, isEchoed, open, told } from "./support.ts";

/** A program gets a reset within 5 s; on a busy machine timers are late. */
const TOLD = 10_000;

/** A port that leads to an edge, or that nobody listens on. */
class Way {
  readonly port: number;
  readonly #to: number;
  #server: Server | undefined;
  readonly #sockets = new Set<Socket>();

  constructor(port: number, to: number) {
    this.port = port;
    this.#to = to;
  }

  async open(): Promise<void> {
    this.#server = createServer((socket) => {
      const up = connect(this.#to, "127.0.0.1");
      for (const [one, other] of [
        [socket, up],
        [up, socket],
      ] as const) {
        this.#sockets.add(one);
        one.on("error", () => undefined);
        one.on("close", () => other.destroy());
        one.pipe(other);
      }
    });
    this.#server.listen(this.port, "127.0.0.1");
    await once(this.#server, "listening");
  }

  close(): void {
    this.#server?.close();
    for (const socket of this.#sockets) socket.destroy();
    this.#sockets.clear();
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, "close");
  return port;
}

it("expose and forward wait for their edge; without it, a forwarded port resets new connections and says why", async (t) => {
  const edge = await startEdge(t);
  const way = new Way(await freePort(), Number(new URL(edge.url).port));
  t.after(() => way.close());
  const [here, there] = await Promise.all([folder(t), folder(t)]);
  const env = { XDG_CONFIG_HOME: here };
  const fingerprint = (await run(t, ["id"], undefined, env)).stdout.trim();
  const options = ["--edge", `http://127.0.0.1:${way.port}`, "--transport", "websocket"];
  const trust = ["--trust", `alice=${fingerprint}`];
  const exposing = start(
    t,
    ["expose", ...options, "--as", "office/late", ...trust, `echo=${await echo(t)}`],
    undefined,
    { XDG_CONFIG_HOME: there },
  );
  const forwarding = start(t, ["forward", ...options, "--as", "alice/late", "0", "office/late:echo"], undefined, env);
  const [, bound = ""] = await forwarding.line(/127\.0\.0\.1:([0-9]+) is /);
  const refused = async () => {
    const why = told(forwarding, /office\/late:echo: this device is not connected to its edge.*\[ConnectFailed\]\n/);
    const before = performance.now();
    const socket = open(t, { port: Number(bound), host: "127.0.0.1" });
    assert.equal(await errorOf(socket), "ECONNRESET");
    assert.ok(performance.now() - before < TOLD);
    await why;
  };

  await refused();
  await way.open();
  await exposing.line(/:echo is /);
  // The forward may still be in a pause between two attempts.
  const connected = async (): Promise<Socket> => {
    for (;;) {
      const socket = open(t, { port: Number(bound), host: "127.0.0.1" });
      const lost = errorOf(socket);
      const echoed = isEchoed(socket, "here").then(() => undefined);
      if ((await Promise.race([lost, echoed])) === undefined) return socket;
    }
  };
  const socket = await connected();

  way.close();
  await refused();
  await way.open();
  await isEchoed(socket, "the same connection");
});
