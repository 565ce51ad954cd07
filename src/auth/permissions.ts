/**
 * What a device may do inside SSTP, at the edge and at the bundled relay. The engine carries tokens without looking at
 * them; its owner asks an authenticator, which answers at once or later.
 *
 * A device that could send a token by HTTP is known before it speaks SSTP. One that could not puts it, as it is, into the
 * AuthenticationToken of its Connect. Those of Attach and Register are not looked at: what the bearer of a token may do is
 * all in the one token.
 *
 * @module
 */
import { type AddressingEntry, ConnectResponseId } from "../sstp/index.ts";
import { ANYBODY, isSame, NOBODY, type Principal } from "./principal.ts";
import { addressee, has, mayAttach, maySend, mayStream, mayUse, peerOf, type Rights } from "./scopes.ts";
import type { TokenProblem } from "./token-problems.ts";
import { authenticate, type TokenSettings } from "./verify-token.ts";

type Soon<T> = T | Promise<T>;

/** What becomes of a Connect. */
export type ConnectDecision =
  | {
      readonly type: "ok";
      readonly principal: Principal;
      /** Whether it takes what waits for its devices. */
      readonly consumes: boolean;
    }
  | { readonly type: "refused"; readonly responseId: number; readonly reason: TokenProblem };

export interface Authenticator {
  /** @param who who has opened the virtual connection */
  connect(
    who: Principal,
    request: { readonly sourceDeviceURLs: readonly string[]; readonly token: Uint8Array },
  ): Soon<ConnectDecision>;
  /** Whether the connection takes what waits for an identity. @param who whom `connect` has found */
  attach(who: Principal, request: { readonly identity: string; readonly token: Uint8Array }): Soon<boolean>;
  register(who: Principal, request: { readonly token: Uint8Array }): Soon<boolean>;
  /** The recipients that may not be sent to, by their index. */
  open(
    who: Principal,
    request: {
      readonly resourceURL: string;
      readonly entries: readonly Pick<AddressingEntry, "identityURL" | "deviceURL">[];
    },
  ): Soon<readonly number[]>;
}

/**
 * Decides by tokens, and lets everything pass where it is open to anybody.
 *
 * @param shown called with the bearer of a token in Connect, and the moment that the judgement about it dates from
 */
export function tokenAuthenticator(
  settings: TokenSettings,
  shown: (principal: Principal, asOf: number) => void,
): Authenticator {
  return {
    connect(who, request) {
      if (isSame(who, ANYBODY)) return { type: "ok", principal: who, consumes: true };
      if (!isSame(who, NOBODY)) return connectAs(who, request.sourceDeviceURLs);
      return connectByToken(settings, request, shown);
    },
    attach: (who, { identity }) => isSame(who, ANYBODY) || mayAttach(who.rights, identity),
    register: (who) => isSame(who, ANYBODY) || has(who.rights, "connect"),
    open(who, { resourceURL, entries }) {
      if (isSame(who, ANYBODY)) return [];
      const may = isStream(resourceURL) ? mayStream : maySend;
      return entries.flatMap((entry, index) => (isAllowed(who.rights, entry, may) ? [] : [index]));
    },
  };
}

async function connectByToken(
  settings: TokenSettings,
  { sourceDeviceURLs, token }: { readonly sourceDeviceURLs: readonly string[]; readonly token: Uint8Array },
  shown: (principal: Principal, asOf: number) => void,
): Promise<ConnectDecision> {
  if (token.length === 0) return failed("TokenNeeded");
  const answer = await authenticate(new TextDecoder().decode(token), settings, Date.now());
  if (answer.type === "refused") return failed(answer.reason);
  const decision = connectAs(answer.principal, sourceDeviceURLs);
  if (decision.type === "ok") shown(answer.principal, answer.asOf);
  return decision;
}

function connectAs(principal: Principal, sourceDeviceURLs: readonly string[]): ConnectDecision {
  const { rights } = principal;
  const devices = sourceDeviceURLs.map(peerOf);
  const own = devices.length > 0 && devices.every((device) => device !== undefined && mayUse(rights, device));
  if (!has(rights, "connect") || !own) return failed("ScopeMissing");
  return { type: "ok", principal, consumes: has(rights, "receive") };
}

function failed(reason: TokenProblem): ConnectDecision {
  const { AuthenticationFailed, TryLater } = ConnectResponseId;
  return { type: "refused", responseId: reason === "KeysUnavailable" ? TryLater : AuthenticationFailed, reason };
}

/** Sessions that carry TCP connections between devices. */
function isStream(resourceURL: string): boolean {
  return resourceURL === "stream" || resourceURL.startsWith("stream?");
}

/** A device is addressed as one of the identity that is named beside it, and both in the one way that they are written. */
function isAllowed(
  rights: Rights,
  entry: Pick<AddressingEntry, "identityURL" | "deviceURL">,
  may: typeof maySend,
): boolean {
  const peer = addressee(entry);
  return peer !== undefined && may(rights, peer);
}
