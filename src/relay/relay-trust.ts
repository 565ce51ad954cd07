/**
 * Which relays, edges above all, may connect to this relay as such, and which of them it knows: what is for their peers
 * is taken, and waits for them.
 *
 * One with a secret has to prove it, wherever it comes from. Without a list of secrets those that connect from a loopback
 * or private address are believed; with one, and where devices are asked for tokens, nobody is that it does not name.
 *
 * A name without a port that this relay has only because it runs on that machine, such as `localhost` or `[::1]`, may be
 * that of an edge beside it too. Such a name is the edge's from when it connects with it, from that machine.
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
  /** Relays that have connected since the start and have no entry, the one that did so first before all others. */
  readonly #seen = new Set<string>();
  readonly #machine: ReadonlySet<string>;

  /**
   * @param secrets undefined when the operator has given no list, and devices are not asked for tokens either
   * @param machine URLs of the names that stand for the machine of this relay, and perhaps not for it alone
   */
  constructor(secrets: LinkSecrets | undefined, machine: readonly string[] = []) {
    this.#secrets = secrets;
    this.#machine = new Set(machine);
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

  /**
   * A relay was let in.
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

  /** Whether messages are taken for the peers of a relay: it is on the list, or has connected since the start. */
  knows(url: string): boolean {
    return this.#seen.has(url) || this.#secrets?.has(url) === true;
  }

  /** Whether a name that stands for this machine is that of another relay on it. */
  isOfAnother(url: string): boolean {
    return this.#machine.has(url) && this.knows(url);
  }
}
