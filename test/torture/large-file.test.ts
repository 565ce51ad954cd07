/**
 * A file many times larger than a mailbox goes from standard input to a recipient that reads: complete, in bounded
 * memory, and no slower at its end than at its start. GROOVEWAY_GIB sets the size; 5 and more take minutes.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createCipheriv, createHash } from "node:crypto";
import { once } from "node:events";
import { readFileSync, statfsSync, statSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { ENTRY, folder, start } from "../cli/support.ts";

const MEBI = 1024 ** 2;
const BYTES = Math.round(Number(process.env.GROOVEWAY_GIB ?? 0.0625) * 1024) * MEBI;
/** The limit of the mailbox, for all senders together. */
const QUOTA = "octets=64MiB";
/** The most memory a process may use: 283 MiB were observed, and a runtime may be late in returning memory. */
const RESIDENT = 350 * MEBI;
/** How much longer the second half may take than the first: a cost that grows with the size would show in far more. */
const SLOWER = 1.5;
/** Below this the halves end before they can be distinguished. */
const TIMED = 1024 * MEBI;
/** The lowest acceptable rate, in bytes per second. */
const LEAST_RATE = 4 * MEBI;

test(`a file of ${BYTES / MEBI} MiB passes through a mailbox of 64 MiB`, {
  timeout: 300_000 + (BYTES / LEAST_RATE) * 1000,
}, async (context) => {
  const at = await folder(context);
  const { bavail, bsize } = statfsSync(at);
  if (bavail * bsize < 2 * BYTES) {
    context.skip(`SKIPPED: ${at} has no room for ${(2 * BYTES) / MEBI} MiB`);
    return;
  }
  const edge = start(context, [
    "edge",
    "--port",
    "0",
    "--json",
    "--dev",
    "--quota",
    QUOTA,
    "--state",
    join(at, "edge"),
  ]);
  const [, url = ""] = await edge.line(/"url":"([^"]+)"/);
  const out = join(at, "out");
  const recv = start(context, [
    ...["recv", "--edge", url, "--as", "bob/x", "--state", join(at, "recv"), "--out", out, "--follow", "--json"],
  ]);
  const send = spawn(
    process.execPath,
    [ENTRY, "send", "--edge", url, "--as", "alice/pc", "--state", join(at, "send"), "bob/x", "-", "--name", "large"],
    { stdio: ["pipe", "ignore", "pipe"] },
  );
  context.after(() => send.kill("SIGKILL"));
  // The command's own error says more than EPIPE.
  send.stdin.on("error", () => undefined);
  const told: string[] = [];
  createInterface({ input: send.stderr }).on("line", (line) => told.push(line));

  const most = new Map<string, number>();
  const look = setInterval(() => {
    const runtime = childrenOf(edge.process.pid).find((pid) => nameOf(pid) === "workerd");
    for (const [name, pid] of Object.entries({ send: send.pid, recv: recv.process.pid, workerd: runtime })) {
      if (pid !== undefined) most.set(name, Math.max(most.get(name) ?? 0, residentMost(pid)));
    }
  }, 200);
  context.after(() => clearInterval(look));

  // Random octets as fast as a cipher makes them; they are taken as fast as they are sent, except for what is buffered.
  const cipher = createCipheriv("aes-128-ctr", Buffer.alloc(16, 7), Buffer.alloc(16));
  const hash = createHash("sha256");
  const zeros = Buffer.alloc(MEBI);
  const began = performance.now();
  let half = began;
  const ended = once(send, "exit");
  for (let sent = 0; sent < BYTES; sent += MEBI) {
    const octets = cipher.update(zeros);
    hash.update(octets);
    if (send.stdin.write(octets)) continue;
    const drained = once(send.stdin, "drain").catch(() => ended);
    await Promise.race([drained, ended]);
    assert.equal(send.exitCode, null, told.join("\n"));
    if (sent < BYTES / 2) half = performance.now();
  }
  send.stdin.end();
  const [code] = await ended;
  assert.equal(code, 0, told.join("\n"));
  const over = performance.now();
  const sha256 = hash.digest("hex");
  await recv.line(new RegExp(`"name":"large".*"sha256":"${sha256}"|"sha256":"${sha256}".*"name":"large"`));
  assert.equal(statSync(join(out, "large")).size, BYTES);

  const ratio = (over - half) / (half - began);
  const seconds = (over - began) / 1000;
  const memory = [...most].map(([name, bytes]) => `${name} ${Math.round(bytes / MEBI)} MiB`).join(", ");
  context.diagnostic(
    `${(BYTES / 1e6 / seconds).toFixed(1)} MB/s, the second half ${ratio.toFixed(2)} of the first; at most ${memory}`,
  );
  assert.equal(most.size, 3);
  for (const [name, bytes] of most) assert.ok(bytes <= RESIDENT, `${name} used ${bytes / MEBI} MiB`);
  if (BYTES >= TIMED) assert.ok(ratio <= SLOWER, `the second half took ${ratio} of the first`);
});

/** The peak memory of a process, in bytes; 0 when it is gone. */
function residentMost(pid: number): number {
  try {
    const [, kibi = "0"] = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
    return Number(kibi) * 1024;
  } catch {
    return 0;
  }
}

function childrenOf(pid: number | undefined): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ").map(Number);
  } catch {
    return [];
  }
}

function nameOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, "utf8").trim();
  } catch {
    return "";
  }
}
