/**
 * What `grooveway send` asks an edge about the mailbox of its recipient. Only an edge has it, and not every edge answers: then
 * sending does without.
 *
 * @module
 */
import type { DeviceOptions } from "../../device/index.ts";
import { tokenFrom } from "../../device/token-source.ts";
import { askEdge } from "../../device/transports/ask-edge.ts";

/** What a sender may add to a mailbox before it has to wait. */
export interface Room {
  /** Bytes. */
  readonly octets: number;
  readonly messages: number;
  /** Somebody is there to take it. */
  readonly attached: boolean;
}

/** How long an answer is waited for, in milliseconds: sending itself needs none. */
const ANSWER_TIMEOUT = 5000;

/** The room in a recipient's mailbox; undefined when nobody tells. */
export async function roomFor(way: DeviceOptions, to: string): Promise<Room | undefined> {
  const value = await ask(
    way,
    "GET",
    `/mailboxes/${encodeURIComponent(to)}/room?${query({ from: way.address })}`,
    isRoom,
  );
  return isRoom(value) ? value : undefined;
}

/** Takes back what waits of a transfer. What is on its way to the recipient may arrive. */
export async function takeBack(way: DeviceOptions, to: string, transfer: string): Promise<void> {
  const path = `/mailboxes/${encodeURIComponent(to)}/messages?${query({ from: way.address, id: `${transfer}.` })}`;
  await ask(way, "DELETE", path, (value) => typeof value === "object" && value !== null);
}

function query(parameters: Readonly<Record<string, string>>): string {
  return String(new URLSearchParams(parameters));
}

/** The edge's answer; undefined when there is no edge that has the mailbox, or none that answers. */
async function ask(
  way: DeviceOptions,
  method: string,
  path: string,
  expects: (value: unknown) => boolean,
): Promise<unknown> {
  // With a relay as well the edge only passes on.
  if (way.edge === undefined || way.relay !== undefined) return undefined;
  const signal = AbortSignal.timeout(ANSWER_TIMEOUT);
  try {
    const token = await tokenFrom(way.token, signal);
    const answer = await askEdge({ edge: new URL(way.edge), method, path, token, expects, ca: way.ca, signal });
    return answer.ok ? answer.value : undefined;
  } catch {
    return undefined;
  }
}

function isRoom(value: unknown): value is Room {
  const { octets, messages, attached } = (value ?? {}) as Partial<Room>;
  return typeof octets === "number" && typeof messages === "number" && typeof attached === "boolean";
}
