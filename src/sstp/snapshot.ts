/** The saved form of a connection: plain data that survives JSON and structured clone. */

import type { ConnectionState, Core } from "./connection-state.ts";
import { Decoder } from "./decoder.ts";
import type { Closed } from "./events.ts";
import { StateError } from "./events.ts";
import type { LedgerSnapshot } from "./message-ledger.ts";
import { Ledger } from "./message-ledger.ts";
import type { SessionsSnapshot } from "./sessions.ts";
import { SessionTable } from "./sessions.ts";
import type { Version } from "./wire.ts";

/** Increment it whenever the form changes, so that a new release does not misread old snapshots. */
const SNAPSHOT_FORMAT = 1;

/** State of a connection, made by `snapshot` and read by `restore`. Opaque to everything else. */
export interface ConnectionSnapshot {
  readonly format: number;
  readonly state: ConnectionState;
  readonly minorVersion: Version["minor"];
  readonly closed: Closed | null;
  /** Milliseconds, like the other times. */
  readonly now: number;
  readonly lastSent: number;
  readonly lastReceived: number;
  /** Null if the Message Acknowledgment Timer is stopped: JSON has no Infinity. */
  readonly acknowledgeAt: number | null;
  readonly acknowledgeNow: boolean;
  readonly sessions: SessionsSnapshot;
  readonly ledger: LedgerSnapshot;
  readonly decoderMinorVersion: Version["minor"];
  /** Bytes of an incomplete command, in hexadecimal. */
  readonly held: string;
}

function toHex(octets: Uint8Array): string {
  let text = "";
  for (const octet of octets) text += octet.toString(16).padStart(2, "0");
  return text;
}

function fromHex(text: string): Uint8Array {
  return Uint8Array.from({ length: text.length / 2 }, (_, i) => Number.parseInt(text.slice(2 * i, 2 * i + 2), 16));
}

/** @throws StateError `unsent-output` */
export function saveCore(core: Core): ConnectionSnapshot {
  if (core.output.pending > 0) {
    throw new StateError("unsent-output", "output waits to be sent: take it with output() before the snapshot");
  }
  return {
    format: SNAPSHOT_FORMAT,
    state: core.state,
    minorVersion: core.version.minor,
    closed: core.closed ?? null,
    now: core.now,
    lastSent: core.lastSent,
    lastReceived: core.lastReceived,
    acknowledgeAt: core.acknowledgeAt === Number.POSITIVE_INFINITY ? null : core.acknowledgeAt,
    acknowledgeNow: core.acknowledgeNow,
    sessions: core.sessions.snapshot(),
    ledger: core.ledger.snapshot(),
    decoderMinorVersion: core.decoder.version.minor,
    held: toHex(core.decoder.held),
  };
}

/** Loads a saved state into a fresh core. @throws StateError `snapshot-format` */
export function restoreCore(core: Core, snapshot: ConnectionSnapshot): void {
  if (snapshot.format !== SNAPSHOT_FORMAT) {
    throw new StateError("snapshot-format", `the snapshot has format ${snapshot.format}: make a new connection`);
  }
  core.state = snapshot.state;
  core.version = { major: 1, minor: snapshot.minorVersion };
  core.closed = snapshot.closed ?? undefined;
  core.now = snapshot.now;
  core.lastSent = snapshot.lastSent;
  core.lastReceived = snapshot.lastReceived;
  core.acknowledgeAt = snapshot.acknowledgeAt ?? Number.POSITIVE_INFINITY;
  core.acknowledgeNow = snapshot.acknowledgeNow;
  core.sessions = SessionTable.restore(snapshot.sessions);
  core.ledger = Ledger.restore(snapshot.ledger);
  core.decoder = new Decoder({ major: 1, minor: snapshot.decoderMinorVersion }, fromHex(snapshot.held));
}
