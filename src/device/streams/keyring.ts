/**
 * The key of a device, and which keys of other devices it trusts. Trust does not rest on the edge: it says who sends, and
 * a key proves it.
 *
 * @module
 */
import { formatFingerprint, isSameKey, KEY_OCTETS, publicKeyOf, type Reason } from "../../streams/index.ts";
import { DeviceError } from "../device-error.ts";

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
  /** Judges a device that dials this one; all of its instances have its address here. Returns why it is refused; undefined accepts it. */
  admit(address: string, key: Uint8Array): Reason | undefined;
  /**
   * Calls back when trust may have been withdrawn. Channels end then that others have dialed with a key that is not
   * admitted, or that lead to a device with another key than the pinned one, or without a pin. Returns a function that
   * ends that.
   */
  onWithdrawn?(withdrawn: () => void): () => void;
}

/**
 * What a {@link MemoryKeyring} holds. It can be cloned, so IndexedDB keeps it as it is. Anybody who reads the secret key can
 * pass for the device.
 */
export interface KeyringContents {
  /** The device's own secret key: 32 bytes. */
  readonly secretKey: Uint8Array;
  /** The keys of devices that this one has dialed, by address. */
  readonly pins: ReadonlyMap<string, Uint8Array>;
  /** The keys with which devices may dial this one, by address. */
  readonly accepted: ReadonlyMap<string, readonly Uint8Array[]>;
}

/**
 * A keyring in memory. Pins devices on first use, and admits those that the program has accepted.
 *
 * @example
 * // Contents that are kept elsewhere, such as in IndexedDB. A new keyring is kept before it is used.
 * const keyring = new MemoryKeyring(await load(), { onChanged: save });
 * await save(keyring.contents);
 */
export class MemoryKeyring implements Keyring {
  readonly secretKey: Uint8Array;
  readonly #pins: Map<string, Uint8Array>;
  readonly #accepted: Map<string, readonly Uint8Array[]>;
  readonly #onChanged: ((contents: KeyringContents) => unknown) | undefined;
  readonly #listeners = new Set<() => void>();

  /**
   * @param contents default: a new key, and no others
   * @param onChanged called with the contents after each change
   * @throws DeviceError InvalidOption if a key has not 32 bytes
   */
  constructor(
    { secretKey, pins = new Map(), accepted = new Map() }: Partial<KeyringContents> = {},
    { onChanged }: { readonly onChanged?: (contents: KeyringContents) => unknown } = {},
  ) {
    this.secretKey = checked(secretKey ?? crypto.getRandomValues(new Uint8Array(KEY_OCTETS)));
    this.#pins = new Map([...pins].map(([address, key]) => [address, checked(key)]));
    this.#accepted = new Map([...accepted].map(([address, keys]) => [address, keys.map(checked)]));
    this.#onChanged = onChanged;
  }

  /** Everything in it, as a copy. */
  get contents(): KeyringContents {
    return { secretKey: this.secretKey, pins: new Map(this.#pins), accepted: new Map(this.#accepted) };
  }

  /** The text of the device's public key, for people to compare. */
  get fingerprint(): string {
    return formatFingerprint(publicKeyOf(this.secretKey));
  }

  /** Lets a device with this address and key dial. @throws DeviceError InvalidOption */
  accept(address: string, key: Uint8Array): void {
    this.#accepted.set(address, [...(this.#accepted.get(address) ?? []), checked(key)]);
    this.#changed();
  }

  /** Withdraws what was accepted for an address; the channels that it has dialed end. */
  withdraw(address: string): void {
    this.#accepted.delete(address);
    this.#changed();
    this.#withdrawn();
  }

  /** Pins the key of a device that is dialed; channels to it with another key end. @throws DeviceError InvalidOption */
  pin(address: string, key: Uint8Array): void {
    this.#pins.set(address, checked(key));
    this.#changed();
    this.#withdrawn();
  }

  /** Forgets the pinned key of a device; channels to it end, and the next one pins its key anew. */
  unpin(address: string): void {
    this.#pins.delete(address);
    this.#changed();
    this.#withdrawn();
  }

  pinned(address: string): Uint8Array | undefined {
    return this.#pins.get(address);
  }

  meet(address: string, key: Uint8Array): Reason | undefined {
    const pin = this.#pins.get(address);
    if (pin !== undefined) return isSameKey(pin, key) ? undefined : "ChangedKey";
    this.#pins.set(address, key);
    this.#changed();
    return undefined;
  }

  admit(address: string, key: Uint8Array): Reason | undefined {
    return this.#accepted.get(address)?.some((accepted) => isSameKey(accepted, key)) ? undefined : "UnknownKey";
  }

  onWithdrawn(withdrawn: () => void): () => void {
    this.#listeners.add(withdrawn);
    return () => this.#listeners.delete(withdrawn);
  }

  #changed(): void {
    this.#onChanged?.(this.contents);
  }

  #withdrawn(): void {
    for (const listener of [...this.#listeners]) listener();
  }
}

/** @throws DeviceError InvalidOption */
function checked(key: Uint8Array): Uint8Array {
  if (key instanceof Uint8Array && key.length === KEY_OCTETS) return key;
  throw new DeviceError("InvalidOption", `a key of a keyring is no Uint8Array of ${KEY_OCTETS} bytes: give it whole`);
}
