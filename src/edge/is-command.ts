/**
 * Whether a request comes from the `grooveway` command that runs this edge on a machine of its own. On Cloudflare none does.
 *
 * @module
 */
import { isEqual } from "./timing-safe-equal.ts";

/** @param secret the command's secret; undefined where no command runs this edge */
export async function isCommand(request: Request, secret: string | undefined): Promise<boolean> {
  const said = request.headers.get("Authorization") ?? "";
  return Boolean(secret) && request.method === "PUT" && isEqual(said, `Bearer ${secret}`);
}
