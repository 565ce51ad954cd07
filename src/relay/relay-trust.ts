/**
 * Which relays, edges above all, may connect to this relay as such, and which of them it knows: what is for their peers
 * is taken, and waits for them.
 *
 * One with a secret has to prove it, wherever it comes from. Without a list of secrets those that connect from a loopback
 * or private address are believed; with one, and where devices are asked for tokens, nobody is that it does not name.
 *
 * @module
 */
import type { LinkSecrets } from "../auth/relay-proof.ts";
import { isNear } from "../lib/near-address.ts";
import { KNOWN_RELAYS } from "./defaults.ts";

export type Judgement =
  | { readonly type: "prove"; readonly secrets: readonly Uint8Array[] }
  | { readonly type: "admitted" }
  | { readonly type: "refused" };

export class RelayTrust {
  readonly #secrets: LinkSecrets | undefined;
  /** Relays that have connected since the start and have no entry, the one that did so first before all others. */
  readonly #seen = new Set<string>();

  /** @param secrets undefined when the operator has given no list, and devices are not asked for tokens either */
  constructor(secrets: LinkSecrets | undefined) {
    this.#secrets = secrets;
  }

  /**
   * What becomes of a relay that wants to connect.
   *
   * @param url as relayNamed gives it
   * @param address the IP address that it connects from
   */
  judge(url: string, address: string): Judgement {
    const trust = this.#secrets?.get(url);
    if (trust?.type === "secrets") return { type: "prove", secrets: trust.secrets };
    if (trust?.type === "none") return { type: "admitted" };
    return { type: this.#secrets === undefined && isNear(address) ? "admitted" : "refused" };
  }

  /** A relay was let in. */
  admit(url: string): void {
    if (this.#secrets?.has(url)) return;
    this.#seen.delete(url);
    this.#seen.add(url);
    for (const oldest of this.#seen) {
      if (this.#seen.size <= KNOWN_RELAYS) break;
      this.#seen.delete(oldest);
    }
  }

  /** Whether messages are taken for the peers of a relay: it is on the list, or has connected since the start. */
  knows(url: string): boolean {
    return this.#seen.has(url) || this.#secrets?.has(url) === true;
  }
}
