/**
 * Where a message comes from and goes to, and its sender's fields: what mailboxes and relays keep beside its body.
 *
 * @module
 */
import { MAX_SHORT_COMMAND_OCTETS, type StreamSize } from "../sstp/index.ts";

/** A recipient at an origin relay. An empty device URL makes it identity-targeted. */
export interface Recipient {
  readonly identityURL: string;
  readonly deviceURL: string;
}

/** Where the messages of one session come from and go to. */
export interface Envelope extends Recipient {
  /** Device URL of the sender, as in its Connect. */
  readonly source: string;
  readonly resourceURL: string;
  /** Content type of the body, if it came over HTTP. Devices are not told. */
  readonly contentType?: string | undefined;
  /** In an origin relay's mailbox: the recipients at that relay. The two URLs are then empty. */
  readonly entries?: readonly Recipient[] | undefined;
}

/** The fields of a Message command [MS-GRVSSTP 2.2.10]. They are passed on unread, except the id. */
export interface Fields {
  /** The message's id, as the relay role has written it; see `vouched-id.ts`. */
  readonly userRef: string;
  readonly track: boolean;
  readonly ephemeral?: number | undefined;
  readonly streamSize?: StreamSize | undefined;
  readonly fragmentation?: Uint8Array | undefined;
}

/** One message. */
export interface Mail {
  readonly envelope: Envelope;
  readonly fields: Fields;
  readonly body: Uint8Array;
}

/** Octets of a Message beside its UserRef and Fragmentation, with every field and the NUL of UserRef [2.2.10.1]. */
const MESSAGE_FIXED_OCTETS = 3 + 4 + 4 + 1 + 1 + 4 + 24 + 2;

/**
 * Whether one Message command has room for an id and a Fragmentation, which may be as long as its sender had room for.
 */
export function fitsMessage(userRef: string, fragmentation: Uint8Array | undefined): boolean {
  return MESSAGE_FIXED_OCTETS + userRef.length + (fragmentation?.length ?? 0) <= MAX_SHORT_COMMAND_OCTETS;
}
