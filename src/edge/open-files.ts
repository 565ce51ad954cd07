/**
 * Whether the process of this edge has nearly as many files open as it may, for an edge on a machine of its own. The
 * `grooveway` command counts them, and reports to `/local/files`. On Cloudflare no report ever arrives, and this file has
 * no effect.
 *
 * @module
 */
import { isCommand } from "./is-command.ts";

let isShort = false;

/** Whether new virtual connections are refused, so that those that exist go on. */
export function areFilesShort(): boolean {
  return isShort;
}

/** Handles a report of the command, `short` or `enough`. Returns undefined if the request does not have the secret. */
export async function hearOfFiles(request: Request, secret: string | undefined): Promise<Response | undefined> {
  if (!(await isCommand(request, secret))) return undefined;
  isShort = (await request.text()) === "short";
  return new Response(null, { status: 204 });
}
