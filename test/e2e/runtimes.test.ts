/** The device library in other runtimes than Node, and its entry for browsers in Node, by each transport. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { connect, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { after, before, describe, type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import { type LocalEdge, startLocalEdge } from "../../src/cli/local-edge/local-edge.ts";
import type { DeviceOptions, TransportName } from "../../src/device/index.ts";
import { startRelay } from "../../src/relay/index.ts";
import { hs256, type Issuer, jwks } from "../edge/issuer.ts";
import { authority } from "../support/certificates.ts";
import { listen } from "../support/sockets.ts";
import { soon } from "../support/watch.ts";
import type { Task } from "./device-program.ts";

const PROGRAM = fileURLToPath(new URL("./device-program.ts", import.meta.url));
const ROOT = fileURLToPath(new URL("../..", import.meta.url));

interface Runtime {
  readonly name: string;
  readonly command: readonly [program: string, ...args: string[]];
  /** Why it cannot run here. */
  readonly missing: string | false;
}

/** Runtimes besides Node come from npm; `.ci/run` installs them. */
function fromNpm(name: string, ...args: string[]): Runtime {
  const { error } = spawnSync(name, ["--version"]);
  return {
    name: `${name[0]?.toUpperCase()}${name.slice(1)}`,
    command: [name, ...args],
    missing: error !== undefined && `SKIPPED: npm install ${name}`,
  };
}

const NODE: Runtime = {
  name: "Node",
  command: [process.execPath, "--disable-warning=ExperimentalWarning"],
  missing: false,
};
const DENO = fromNpm("deno", "run", "--allow-all", "--no-lock", "--node-modules-dir=manual");
const BUN = fromNpm("bun", "run");

const TO_EDGE = ["websocket", "longlived", "keepalive", "polling"] as const satisfies readonly TransportName[];
const OF_BROWSER = ["websocket", "keepalive"] as const satisfies readonly TransportName[];

/** A listener in front of a server, given by its port, whose connections can be cut. */
async function cutter(t: TestContext, port: () => number): Promise<{ readonly port: number; cut(): void }> {
  const ends = new Set<Socket>();
  const server = await listen((socket) => {
    const up = connect({ port: port(), host: "127.0.0.1", allowHalfOpen: true });
    for (const [from, to] of [
      [socket, up],
      [up, socket],
    ] as const) {
      ends.add(from);
      from.on("error", () => undefined);
      from.on("close", () => {
        ends.delete(from);
        to.destroy();
      });
      from.pipe(to);
    }
  });
  t.after(() => server.close());
  return {
    port: server.port,
    cut() {
      for (const end of ends) end.destroy();
    },
  };
}

/** Runs the program, and cuts its connections when it asks for that. */
async function run({ command: [program, ...args] }: Runtime, task: Task, cut: () => void): Promise<void> {
  const child = spawn(program, [...args, PROGRAM, JSON.stringify(task)], {
    cwd: ROOT,
    // Only Node understands the options of the tests.
    env: { ...process.env, NODE_OPTIONS: "", DENO_NO_UPDATE_CHECK: "1" },
    stdio: ["pipe", "pipe", "pipe"],
  });
  const said: string[] = [];
  const errors = createInterface({ input: child.stderr });
  errors.on("line", (line) => said.push(line));
  const lines = createInterface({ input: child.stdout });
  lines.on("line", (line) => {
    said.push(line);
    if (line !== "cut") return;
    cut();
    child.stdin.write("go on\n");
  });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  try {
    assert.equal(await soon(ended, `the end of the program, which has said ${said.join("\n")}`), 0, said.join("\n"));
    assert.deepEqual(said, task.refused === undefined ? ["cut", "done"] : ["done"]);
  } finally {
    child.kill("SIGKILL");
  }
}

describe("runtimes", { concurrency: 1 }, () => {
  let issuer: Issuer;
  let plain: LocalEdge;
  let secure: LocalEdge;
  const certificates = authority();

  before(async () => {
    issuer = await hs256();
    const options = { port: 0, relayAllow: [], keys: jwks(issuer) };
    plain = await startLocalEdge(options);
    secure = await startLocalEdge({ ...options, tls: certificates });
  });

  after(async () => {
    await Promise.all([plain.close(), secure.close()]);
  });

  let runs = 0;
  async function talk(
    t: TestContext,
    runtime: Runtime,
    how: { readonly entry: string; readonly transport: TransportName; readonly scheme: "http" | "https" },
  ): Promise<void> {
    runs += 1;
    const { transport, scheme, entry } = how;
    let port = Number(new URL((scheme === "http" ? plain : secure).url).port);
    const between = await cutter(t, () => port);
    if (transport === "tcp") {
      // It is asked for by the name under which it is reached.
      const relay = await startRelay({ port: 0, names: [`127.0.0.1:${between.port}`] });
      t.after(() => relay.close());
      port = relay.port;
    }
    const options: Omit<DeviceOptions, "address"> = {
      transport,
      ...(transport === "tcp"
        ? { relay: `127.0.0.1:${between.port}` }
        : {
            edge: `${scheme}://127.0.0.1:${between.port}`,
            token: await issuer.issue({ address: "*" }),
            ...(scheme === "https" && { ca: certificates.ca }),
          }),
    };
    await run(runtime, { entry, options, addresses: [`one-${runs}/pc`, `other-${runs}/pc`] }, between.cut);
  }

  for (const runtime of [DENO, BUN]) {
    for (const scheme of ["http", "https"] as const) {
      for (const transport of scheme === "http" ? (["tcp", ...TO_EDGE] as const) : TO_EDGE) {
        const over = transport === "tcp" ? "to a relay" : `over ${scheme}`;
        test(
          `${runtime.name}: messages and 5 MiB by ${transport} ${over}, also when it is cut`,
          {
            skip: runtime.missing,
          },
          (t) => talk(t, runtime, { entry: "index.ts", transport, scheme }),
        );
      }
    }
  }

  for (const runtime of [DENO, BUN]) {
    for (const transport of ["websocket", "keepalive"] as const) {
      test(`${runtime.name}: refused certificates and tokens have their names by ${transport}`, {
        skip: runtime.missing,
      }, async () => {
        const addresses = ["one/pc", "other/pc"] as const;
        const token = await issuer.issue({ address: "*", exp: 1 });
        const entry = "index.ts";
        for (const [options, refused] of [
          [{ transport, edge: secure.url, token }, "CertificateRefused"],
          [{ transport, edge: plain.url, token }, "TokenRefused"],
        ] as const) {
          await run(runtime, { entry, options, addresses, refused }, () => assert.fail("it has connected"));
        }
      });
    }
  }

  for (const runtime of [NODE, DENO, BUN]) {
    for (const transport of OF_BROWSER) {
      test(`${runtime.name} with the entry for browsers: the same by ${transport}`, { skip: runtime.missing }, (t) =>
        talk(t, runtime, { entry: "browser.ts", transport, scheme: "http" }),
      );
    }
  }
});
