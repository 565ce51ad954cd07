/**
 * The key of a device, and which keys of other devices it trusts. Trust does not rest on the edge: it says who sends, and
 * a key proves it.
 *
 * @module
 */
import { isSameKey, type Reason } from "../../streams/index.ts";

export interface Keyring {
  /** The device's own secret key: 32 bytes. */
  readonly secretKey: Uint8Array;
  /** The pinned key of a device that is dialed; undefined if it has none. */
  pinned(address: string): Uint8Array | undefined;
  /**
   * Judges the key of a device that was dialed and has no pin, or another key than the pinned one. Returns why it is
   * refused; undefined accepts it, unless there is a pin.
   */
  meet(address: string, key: Uint8Array): Reason | undefined;
  /** Judges a device that dials this one. Returns why it is refused; undefined accepts it. */
  admit(address: string, key: Uint8Array): Reason | undefined;
  /** Calls back when trust was withdrawn. Returns a function that ends that. */
  onWithdrawn?(withdrawn: () => void): () => void;
}

/** A keyring in memory. Pins devices on first use, and admits those that the program has accepted. */
export class MemoryKeyring implements Keyring {
  readonly secretKey: Uint8Array;
  readonly #pins = new Map<string, Uint8Array>();
  readonly #accepted = new Map<string, Uint8Array[]>();
  readonly #listeners = new Set<() => void>();

  /** @param secretKey default: a new one */
  constructor(secretKey: Uint8Array = crypto.getRandomValues(new Uint8Array(32))) {
    this.secretKey = secretKey;
  }

  /** Lets a device with this address and key dial. */
  accept(address: string, key: Uint8Array): void {
    this.#accepted.set(address, [...(this.#accepted.get(address) ?? []), key]);
  }

  /** Withdraws what was accepted for an address; its channels end. */
  withdraw(address: string): void {
    this.#accepted.delete(address);
    for (const listener of this.#listeners) listener();
  }

  /** Pins the key of a device. */
  pin(address: string, key: Uint8Array): void {
    this.#pins.set(address, key);
  }

  pinned(address: string): Uint8Array | undefined {
    return this.#pins.get(address);
  }

  meet(address: string, key: Uint8Array): Reason | undefined {
    const pin = this.#pins.get(address);
    if (pin === undefined) this.#pins.set(address, key);
    return pin === undefined || isSameKey(pin, key) ? undefined : "ChangedKey";
  }

  admit(address: string, key: Uint8Array): Reason | undefined {
    return this.#accepted.get(address)?.some((accepted) => isSameKey(accepted, key)) ? undefined : "UnknownKey";
  }

  onWithdrawn(withdrawn: () => void): () => void {
    this.#listeners.add(withdrawn);
    return () => this.#listeners.delete(withdrawn);
  }
}
