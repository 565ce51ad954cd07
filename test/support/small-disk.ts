/** A small disk of its own, and another program that fills it. */
import { execFileSync } from "node:child_process";
import { closeSync, openSync, rmSync, writeSync } from "node:fs";
import { mkdtemp, rmdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";

/** Room for the minimum, the ballast and what a test sends. */
const DISK = "size=112m";

/** A small separate disk; undefined where this process may not mount one. */
export async function smallDisk(context: TestContext): Promise<string | undefined> {
  const at = await mkdtemp(join(tmpdir(), "grooveway-disk-"));
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", DISK, "tmpfs", at], { stdio: "pipe" });
  } catch (error) {
    await rmdir(at);
    context.skip(`SKIPPED: no tmpfs can be mounted here (${(error as Error).message.split("\n")[0]})`);
    return undefined;
  }
  context.after(async () => {
    // Everything running on it is stopped after this.
    execFileSync("umount", ["-l", at]);
    await rmdir(at);
  });
  return at;
}

/** Another program, which uses every free byte. */
export function fillDisk(at: string): void {
  const file = openSync(join(at, "other-program"), "a");
  try {
    for (let size = 1024 * 1024; size > 0; ) {
      try {
        writeSync(file, Buffer.alloc(size, 1));
      } catch {
        size = Math.floor(size / 2);
      }
    }
  } finally {
    closeSync(file);
  }
}

/** The other program gives up what it has used. */
export function freeDisk(at: string): void {
  rmSync(join(at, "other-program"));
}
