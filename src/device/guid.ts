/**
 * GUIDs from a pool of random octets: asking the system for each one costs a busy sender more than the message.
 *
 * @module
 */
import { randomFillSync } from "node:crypto";
import { REGISTRY } from "../encapsulation/index.ts";
import { GUID_POOL } from "./defaults.ts";

const LETTERS = REGISTRY.guidLength.value;

/** Each octet stands for one of the 32 letters: 256 is a multiple of that, so each is as likely as the others. */
const letters = Buffer.from(REGISTRY.guidAlphabet.value.repeat(8));

const pool = Buffer.alloc(GUID_POOL * LETTERS);
let used = pool.length;

/** A GUID that nobody can guess. */
export function newGuid(): string {
  if (used === pool.length) {
    randomFillSync(pool);
    for (let at = 0; at < pool.length; at += 1) pool[at] = letters[pool[at] as number] as number;
    used = 0;
  }
  used += LETTERS;
  return pool.toString("latin1", used - LETTERS, used);
}
