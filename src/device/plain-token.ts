/**
 * A token that would go to a relay in clear: over TCP without TLS it may only go where no stranger listens on the way.
 *
 * @module
 */
import { lookup } from "node:dns";
import { isIP, type LookupFunction } from "node:net";
import { isNear } from "../lib/near-address.ts";
import { DeviceError } from "./error.ts";

/**
 * Resolves a name for a connection that will carry a token, and fails when one of its addresses is a stranger's.
 *
 * @throws DeviceError TokenInClear for an address
 */
export function nearOnly(host: string): LookupFunction {
  if (isIP(host) !== 0 && !isNear(host)) throw inClear(host);
  return (name, options, callback) => {
    lookup(name, { ...options, all: true }, (error, addresses) => {
      const [first] = addresses ?? [];
      if (error !== null || first === undefined) callback(error, []);
      else if (!addresses.every(({ address }) => isNear(address))) callback(inClear(host), []);
      else if (options.all === true) callback(null, addresses);
      else callback(null, first.address, first.family);
    });
  };
}

function inClear(host: string): DeviceError {
  return new DeviceError(
    "TokenInClear",
    `the token would go to ${host} in clear: connect through an edge by https, or say that it may (allowPlain, --allow-plain)`,
  );
}
