/**
 * Recipients: what an application calls them, and how they are written on the wire.
 *
 * @module
 */
import {
  type Address,
  AddressError,
  type AddressingEntry,
  deviceURL,
  encode,
  identityURL,
  isSameDevice,
  isURL,
  type MessageFields,
  parseAddress,
  relayURL,
  VERSION_1_6,
  WireError,
} from "../sstp/index.ts";
import type { Destination } from "./carrier.ts";
import { REMEMBERED_RECIPIENTS } from "./defaults.ts";
import { DeviceError } from "./error.ts";
import { newGuid } from "./guid.ts";
import { idFor } from "./message.ts";

export class Recipients {
  readonly #self: Required<Pick<Address, "identity" | "device">>;
  readonly #relay: string;
  /** By what the application calls them, and the resource. */
  readonly #known = new Map<string, Destination>();

  /** @param relay that the device speaks with */
  constructor(self: Required<Pick<Address, "identity" | "device">>, relay: string) {
    this.#self = self;
    this.#relay = relay;
  }

  /** @throws DeviceError InvalidOption */
  destination(to: string, resourceURL: string): Destination {
    const key = `${to}\n${resourceURL}`;
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const { relay, ...recipient } = checked("recipient", () => parseAddress(to));
    const destination = {
      resourceURL,
      identityURL: identityURL(recipient),
      deviceURL: recipient.device === undefined ? "" : deviceURL(recipient),
      // A recipient at the relay that this device speaks with is one like all others.
      relayURL: relay === undefined || sameRelay(relay, this.#relay) ? "" : relayURL(relay),
    };
    assertSayable(destination, { userRef: idFor(newGuid(), this.#self) });
    if (this.#known.size >= REMEMBERED_RECIPIENTS) this.#known.clear();
    this.#known.set(key, destination);
    return destination;
  }
}

/** What a parser gives; its complaint as a DeviceError. @throws DeviceError InvalidOption */
export function checked<T>(what: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (error instanceof AddressError) throw new DeviceError("InvalidOption", `${what}: ${error.message}`);
    throw error;
  }
}

/** What cannot be said on the wire is refused here, where the caller hears of it. @throws DeviceError InvalidOption */
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

/** Whether a relay of an address is the one that this device names: both may leave out the port. */
function sameRelay(one: string, other: string): boolean {
  return isSameDevice(relayURL(one), relayURL(other));
}
