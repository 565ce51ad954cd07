/**
 * Asks the edge about a token, over a way that works. The token goes only over verified TLS, or where `allowPlain` is
 * set.
 *
 * It asks how much a device may send to itself. Connecting would end the connection of a device that runs with the
 * address.
 *
 * @module
 */
import { has, mayUse, type Peer, type Rights, readRights } from "../../auth/scopes.ts";
import { decodeBase64url } from "../../lib/base64url.ts";
import { formatAddress } from "../../sstp/index.ts";
import { tokenRefusal } from "../token-refusal.ts";
import { askEdge, type EdgeAnswer } from "../transports/ask-edge.ts";
import { hasAbsoluteTargets } from "../transports/candidates.ts";
import { direct } from "../transports/dial.ts";
import type { Proxies } from "../transports/proxy/proxy-settings.ts";
import { proxyDialler, tunnelDialler } from "../transports/proxy/tunnel.ts";
import type { Way } from "../transports/transport.ts";
import { edgeAt } from "./check-path.ts";
import { knownReason } from "./failure.ts";
import type { TokenObservation } from "./observations.ts";

export interface TokenOptions {
  readonly edge: string;
  readonly token: string | undefined;
  /** The device's own address. */
  readonly address: Peer;
  readonly ca: string | undefined;
  readonly proxies: Proxies;
  /** Milliseconds for each question. */
  readonly timeout: number;
  readonly signal: AbortSignal;
}

/** What the edge says about a device that would send to itself. */
export type Room =
  /** `isFree`: no device is connected with that address. */
  | { readonly type: "open"; readonly isFree: boolean }
  | { readonly type: "refused"; readonly code: string }
  | { readonly type: "unanswered" };

/**
 * Asks for the room of a device in its own mailbox. Works without a token at an edge that admits anybody.
 *
 * @throws the reason of an aborted signal, and nothing else
 */
export async function askRoom(way: Way, self: Peer, options: TokenOptions): Promise<Room> {
  const { edge, token, ca, proxies, timeout, signal } = options;
  const { source = "" } = way;
  const { accounts } = proxies;
  // An HTTP proxy carries also plain HTTP in a tunnel, in which it takes a password.
  const proxy = way.proxies.at(-1);
  const isAbsolute = hasAbsoluteTargets(way) && proxy !== undefined && accounts.find(proxy) === undefined;
  const through = isAbsolute ? proxyDialler : tunnelDialler;
  const dialler = proxy === undefined ? direct() : through(way.proxies, { source, accounts, ca });
  const name = encodeURIComponent(formatAddress(self));
  const question = {
    edge: edgeAt(edge, way),
    path: `/mailboxes/${name}/room?from=${name}`,
    token,
    ca,
    dialler,
    isAbsolute,
    signal: AbortSignal.any([signal, AbortSignal.timeout(timeout)]),
    expects: isRoom,
  };
  let answer: EdgeAnswer;
  try {
    answer = await askEdge(question);
  } catch {
    signal.throwIfAborted();
    return { type: "unanswered" };
  }
  if (!answer.ok) return { type: "refused", code: answer.code };
  return { type: "open", isFree: !(answer.value as { readonly attached: boolean }).attached };
}

/**
 * Judges a token by what the edge says.
 *
 * @param room the answer for the device's own address
 */
export function judgeToken(
  room: Room,
  { edge, token, address }: Pick<TokenOptions, "edge" | "token" | "address">,
): TokenObservation {
  if (token === undefined) return { type: "none" };
  if (room.type === "open") return { type: "accepted" };
  if (room.type === "unanswered") return { type: "unanswered" };
  const reason = knownReason(room.code);
  if (reason === undefined) return { type: "unanswered" };
  // The edge verifies a token before it misses a scope, so that its claims can be trusted here: a device need not be
  // allowed to send to itself.
  const rights = rightsIn(token);
  if (reason === "ScopeMissing" && rights !== undefined && has(rights, "connect") && mayUse(rights, address)) {
    return { type: "accepted" };
  }
  // Without the edge's own words, which a stranger could have written.
  const refusal = tokenRefusal(reason, { token, address, name: new URL(edge).hostname });
  return refusal === undefined
    ? { type: "unanswered" }
    : { type: "refused", reason, text: withoutReason(refusal.message) };
}

function withoutReason(text: string): string {
  return text.replace(/ \[[A-Za-z]+\]$/, "");
}

function isRoom(value: unknown): boolean {
  return typeof (value as { readonly attached?: unknown } | null)?.attached === "boolean";
}

/** What a token claims, without verifying it; undefined if it cannot be read. */
function rightsIn(token: string): Rights | undefined {
  try {
    const [, payload = ""] = token.split(".");
    const claims: unknown = JSON.parse(new TextDecoder().decode(decodeBase64url(payload)));
    const rights = readRights((claims ?? {}) as { address?: unknown; scope?: unknown });
    return rights.ok ? rights.value : undefined;
  } catch {
    return undefined;
  }
}
