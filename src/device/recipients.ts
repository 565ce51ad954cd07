/**
 * Recipients: maps the application's names to addresses on the wire.
 *
 * @module
 */
import { encodeBase64url } from "../lib/base64url.ts";
import {
  type AddressingEntry,
  encode,
  isSameDevice,
  isURL,
  type MessageFields,
  type Parsed,
  recipientOf,
  relayURL,
  VERSION_1_6,
  WireError,
} from "../sstp/index.ts";
import { DeviceError } from "./device-error.ts";
import { ID_OCTETS, REMEMBERED_RECIPIENTS } from "./limits.ts";
import type { Destination } from "./relay-connection.ts";

export class Recipients {
  readonly #idSuffix: string;
  readonly #relay: string | undefined;
  /** By resource, then by the application's name. Every message looks here, so no joint key is built. */
  readonly #known = new Map<string, Map<string, Destination>>();
  #count = 0;

  /**
   * @param idSuffix suffix of this device's message ids
   * @param relay the relay that this device connects to; undefined if there are several
   */
  constructor(idSuffix: string, relay: string | undefined) {
    this.#idSuffix = idSuffix;
    this.#relay = relay;
  }

  /** @throws DeviceError InvalidOption */
  destination(to: string, resourceURL: string): Destination {
    return this.#known.get(resourceURL)?.get(to) ?? this.#learn(to, resourceURL);
  }

  #learn(to: string, resourceURL: string): Destination {
    const { relay, ...urls } = validOption("recipient", recipientOf(to));
    const entry = {
      resourceURL,
      ...urls,
      // A recipient at our own relay needs no relay URL.
      relayURL:
        relay === undefined || (this.#relay !== undefined && sameRelay(relay, this.#relay)) ? "" : relayURL(relay),
    };
    // The mailbox remembers every id, and stores consecutive numbers almost for free.
    const first = encodeBase64url(crypto.getRandomValues(new Uint8Array(ID_OCTETS)));
    let count = 0;
    const newId = () => {
      count += 1;
      return `${first}-${count}${this.#idSuffix}`;
    };
    assertSayable(entry, { userRef: `${first}-${Number.MAX_SAFE_INTEGER}${this.#idSuffix}` });
    const destination = { to, ...entry, key: Object.values(entry).join("\n"), newId };
    if (this.#count >= REMEMBERED_RECIPIENTS) {
      this.#known.clear();
      this.#count = 0;
    }
    const known = this.#known.get(resourceURL);
    if (known === undefined) this.#known.set(resourceURL, new Map([[to, destination]]));
    else known.set(to, destination);
    this.#count += 1;
    return destination;
  }
}

/**
 * The value of what the application has given.
 *
 * @throws DeviceError InvalidOption
 */
export function validOption<T>(what: string, parsed: Parsed<T>): T {
  if (parsed.ok) return parsed.value;
  throw new DeviceError("InvalidOption", `${what}: ${parsed.problems}`);
}

/**
 * Rejects what the wire format cannot express, where the caller sees the error.
 *
 * @throws DeviceError InvalidOption
 */
export function assertSayable(addressing: AddressingEntry, { userRef = "", streamSize }: MessageFields): void {
  if (!isURL(addressing.resourceURL)) {
    throw new DeviceError("InvalidOption", "resource must be a URI or part of one: percent-encode other characters");
  }
  try {
    encode({ command: "Open", sessionId: 0, ...addressing }, VERSION_1_6);
    const fields = { userRef, ...(streamSize && { streamSize }) };
    encode({ command: "Message", sessionId: 0, messageCount: 0, flags: 0, ...fields }, VERSION_1_6);
  } catch (error) {
    if (error instanceof WireError) throw new DeviceError("InvalidOption", error.message);
    throw error;
  }
}

/** Whether two relay names are the same; either may omit the port. */
function sameRelay(one: string, other: string): boolean {
  return isSameDevice(relayURL(one), relayURL(other));
}
