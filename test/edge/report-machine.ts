/** Reports to an edge in this process what its machine has left, as the command does. */
import { timingSafeEqual } from "node:crypto";
import { hearOfDisk } from "../../src/edge/disk-full.ts";
import { hearOfFiles } from "../../src/edge/open-files.ts";

// As on the platform.
Object.assign(crypto.subtle, { timingSafeEqual });

const SECRET = "the command's";

export async function reportDisk(state: "full" | "failing" | "free"): Promise<void> {
  await hearOfDisk(report("/local/disk", state), SECRET);
}

export async function reportFiles(state: "short" | "enough"): Promise<void> {
  await hearOfFiles(report("/local/files", state), SECRET);
}

function report(path: string, body: string): Request {
  return new Request(`http://edge${path}`, { method: "PUT", headers: { Authorization: `Bearer ${SECRET}` }, body });
}
