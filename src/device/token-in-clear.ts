/**
 * Keeps tokens off the internet in clear text: over TCP without TLS a token may only go to a nearby address.
 *
 * @module
 */
import { isNear } from "../lib/near-address.ts";
import { DeviceError } from "./device-error.ts";

/** Rejects every address of a name that is not near (see `isNear`), for a connection that will carry a token. */
export function nearOnly(host: string): (address: string) => DeviceError | undefined {
  return (address) => (isNear(address) ? undefined : inClear(host));
}

function inClear(host: string): DeviceError {
  return new DeviceError(
    "TokenInClear",
    `the token would go to ${host} unencrypted: connect through an edge by https, or allow it (allowPlain, --allow-plain)`,
  );
}
