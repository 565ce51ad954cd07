/**
 * A token that would go to a relay in clear: over TCP without TLS it may only go where no stranger listens on the way.
 *
 * @module
 */
import { isNear } from "../lib/near-address.ts";
import { DeviceError } from "./device-error.ts";

/** Refuses the addresses of a name that are a stranger's, for a connection that will carry a token. */
export function nearOnly(host: string): (address: string) => DeviceError | undefined {
  return (address) => (isNear(address) ? undefined : inClear(host));
}

function inClear(host: string): DeviceError {
  return new DeviceError(
    "TokenInClear",
    `the token would go to ${host} in clear: connect through an edge by https, or say that it may (allowPlain, --allow-plain)`,
  );
}
