/**
 * GUIDs from a pool of random octets: asking the system for each one costs a busy sender more than the message.
 *
 * @module
 */
import { randomFillSync } from "node:crypto";
import { guidFrom } from "../encapsulation/index.ts";
import { GUID_POOL } from "./defaults.ts";

const OCTETS = 24;

const pool = new Uint8Array(GUID_POOL * OCTETS);
let used = pool.length;

/** A GUID that nobody can guess. */
export function newGuid(): string {
  if (used === pool.length) {
    randomFillSync(pool);
    used = 0;
  }
  used += OCTETS;
  return guidFrom(pool.subarray(used - OCTETS, used));
}
