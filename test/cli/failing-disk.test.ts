/** The system makes the disk of an edge read-only after an error: nothing accepted is lost, and each refusal has a name. */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { it, type TestContext } from "node:test";
import { Device, DeviceError } from "../../src/device/index.ts";
import type { Readiness } from "../../src/edge/http/ready.ts";
import { eventually } from "../edge/support.ts";
import { preloaded } from "../support/preloaded.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { folder, start } from "./support.ts";

/** A file system of its own on a loop device, which can be broken and repaired. */
interface BreakableDisk {
  readonly at: string;
  /** As after an error of the device: writes fail from now on, for open files too. */
  break(): void;
  /** Mounts it anew, checked. */
  repair(): void;
}

/** Undefined where this process may not mount one. */
function breakableDisk(t: TestContext): BreakableDisk | undefined {
  const folder = temporaryFolder();
  const [image, at] = [join(folder, "image"), join(folder, "mounted")];
  const run = (program: string, ...args: string[]) => execFileSync(program, args, { stdio: "pipe" });
  const mount = () => run("mount", "-o", "loop,errors=remount-ro", image, at);
  mkdirSync(at);
  try {
    run("truncate", "-s", "256M", image);
    run("mkfs.ext4", "-q", "-F", image);
    mount();
  } catch (error) {
    t.skip(`SKIPPED: no ext4 can be mounted here (${(error as Error).message.split("\n")[0]})`);
    return undefined;
  }
  t.after(() => spawnSync("umount", ["-l", at]));
  return {
    at,
    break: () => run("mount", "-o", "remount,abort", at),
    repair: () => {
      run("umount", at);
      // 1: errors were corrected.
      const { status, stdout } = spawnSync("e2fsck", ["-y", image], { encoding: "utf8" });
      assert(status === 0 || status === 1, stdout);
      mount();
    },
  };
}

/**
 * Whether a message was accepted. A sender keeps it until it is acknowledged; but if it comes back while the disk still takes
 * no writes, it is refused and may be sent again.
 */
async function isAccepted(sent: Promise<unknown>): Promise<boolean> {
  try {
    await sent;
    return true;
  } catch (error) {
    assert(error instanceof DeviceError, String(error));
    assert.deepEqual([error.code, error.advice], ["QuotaWouldBeExceeded", "retry"]);
    return false;
  }
}

it("an edge whose disk becomes read-only says so, stops when it is told to, and has everything after a repair", async (t) => {
  const disk = breakableDisk(t);
  if (disk === undefined) return;
  const args = ["edge", "--json", "--dev", "--state", join(disk.at, "state"), "--port"];
  const edge = start(t, [...args, "0"]);
  const [, url = ""] = await edge.line(/"url":"([^"]+)"/);
  const ready = async () => (await (await fetch(`${url}/ready`)).json()) as Readiness;
  const alice = await Device.connect({ edge: url, address: "alice/pc", transport: "websocket" });
  t.after(() => alice.close());
  const sent: string[] = [];
  for (let n = 0; n < 20; n += 1) {
    await alice.send("bob/pc", `${n}`);
    sent.push(`${n}`);
  }
  assert((await ready()).ready);
  disk.break();
  // The first write notices. It is not acknowledged.
  const last = isAccepted(alice.send("bob/pc", "last"));
  await eventually("it says that it is not ready", async () => !(await ready()).ready);
  assert.deepEqual(
    (await ready()).problems.map(({ part, code }) => [part, code]),
    [["storage", "StorageFailed"]],
  );
  const health = await fetch(`${url}/health`);
  assert.deepEqual([health.status, ((await health.json()) as { code: string }).code], [503, "StorageFailed"]);
  const carol = Device.connect({ edge: url, address: "carol/pc", transport: "websocket" });
  await assert.rejects(carol, /\[StorageFailed\]/);
  edge.process.kill("SIGTERM");
  const { code, stderr } = await edge.finished;
  assert.equal(code, 0, stderr.slice(-1000));
  assert.match(stderr, /the disk of \S+ takes no writes, .*: new messages are refused \[StorageFailed\]/);

  disk.repair();
  const again = start(t, [...args, new URL(url).port]);
  await again.line(/"url"/);
  assert((await ready()).ready);
  if (!(await last)) await alice.send("bob/pc", "last");
  const bob = await Device.connect({ edge: url, address: "bob/pc", transport: "websocket" });
  t.after(() => bob.close());
  const came: string[] = [];
  for await (const { body } of bob.messages()) {
    came.push(new TextDecoder().decode(body));
    if (came.length > sent.length) break;
  }
  assert.deepEqual(came, [...sent, "last"]);
  // What is mounted is unmounted after the edge has ended.
  again.process.kill("SIGTERM");
  await again.finished;
});

for (const [how, state] of [
  ["is read-only", 1],
  ["takes new files but no bytes", 2],
] as const) {
  it(`an edge whose disk ${how} says so, and goes on by itself when it takes writes again`, async (t) => {
    const files = preloaded("read-only-files.c", "READ_ONLY_FILES", Buffer.of(0));
    if (files === undefined) return t.skip("SKIPPED: it needs Linux and a C compiler");
    const kept = join(await folder(t), "state");
    const args = ["edge", "--json", "--dev", "--state", kept, "--port", "0"];
    const edge = start(t, args, undefined, files.env);
    const [, url = ""] = await edge.line(/"url":"([^"]+)"/);
    const ready = async () => (await (await fetch(`${url}/ready`)).json()) as Readiness;
    const alice = await Device.connect({ edge: url, address: "alice/pc", transport: "websocket" });
    t.after(() => alice.close());
    await alice.send("bob/pc", "before");
    files.steer(Buffer.of(state));
    const meanwhile = isAccepted(alice.send("bob/pc", "meanwhile"));
    await eventually("it says that it is not ready", async () => !(await ready()).ready);
    assert.deepEqual(
      (await ready()).problems.map(({ part, code }) => [part, code]),
      [["storage", "StorageFailed"]],
    );
    files.steer(Buffer.of(0));
    await eventually("it says that it is ready", async () => (await ready()).ready);
    if (!(await meanwhile)) await alice.send("bob/pc", "meanwhile");
    await alice.send("bob/pc", "after");
    const bob = await Device.connect({ edge: url, address: "bob/pc", transport: "websocket" });
    t.after(() => bob.close());
    const came: string[] = [];
    for await (const { body } of bob.messages()) {
      came.push(new TextDecoder().decode(body));
      if (came.length === 3) break;
    }
    assert.deepEqual(came, ["before", "meanwhile", "after"]);
    edge.process.kill("SIGTERM");
    const { code, stderr } = await edge.finished;
    assert.equal(code, 0);
    assert.match(stderr, /takes no writes, .*\[StorageFailed\][\s\S]*takes writes again: new messages are accepted/);
  });
}
