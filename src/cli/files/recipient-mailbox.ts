/**
 * Queries of `grooveway send` about the recipient's mailbox. Only an edge has one, and not every edge answers. Without
 * an answer, sending proceeds anyway.
 *
 * @module
 */
import type { DeviceOptions } from "../../device/index.ts";
import { tokenFrom } from "../../device/token-source.ts";
import { askEdge } from "../../device/transports/ask-edge.ts";
import { edgeDialler } from "../../device/transports/edge-dialler.ts";

/** What a sender may add to a mailbox before it is held back. */
export interface Room {
  /** Bytes. */
  readonly octets: number;
  readonly messages: number;
  /** A device is connected and consumes the mailbox. */
  readonly attached: boolean;
}

/** How long to wait for an answer, in milliseconds: sending does not depend on it. */
const ANSWER_TIMEOUT = 5000;

/** Returns the room in a recipient's mailbox, or undefined if the edge does not say. */
export async function roomFor(way: DeviceOptions, to: string): Promise<Room | undefined> {
  const value = await ask(
    way,
    "GET",
    `/mailboxes/${encodeURIComponent(to)}/room?${query({ from: way.address })}`,
    isRoom,
  );
  return isRoom(value) ? value : undefined;
}

/** Withdraws the queued messages of a transfer. Messages already in flight to the recipient may still arrive. */
export async function takeBack(way: DeviceOptions, to: string, transfer: string): Promise<void> {
  const path = `/mailboxes/${encodeURIComponent(to)}/messages?${query({ from: way.address, id: `${transfer}.` })}`;
  await ask(way, "DELETE", path, (value) => typeof value === "object" && value !== null);
}

function query(parameters: Readonly<Record<string, string>>): string {
  return String(new URLSearchParams(parameters));
}

/** Asks the edge. Returns undefined if there is no edge with the mailbox, or it does not answer. */
async function ask(
  way: DeviceOptions,
  method: string,
  path: string,
  expects: (value: unknown) => boolean,
): Promise<unknown> {
  // With a relay given as well, the edge only passes the connection through.
  if (way.edge === undefined || way.relay !== undefined) return undefined;
  const signal = AbortSignal.timeout(ANSWER_TIMEOUT);
  try {
    const token = await tokenFrom(way.token, signal);
    const { edge, ca, proxy } = way;
    const dialler = typeof proxy === "object" ? edgeDialler(edge, proxy, ca) : undefined;
    const answer = await askEdge({ edge: new URL(edge), method, path, token, expects, ca, dialler, signal });
    return answer.ok ? answer.value : undefined;
  } catch {
    return undefined;
  }
}

function isRoom(value: unknown): value is Room {
  const { octets, messages, attached } = (value ?? {}) as Partial<Room>;
  return typeof octets === "number" && typeof messages === "number" && typeof attached === "boolean";
}
