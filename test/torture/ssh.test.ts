/** An ssh that is open while the forward is stopped, as by a closed lid, and the edge is killed. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { createServer } from "node:net";
import { describe, it, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { FULL } from "../support/long-form.ts";
import { openSsh, SSHD } from "../support/openssh.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { Watch } from "../support/watch.ts";
import { forwarded } from "./forwarded.ts";
import { Mortal } from "./support.ts";

/** How long the forward is stopped before the edge is killed, and again afterwards, in milliseconds. */
const STOP = FULL ? 150_000 : 4_000;

/** How long a line may take to come back, in milliseconds: the longest pause between two attempts to reconnect, twice. */
const PATIENCE = 120_000;

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, "close");
  return port;
}

/** Starts a program that ends with the test. */
function started(t: TestContext, [program, ...args]: readonly [string, ...string[]]) {
  const child = spawn(program, args, { stdio: "pipe" });
  t.after(() => child.kill());
  const watch = new Watch();
  let text = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (piece: string) => {
      text += piece;
      watch.changed();
    });
  }
  return { child, said: (words: string) => watch.until(() => text.includes(words), words, PATIENCE) };
}

describe("an ssh through a forward", {
  skip: existsSync(SSHD) ? false : "SKIPPED: apt-get install openssh-server",
}, () => {
  const what = `goes on after the forward was stopped for ${(2 * STOP) / 1000} s, and the edge killed meanwhile`;
  it(what, { timeout: 4 * STOP + 4 * PATIENCE }, async (t) => {
    const edge = await Mortal.start();
    t.after(() => edge.close());
    const at = await freePort();
    const { forward, port } = await forwarded(t, edge, at);
    const { server, settings } = openSsh(temporaryFolder(), { server: at, client: port });
    await started(t, server).said("Server listening");
    const ssh = started(t, ["ssh", "-F", settings, "office", "cat"]);
    ssh.child.stdin.write("before\n");
    await ssh.said("before");
    forward.process.kill("SIGSTOP");
    try {
      ssh.child.stdin.write("meanwhile\n");
      await sleep(STOP);
      await edge.kill();
      await sleep(STOP);
    } finally {
      forward.process.kill("SIGCONT");
    }
    await ssh.said("meanwhile");
    ssh.child.stdin.end("after\n");
    await ssh.said("after");
    assert.deepEqual(await once(ssh.child, "exit"), [0, null]);
  });
});
