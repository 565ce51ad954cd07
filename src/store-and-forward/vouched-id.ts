/**
 * How the relay role vouches for the origin of a message: it rewrites the message's id. So no sender can impersonate
 * another, or use up another's ids.
 *
 *     unique@address            from a device of this relay: `7dq-12@alice/laptop`
 *     unique@address@relay      from that relay's device, by its word: `7dq-12@alice/laptop@relay.example.com`
 *
 * The address is that of the connection's source (`addressOf`), whatever the sender's id says. There is no other @ in
 * an id: the unique part is what the sender wrote, with `%` and `@` percent-encoded, and without its own address at the
 * end. So the same id from the same source is always written alike, and different ids differently, which makes
 * duplicates detectable. A unique part that begins with `%` and a small letter beyond f is the relay's own; no sender
 * can write one.
 *
 *     %n7dq-12                  the sender gave no id: such messages are never duplicates of each other
 *     %h7dq...                  hash of a unique part that makes the id too long
 *     %s12                      the number in its mailbox of a message that was stored without an id
 *
 * A relay is believed about its own devices if it declares that it vouches, and its id has that form without a relay.
 * Otherwise the relay itself is the source. So a message passes one relay after its sender's, as SSTP requires.
 *
 * @module
 */
import { encodeBase64url } from "../lib/base64url.ts";
import { sha256 } from "../lib/sha256.ts";
import { addressOf, isRelay, parseURL, relayURL } from "../sstp/index.ts";

/**
 * Characters of an id above which its unique part is hashed: a mailbox remembers ids, and a sender must not choose how
 * much memory each takes. Ids of libraries, UUIDs and Message-IDs of mail are far shorter.
 */
export const LONGEST_ID = 255;

/** A longer foreign device URL gets its hash as address. It fits in no Open, so it cannot be replied to. */
const LONGEST_URL = 512;

/** The longest address: such a URL with each character percent-encoded, and the colon before one without a scheme. */
const LONGEST_ADDRESS = 3 * (LONGEST_URL + 1);

/** Bytes of the random prefix that separates ids made for one connection from those of all others. */
const RANDOM_OCTETS = 9;

/** The unique part and the address as relays write them. Only the hash of a URL has a `!`. */
const wellFormed = /^[^@]+@!?[A-Za-z0-9\-._~%]+(?:\/[A-Za-z0-9\-._~%]+)?$/;

/** Writes the ids of messages that arrive on one connection. */
export class Voucher {
  /** Suffix of its own devices' ids, for a relay that vouches. */
  readonly #relay: string | undefined;
  /** Suffix of the source's own ids. */
  readonly #own: string;
  #prefix: string | undefined;
  #count = 0;

  /**
   * @param source URL of the peer: from its Connect, or of the relay that was connected to
   * @param vouched whether the peer, if it is a relay, vouches for its devices
   */
  constructor(source: string, vouched: boolean) {
    const relay = vouched ? relayOf(source) : undefined;
    this.#relay = relay === undefined ? undefined : `@${relay}`;
    this.#own = `@${boundedAddressOf(source)}`;
  }

  /** Returns the id of a message whose sender wrote `userRef`. */
  id(userRef: string): string {
    const relay = this.#relay;
    if (relay !== undefined && isVouched(userRef)) {
      return shortened(userRef, userRef.indexOf("@"), userRef + relay);
    }
    if (userRef === "") return `%n${this.#next()}${this.#own}`;
    const own = this.#own;
    const named = userRef.length > own.length && userRef.endsWith(own);
    const end = named ? userRef.length - own.length : userRef.length;
    // Nearly all ids are as our devices write them, and stay unchanged.
    if (named && userRef.length <= LONGEST_ID && userRef.indexOf("@") === end && !userRef.includes("%")) return userRef;
    const unique = escaped(userRef.slice(0, end));
    return shortened(unique, unique.length, unique + own);
  }

  #next(): string {
    this.#prefix ??= encodeBase64url(crypto.getRandomValues(new Uint8Array(RANDOM_OCTETS)));
    this.#count += 1;
    return `${this.#prefix}-${this.#count}`;
  }
}

/**
 * Ids of stored messages when they are sent on. Those that {@link Voucher} wrote stay. Those of earlier releases are
 * rewritten, since the reader assumes that all ids are vouched for.
 */
