/**
 * The disk under an edge that runs on a machine of its own. The command watches it, and tells the worker by `/local/disk`;
 * to look at the answer costs nothing. On Cloudflare there is no disk: nobody ever says anything of it, and nothing here
 * has an effect.
 *
 * @module
 */
import { isEqual } from "./timing-safe-equal.ts";

/** Undefined until the command has said something. The worker and its objects share one isolate on a machine. */
let full: boolean | undefined;

/** Whether new messages are refused, so that what waits can still be read, acknowledged and purged. */
export function isStorageFull(): boolean {
  return full === true;
}

/**
 * Whether an error says that the disk is full. From then on it is, until the command says otherwise: it hears of it by the
 * log, gives up its ballast, and answers.
 */
export function noticeStorageFull(error: unknown): boolean {
  if (full === undefined || !(error instanceof Error) || !/SQLITE_FULL|disk is full/.test(error.message)) return false;
  full = true;
  console.error(JSON.stringify({ reason: "StorageFull", message: error.message }));
  return true;
}

/** Whether there is room, as the command says it: `full` or `free`. Undefined when the request does not have the secret. */
export async function hearOfDisk(request: Request, secret: string | undefined): Promise<Response | undefined> {
  const said = request.headers.get("Authorization") ?? "";
  if (!secret || request.method !== "PUT" || !(await isEqual(said, `Bearer ${secret}`))) return undefined;
  full = (await request.text()) === "full";
  return new Response(null, { status: 204 });
}
