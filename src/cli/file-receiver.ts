/**
 * Puts received files into a folder.
 *
 * @module
 */
import type { SetAsideReason } from "../transfer/index.ts";

/** What a message that arrived must have: `Message` of the device library does. */
export interface IncomingMessage {
  readonly id: string;
  readonly from: string | undefined;
  readonly vouched: boolean;
  /** `isTransferResource` of it is true. */
  readonly resource: string;
  readonly body: Uint8Array;
  /** Called when what it says is on the disk for good, and not when `take` rejects. */
  done(): void;
}

/** Who sent a file, as a message says it. */
export interface FileSource {
  readonly from: string | undefined;
  readonly vouched: boolean;
}

/** A file that is complete, under its name. */
export interface ReceivedFile extends FileSource {
  readonly transfer: string;
  /** As the sender calls it: anybody's text. */
  readonly name: string;
  /** Where it is: absolute, below the folder that it was begun in. */
  readonly path: string;
  readonly bytes: number;
  readonly sha256: string;
  /** It was begun by a run with another --out, and lies there. */
  readonly elsewhere: boolean;
}

/** A transfer that is not complete. */
export interface LeftOver extends FileSource {
  readonly transfer: string;
  /** What `remove` is told. */
  readonly key: string;
  /** Undefined when its beginning has not come. Anybody's text. */
  readonly name: string | undefined;
  /** The folder that it will be completed in, absolute. */
  readonly folder: string;
  /** Bytes that are there. */
  readonly held: number;
  /** Undefined while the sender has not said. */
  readonly size: number | undefined;
  /** Why it was set aside; undefined when more is expected. */
  readonly reason: SetAsideReason | undefined;
  /** When something of it came last, in milliseconds from 1970. */
  readonly changed: number;
}

/** What became of a message. It has been acknowledged. */
export type Outcome =
  /** It is kept; more is to come. `held` of `size` bytes are there. */
  | {
      readonly kind: "kept";
      readonly transfer: string;
      readonly name: string | undefined;
      readonly held: number;
      readonly size: number | undefined;
    }
  /** A file is complete. */
  | { readonly kind: "received"; readonly file: ReceivedFile }
  /** It had come before, or belongs to a transfer that was finished, cancelled or removed. Not worth a line. */
  | { readonly kind: "repeated"; readonly transfer: string }
  /** The transfer was set aside, just now: worth a line. Later messages of it are `kept`. */
  | {
      readonly kind: "setAside";
      readonly source: FileSource;
      readonly transfer: string | undefined;
      readonly name: string | undefined;
      readonly reason: SetAsideReason;
      /** A sentence on what was wrong, escaped for a terminal. */
      readonly detail: string;
    };

export interface FileReceiverOptions {
  /** The folder for files. It is made when it is not there. */
  readonly out: string;
  /** `openStateFolder().path`. */
  readonly state: string | undefined;
  /** Leave names that begin with a dot as they are. */
  readonly allowDotfiles?: boolean;
}

/** `FileReceiver.open(options)` gives one. Any number of messages may be taken at a time. */
export interface FileReceiver {
  /**
   * Takes a message, and acknowledges it when what it says is on the disk. Never rejects for what the sender has done.
   *
   * @throws CommandError CannotWrite when the disk fails or is full: the message is not acknowledged, and may be taken again
   */
  take(message: IncomingMessage): Promise<Outcome>;
  /** Waits for what is being written. Unfinished transfers stay, to go on with later. */
  close(): Promise<void>;
}

/** What `LeftOvers.open({ state, out })` gives: transfers that are not complete. It makes no folder and needs no device. */
export interface LeftOvers {
  /** Those of the state folder and those in `out`; the one that changed longest ago is first. */
  list(): Promise<LeftOver[]>;
  /** Removes what has arrived of transfers; what still comes of them is dropped. */
  remove(keys: readonly string[]): Promise<void>;
}