export class StoredIds {
  #source: string | undefined;
  #local = "";
  #relay: string | undefined;

  /** @param seq number of the stored message, the same each time it is sent; undefined if it is not stored */
  id(userRef: string, source: string, seq: number | undefined): string {
    // The next source is often the same as the last.
    if (source !== this.#source) {
      this.#source = source;
      this.#local = `@${boundedAddressOf(source)}`;
      const relay = relayOf(source);
      this.#relay = relay === undefined ? undefined : `@${relay}`;
    }
    const at = userRef.indexOf("@");
    if (at > 0 && userRef.endsWith(this.#local) && at === userRef.length - this.#local.length) return userRef;
    const relay = this.#relay;
    if (relay !== undefined && userRef.endsWith(relay) && isVouched(userRef.slice(0, -relay.length))) return userRef;
    if (userRef === "" && seq !== undefined) return `%s${seq}${this.#local}`;
    return new Voucher(source, false).id(userRef);
  }
}

/** A message's sender according to its id. */
export interface Sender {
  /** Empty if the id does not tell. */
  readonly address: string;
  /** Whether a relay vouches for the whole address. */
  readonly vouched: boolean;
}

/**
 * Returns the sender in an id that a relay has written. If that relay does not vouch for its devices, only the relay is
 * certain: the address is then what the device claims, at that relay.
 */
export function senderIn(id: string): Sender {
  const at = id.indexOf("@");
  if (at < 1) return { address: "", vouched: false };
  const address = id.slice(at + 1);
  const relay = address.startsWith(RELAY_PREFIX) ? relayOf(decoded(address)) : undefined;
  if (relay === undefined) return { address, vouched: true };
  const claim = claimIn(id.slice(0, at).replace(/%40/g, "@"));
  return { address: claim === "" ? "" : `${claim}@${relay}`, vouched: false };
}

/**
 * Returns the identity that counts as the sender in an id that a relay has written. The devices of an identity count as
 * one, and so do all devices of a relay that does not vouch for them.
 */
export function identityIn(id: string): string {
  const address = id.slice(id.indexOf("@") + 1);
  const [identity = "", behind = ""] = address.split("/");
  const relay = behind.indexOf("@");
  return relay < 0 ? identity : identity + behind.slice(relay);
}

/** Returns the sender in an id that no relay vouches for: what follows its last @. */
export function claimIn(id: string): string {
  const at = id.lastIndexOf("@");
  return at < 0 ? "" : id.slice(at + 1);
}

/** What the address of a relay begins with. */
const RELAY_PREFIX = addressOf("grooveDNS://");

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch (error) {
    if (error instanceof URIError) return "";
    throw error;
  }
}

/** Whether an id has the form in which a relay writes those of its own devices. */
function isVouched(id: string): boolean {
  return (
    id.length <= LONGEST_ID + LONGEST_ADDRESS &&
    id.length - id.indexOf("@") <= LONGEST_ADDRESS + 1 &&
    wellFormed.test(id)
  );
}

/** Percent-encodes the unique part of an id, or the beginning of one. */
export function escaped(text: string): string {
  return text.includes("%") || text.includes("@") ? text.replaceAll("%", "%25").replaceAll("@", "%40") : text;
}

/** Replaces the unique part with its hash if the id is too long and the hash makes it shorter. */
function shortened(text: string, unique: number, id: string): string {
  if (id.length <= LONGEST_ID || unique <= HASH_LENGTH) return id;
  return `%h${hashOf(text.slice(0, unique))}${id.slice(unique)}`;
}

/** `%h`, and 32 bytes in base64url. */
const HASH_LENGTH = 2 + 43;

function boundedAddressOf(source: string): string {
  const relay = relayOf(source);
  // A relay's URL has several spellings.
  const url = relay === undefined ? source : relayURL(relay);
  return url.length > LONGEST_URL ? `!${hashOf(url)}` : addressOf(url);
}

function relayOf(url: string): string | undefined {
  if (!isRelay(url)) return undefined;
  const named = parseURL(url);
  return named.ok && named.value.kind === "relay" ? named.value.relay : undefined;
}

function hashOf(text: string): string {
  return encodeBase64url(sha256(new TextEncoder().encode(text)));
}
