/**
 * Ends the process at once.
 *
 * @module
 */

/** What Node calls a name that is being resolved. */
const RESOLVING = "GetAddrInfoReqWrap";

/**
 * Exits, also while a name is being resolved. Node waits for that before it ends, and where DNS servers are silent it
 * takes half a minute. So the process is then replaced by one that ends with the status: only Node itself is sure to be
 * there for that.
 */
export function exitNow(status: number): never {
  const { execve } = process as { readonly execve?: typeof process.execve };
  if (execve !== undefined && process.getActiveResourcesInfo().includes(RESOLVING)) {
    process.exitCode = status;
    // These run on exit, and not when the process is replaced.
    process.emit("exit", status);
    try {
      execve(process.execPath, [process.execPath, "--eval", `process.exit(${status})`], {});
    } catch {
      // Windows cannot do that.
    }
  }
  process.exit(status);
}
