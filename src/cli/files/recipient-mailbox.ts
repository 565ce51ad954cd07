/**
 * Queries of `grooveway send` about the recipient's mailbox. Only an edge has one, and not every edge answers. Without
 * an answer, sending proceeds anyway.
 *
 * @module
 */
import type { DeviceOptions } from "../../device/index.ts";
import { type ConnectionOptions, connectionOptions, settingsOf } from "../../device/options.ts";
import { type EdgeNames, otherAudience } from "../../device/token-refusal.ts";
import { tokenFrom } from "../../device/token-source.ts";
import { askEdge, type Question } from "../../device/transports/ask-edge.ts";
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

/**
 * Returns the room in a recipient's mailbox, or undefined if the edge does not say.
 *
 * @param edge URL of the edge that is sent to
 */
export async function roomFor(way: DeviceOptions, to: string, edge: string | undefined): Promise<Room | undefined> {
  const path = `/mailboxes/${encodeURIComponent(to)}/room?${query({ from: way.address })}`;
  const [answer] = await ask(way, { method: "GET", path, expects: isRoom }, edge);
  return isRoom(answer) ? answer : undefined;
}

/** URLs of the edges that a device uses. */
export function edgesOf(way: DeviceOptions): string[] {
  return connectionOptions(way).flatMap(({ edge }) => edge ?? []);
}

/** Withdraws the queued messages of a transfer, from each edge. Messages already in flight to the recipient may still arrive. */
export async function takeBack(way: DeviceOptions, to: string, transfer: string): Promise<void> {
  const path = `/mailboxes/${encodeURIComponent(to)}/messages?${query({ from: way.address, id: `${transfer}.` })}`;
  const expects = (value: unknown) => typeof value === "object" && value !== null;
  await ask(way, { method: "DELETE", path, expects });
}

function query(parameters: Readonly<Record<string, string>>): string {
  return String(new URLSearchParams(parameters));
}

type Request = Pick<Question, "method" | "path" | "expects">;

/** Asks the edge of this URL, or all. An edge that has no mailboxes or does not answer is left out. */
async function ask(way: DeviceOptions, request: Request, only?: string): Promise<unknown[]> {
  // With a relay given as well, the edge only passes the connection through.
  if (way.edge === undefined || way.relay !== undefined) return [];
  const all = connectionOptions(way).map((options) => ({ options, name: settingsOf(options).relay }));
  const asked = all.filter(({ options }) => only === undefined || options.edge === only);
  const answers = await Promise.all(
    asked.map((one) => {
      const others = all.filter((other) => other !== one).map(({ name }) => name);
      return askOne(one.options, { name: one.name, others }, request);
    }),
  );
  return answers.filter((answer) => answer !== undefined);
}

async function askOne({ edge = "", ca, proxy, token: source }: ConnectionOptions, names: EdgeNames, request: Request) {
  const signal = AbortSignal.timeout(ANSWER_TIMEOUT);
  try {
    const token = await tokenFrom(source, signal);
    if (otherAudience(token, names) !== undefined) return undefined;
    const dialler = typeof proxy === "object" ? edgeDialler(edge, proxy, ca) : undefined;
    const answer = await askEdge({ ...request, edge: new URL(edge), token, ca, dialler, signal });
    return answer.ok ? answer.value : undefined;
  } catch {
    return undefined;
  }
}

function isRoom(value: unknown): value is Room {
  const { octets, messages, attached } = (value ?? {}) as Partial<Room>;
  return typeof octets === "number" && typeof messages === "number" && typeof attached === "boolean";
}
