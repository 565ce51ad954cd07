/**
 * Whether the disk is full, for an edge on a machine of its own. The `grooveway` command watches the disk, and reports
 * to `/local/disk`. On Cloudflare no report ever arrives, and this file has no effect.
 *
 * @module
 */
import { logReason } from "./log.ts";
import { isEqual } from "./timing-safe-equal.ts";

/** Undefined until the first report. On a machine of its own, the Worker and its objects share one isolate. */
let full: boolean | undefined;

/** Whether new messages are refused, so that waiting messages can still be read, acknowledged and purged. */
export function isStorageFull(): boolean {
  return full === true;
}

/**
 * Whether an error says that the disk is full. If so, the disk counts as full until the command reports otherwise. The
 * log line tells the command, which then frees its ballast file and reports.
 */
export function noticeStorageFull(error: unknown): boolean {
  if (full === undefined || !(error instanceof Error) || !/SQLITE_FULL|disk is full/.test(error.message)) return false;
  full = true;
  logReason("error", "StorageFull", { message: error.message });
  return true;
}

/** Handles a report of the command, `full` or `free`. Returns undefined if the request does not have the secret. */
export async function hearOfDisk(request: Request, secret: string | undefined): Promise<Response | undefined> {
  const said = request.headers.get("Authorization") ?? "";
  if (!secret || request.method !== "PUT" || !(await isEqual(said, `Bearer ${secret}`))) return undefined;
  full = (await request.text()) === "full";
  return new Response(null, { status: 204 });
}
