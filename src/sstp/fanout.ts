/** Fanout sessions: which ones a receiver refuses, and how SessionStatus identifies their entries. */

import { isSameDevice, isURL } from "./address.ts";
import type { FanoutAddressing } from "./events.ts";
import type { InboundSession, OutboundSession } from "./sessions.ts";
import type { FanoutDeviceEntry, FanoutOpen, SessionStatus, Version } from "./wire.ts";
import {
  MAX_COMMAND_OCTETS,
  MAX_SHORT_COMMAND_OCTETS,
  OpenResponseId,
  SessionStatusId,
  WAN_DPP_RESOURCE_URL,
} from "./wire.ts";

/** The configuration that decides on fanout sessions [3.1.1.1]. */
export interface FanoutSupport {
  readonly localDeviceURLs: readonly string[];
  readonly multidropSupported: boolean;
  readonly singleHopSupported: boolean;
}

/** Whether the recipient belongs to this relay: RelayURL is empty or one of ours [3.3.5.6]. */
export function isMultidrop(entry: FanoutDeviceEntry, localDeviceURLs: readonly string[]): boolean {
  return entry.relayURL === "" || localDeviceURLs.some((url) => isSameDevice(url, entry.relayURL));
}

function isValidEntry(entry: FanoutDeviceEntry): boolean {
  return (
    isURL(entry.identityURL) &&
    (entry.deviceURL === "" || isURL(entry.deviceURL)) &&
    (entry.relayURL === "" || isURL(entry.relayURL))
  );
}

/** Octets besides the URLs: of an Open, of a FanoutOpen, and of an entry in 1.6. Headers and NULs. */
const OPEN_OCTETS = 13;
const FANOUT_OPEN_OCTETS = 13;
const ENTRY_OCTETS = 4;

/**
 * Whether a relay can forward the fanout: by Open, which is shorter than a FanoutOpen, to each recipient of its own,
 * and in the form of 1.6, which is longer than that of 1.5, to another relay.
 */
function canBePassedOn({ resourceURL, fanoutDeviceEntries: entries }: FanoutOpen, support: FanoutSupport): boolean {
  const fanout = entries.reduce(
    (sum, { identityURL, deviceURL, relayURL }) =>
      sum + ENTRY_OCTETS + identityURL.length + deviceURL.length + relayURL.length,
    FANOUT_OPEN_OCTETS + resourceURL.length,
  );
  return (
    fanout <= MAX_COMMAND_OCTETS &&
    entries
      .filter((entry) => isMultidrop(entry, support.localDeviceURLs))
      .every(({ identityURL, deviceURL }) => {
        const urls = resourceURL.length + identityURL.length + deviceURL.length;
        return OPEN_OCTETS + urls <= MAX_SHORT_COMMAND_OCTETS;
      })
  );
}

/**
 * The ResponseId that refuses a fanout session, checked in the order of the table in [3.3.5.6]; undefined to proceed.
 * Without entries it is Ok, and there is no session.
 */
export function immediateFanoutResponse(open: FanoutOpen, support: FanoutSupport): number | undefined {
  const entries = open.fanoutDeviceEntries;
  if (entries.length === 0) return OpenResponseId.Ok;
  const multidrop = entries.filter((entry) => isMultidrop(entry, support.localDeviceURLs)).length;
  if (!support.multidropSupported && multidrop > 0) return OpenResponseId.NoFanoutEntries;
  if (!support.singleHopSupported && multidrop < entries.length) return OpenResponseId.FanoutNotSupported;
  if (open.resourceURL === WAN_DPP_RESOURCE_URL) return OpenResponseId.NoResource;
  return entries.every(isValidEntry) && canBePassedOn(open, support) ? undefined : OpenResponseId.Unknown;
}

/** Statuses 1 to 3 concern a relay, and so every entry through it [3.3.5.9]; the others concern recipients. */
function isAboutRelay(statusId: number): boolean {
  return statusId >= SessionStatusId.DNSLookupFailed && statusId <= SessionStatusId.ConnectionClosed;
}

function remainingIndexes(addressing: FanoutAddressing, lost: readonly number[]): number[] {
  const gone = new Set(lost);
  return [...addressing.entries.keys()].filter((index) => !gone.has(index));
}

/** Removes entries from a fanout session. Returns how many remain. */
export function loseEntries(session: InboundSession | OutboundSession, indexes: readonly number[]): number {
  session.lost = [...session.lost, ...indexes].sort((a, b) => a - b);
  return (session.addressing as FanoutAddressing).entries.length - session.lost.length;
}

/**
 * Builds the SessionStatus commands that report unreachable entries to the originator of a fanout session, and the
 * indexes they cover. Entries already reported are skipped; statuses 1 to 3 include every entry of the same relay.
 *
 * 1.5 has no indexes, so each command names one relay or one recipient. 1.6 lists several entries by index, in one
 * command per relay or one for all recipients; a single entry is named as in 1.5 [2.2.8.1].
 */
export function statusCommands(
  session: InboundSession,
  statusId: number,
  indexes: readonly number[],
  version: Version,
): { commands: SessionStatus[]; indexes: number[] } {
  const addressing = session.addressing as FanoutAddressing;
  const entryAt = (index: number) => addressing.entries[index] as FanoutDeviceEntry;
  const aboutRelay = isAboutRelay(statusId);
  const relays = new Set(indexes.map((index) => entryAt(index).relayURL));
  const named = new Set(indexes);
  const affected = remainingIndexes(addressing, session.lost).filter((index) =>
    aboutRelay ? relays.has(entryAt(index).relayURL) : named.has(index),
  );
  const groups = new Map<string, number[]>();
  for (const index of affected) {
    const key = aboutRelay ? entryAt(index).relayURL : version.minor < 6 ? String(index) : "";
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [index]);
    else group.push(index);
  }
  const commands = [...groups.values()].map((group): SessionStatus => {
    const entry = entryAt(group[0] as number);
    return {
      command: "SessionStatus",
      sessionId: session.sessionId,
      statusId,
      deviceURL: aboutRelay ? entry.relayURL : entry.deviceURL,
      identityURL: aboutRelay ? "" : entry.identityURL,
      ...(version.minor < 6 || group.length === 1 ? {} : { fanoutDeviceIndexes: group }),
    };
  });
  return { commands, indexes: affected };
}

/**
 * The indexes removed by a received SessionStatus: those it lists, or those whose URLs it names, without any removed
 * before. Undefined if it lists an index that the session does not have.
 */
export function affectedIndexes(session: OutboundSession, status: SessionStatus): number[] | undefined {
  const addressing = session.addressing as FanoutAddressing;
  const listed = status.fanoutDeviceIndexes;
  if (listed?.some((index) => index >= addressing.entries.length)) return undefined;
  const named = listed === undefined ? undefined : new Set(listed);
  return remainingIndexes(addressing, session.lost).filter((index) => {
    if (named !== undefined) return named.has(index);
    const entry = addressing.entries[index] as FanoutDeviceEntry;
    if (isAboutRelay(status.statusId)) return isSameDevice(entry.relayURL, status.deviceURL);
    return entry.deviceURL === status.deviceURL && entry.identityURL === status.identityURL;
  });
}
