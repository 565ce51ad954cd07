/**
 * Remembers passwords that proxies have refused, across runs: a command that a service manager restarts would otherwise
 * lock the account. The file has hashes only, from which a password costs a scrypt for each guess.
 *
 * @module
 */
import { randomBytes, scryptSync } from "node:crypto";
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type RefusedPasswords, refusedInMemory } from "../device/transports/proxy/credentials.ts";

/** File name in the state folder. */
const FILE = "refused-proxy-passwords.json";

/** Passwords remembered: more than a user mistypes before reading the message. The oldest go first. */
const REMEMBERED = 32;

/** Cost of a hash: 16 MiB and some 50 ms. It is computed once for each password in a run. */
const COST = 16_384;

const HASH_BYTES = 32;

interface Remembered {
  /** In hexadecimal, as the hashes. */
  readonly salt: string;
  readonly refused: readonly string[];
}

/** @param folder the state folder; without it, only this process remembers */
export function refusedPasswordsIn(folder: string | undefined): RefusedPasswords {
  const memory = refusedInMemory();
  if (folder === undefined) return memory;
  const path = join(folder, FILE);
  const hashes = new Map<string, string>();
  const hashOf = (account: string, salt: string) => {
    const key = `${salt} ${account}`;
    const hash =
      hashes.get(key) ?? scryptSync(account, Buffer.from(salt, "hex"), HASH_BYTES, { N: COST }).toString("hex");
    hashes.set(key, hash);
    return hash;
  };
  return {
    has(account) {
      if (memory.has(account)) return true;
      const { salt, refused } = read(path);
      return refused.length > 0 && refused.includes(hashOf(account, salt));
    },
    add(account) {
      const { salt, refused } = read(path);
      try {
        mkdirSync(folder, { recursive: true, mode: 0o700 });
        const kept = [...refused, hashOf(account, salt)].slice(-REMEMBERED);
        const temporary = `${path}.${process.pid}`;
        writeFileSync(temporary, JSON.stringify({ salt, refused: kept } satisfies Remembered), { mode: 0o600 });
        renameSync(temporary, path);
      } catch {
        // A disk that is full or read-only: this process remembers.
        memory.add(account);
      }
    },
    cure: `if they were right after all, delete ${path}`,
  };
}

/** Reads the file. One that is missing or broken remembers nothing. */
function read(path: string): Remembered {
  try {
    const { salt, refused } = JSON.parse(readFileSync(path, "utf8")) as Partial<Remembered>;
    if (typeof salt === "string" && /^[0-9a-f]{32}$/.test(salt) && Array.isArray(refused)) {
      return { salt, refused: refused.filter((hash) => typeof hash === "string").slice(-REMEMBERED) };
    }
  } catch {
    // Written anew.
  }
  return { salt: randomBytes(16).toString("hex"), refused: [] };
}
