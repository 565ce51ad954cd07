/**
 * Whether the disk is full or failing, for an edge on a machine of its own. The `grooveway` command watches the disk, and reports
 * to `/local/disk`. On Cloudflare no report ever arrives, and this file has no effect.
 *
 * @module
 */
import { WRITE_FAILURE } from "../lib/write-failure.ts";
import { isCommand } from "./is-command.ts";
import { logReason } from "./log.ts";

/** Undefined until the first report. On a machine of its own, the Worker and its objects share one isolate. */
let full: boolean | undefined;
/** Whether writes fail for another reason than lack of space. */
let isFailing = false;

/** How messages of errors begin that the platform keeps to itself. */
const PLATFORM_ERROR = "internal error";

/** Time for a report of the command, in milliseconds: reading a line and one request, on a busy machine. */
const REPORT_TIME = 500;

/** Whether new messages are refused, so that waiting messages can still be read, acknowledged and purged. */
export function isStorageFull(): boolean {
  return full === true || isFailing;
}

/** By which name new messages are refused. */
export function storageProblem(): "StorageFull" | "StorageFailed" | undefined {
  if (isFailing) return "StorageFailed";
  return full === true ? "StorageFull" : undefined;
}

/**
 * Whether an error says that the disk is full. If so, the disk counts as full until the command reports otherwise. The
 * log line tells the command, which then frees its ballast file and reports.
 */
export function noticeStorageFull(error: unknown): boolean {
  if (full === undefined || !(error instanceof Error)) return false;
  // An object whose database cannot be opened or written fails in the platform, which does not say why.
  if (full && error.message.startsWith(PLATFORM_ERROR)) return true;
  if (!/SQLITE_FULL|disk is full/.test(error.message)) return false;
  full = true;
  logReason("error", "StorageFull", { message: error.message });
  return true;
}

/**
 * As {@link noticeStorageFull}; of an error that the platform keeps to itself it waits for what the command reports, which
 * reads the reason in the platform's log.
 */
export async function learnStorageFull(error: unknown): Promise<boolean> {
  if (noticeStorageFull(error)) return true;
  if (full === undefined || !(error instanceof Error) || !error.message.startsWith(PLATFORM_ERROR)) return false;
  await scheduler.wait(REPORT_TIME);
  return isStorageFull();
}

/** Whether an error says that an object cannot write its own file, though others may: a file is damaged, or not the edge's. */
export function isWriteFailure(error: unknown): boolean {
  return full !== undefined && error instanceof Error && WRITE_FAILURE.test(error.message);
}

/** Handles a report of the command, `full`, `failing` or `free`. Returns undefined if the request does not have the secret. */
export async function hearOfDisk(request: Request, secret: string | undefined): Promise<Response | undefined> {
  if (!(await isCommand(request, secret))) return undefined;
  const told = await request.text();
  full = told === "full";
  isFailing = told === "failing";
  return new Response(null, { status: 204 });
}
