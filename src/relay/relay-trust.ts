/**
 * Decides which relays (mostly edges) may connect as relays, and knows those whose peers' messages are accepted and
 * queued.
 *
 * A relay with a secret must prove it, from any address. Without a list of secrets, relays that connect from a loopback
 * or private address are trusted. With a list, or if devices need tokens, only listed relays are admitted.
 *
 * A name without a port that this relay has only because of its machine, such as `localhost` or `[::1]`, may also
 * belong to an edge on the same machine. It becomes the edge's once the edge connects with it from this machine.
 *
 * @module
 */
import type { LinkSecrets } from "../auth/relay-proof.ts";
import { isNear } from "../lib/near-address.ts";
import { KNOWN_RELAYS } from "./limits.ts";

export type Judgement =
  | { readonly type: "prove"; readonly secrets: readonly Uint8Array[] }
  | { readonly type: "admitted" }
  | { readonly type: "refused" };

export class RelayTrust {
  readonly #secrets: LinkSecrets | undefined;
  /** Unlisted relays that have connected since the start, least recent first. */
  readonly #seen = new Set<string>();
  readonly #machine: ReadonlySet<string>;

  /**
   * @param secrets undefined if the operator gave no list and devices need no tokens
   * @param machine URLs of names for this machine, which another relay on it may share
   */
  constructor(secrets: LinkSecrets | undefined, machine: readonly string[] = []) {
    this.#secrets = secrets;
    this.#machine = new Set(machine);
  }

  /**
   * Decides on a relay that wants to connect.
   *
   * @param url as returned by relayNamed
   * @param address its IP address
   */
  judge(url: string, address: string): Judgement {
    const trust = this.#secrets?.get(url);
    if (trust?.type === "secrets") return { type: "prove", secrets: trust.secrets };
    if (trust?.type === "none") return { type: "admitted" };
    return { type: this.#secrets === undefined && isNear(address) ? "admitted" : "refused" };
  }

  /**
   * Records that a relay was admitted.
   *
   * @param isHere whether it connects from this machine
   */
  admit(url: string, isHere: boolean): void {
    if (this.#secrets?.has(url) || (this.#machine.has(url) && !isHere)) return;
    this.#seen.delete(url);
    this.#seen.add(url);
    for (const oldest of this.#seen) {
      if (this.#seen.size <= KNOWN_RELAYS) break;
      this.#seen.delete(oldest);
    }
  }

  /** Whether messages are accepted for a relay's peers: it is listed or has connected since the start. */
  knows(url: string): boolean {
    return this.#seen.has(url) || this.#secrets?.has(url) === true;
  }

  /** Whether a name of this machine belongs to another relay on it. */
  isOfAnother(url: string): boolean {
    return this.#machine.has(url) && this.knows(url);
  }
}
