/**
 * What a device may do inside SSTP, at the edge and at the bundled relay. The engine carries tokens without reading
 * them; its owner asks an authenticator, which answers at once or later.
 *
 * A device that can send a token by HTTP is authenticated before it speaks SSTP. One that cannot puts the plain token
 * into the AuthenticationToken of its Connect. The tokens of Attach and Register are ignored: the one token says
 * everything that its bearer may do.
 *
 * @module
 */
import {
  type AddressingEntry,
  ConnectResponseId,
  isInboxURL,
  isOriginResource,
  isStreamResource,
} from "../sstp/index.ts";
import { ANYBODY, isSame, NOBODY, type Principal } from "./principal.ts";
import {
  addressee,
  has,
  mayAttach,
  mayReachOrigins,
  maySend,
  mayStream,
  mayUse,
  peerOf,
  type Rights,
} from "./scopes.ts";
import type { TokenProblem } from "./token-problems.ts";
import { authenticate, type TokenSettings } from "./verify-token.ts";

type Soon<T> = T | Promise<T>;

/** The decision about a Connect. */
export type ConnectDecision =
  | {
      readonly type: "ok";
      readonly principal: Principal;
      /** Whether it may take what waits for its devices. */
      readonly consumes: boolean;
    }
  | { readonly type: "refused"; readonly responseId: number; readonly reason: TokenProblem };

export interface Authenticator {
  /** @param who the principal that opened the virtual connection */
  connect(
    who: Principal,
    request: { readonly sourceDeviceURLs: readonly string[]; readonly token: Uint8Array },
  ): Soon<ConnectDecision>;
  /** Whether the connection may take what waits for an identity. @param who the principal that `connect` returned */
  attach(who: Principal, request: { readonly identity: string; readonly token: Uint8Array }): Soon<boolean>;
  register(who: Principal, request: { readonly token: Uint8Array }): Soon<boolean>;
  /** Returns the indexes of recipients that may not be sent to. */
  open(
    who: Principal,
    request: {
      readonly resourceURL: string;
      readonly entries: readonly Pick<AddressingEntry, "identityURL" | "deviceURL">[];
    },
  ): Soon<readonly number[]>;
}

/**
 * Decides by tokens. On an edge that is open to every client it allows everything.
 *
 * @param shown called with the bearer of a token in Connect, and the time of the data that its judgement rests on
 */
export function tokenAuthenticator(
  settings: TokenSettings,
  shown: (principal: Principal, asOf: number) => void,
): Authenticator {
  return {
    connect(who, request) {
      // The reader of a message of an inbox relies on its signature having been checked.
      if (request.sourceDeviceURLs.some(isInboxURL)) return failed("ScopeMissing");
      if (isSame(who, ANYBODY)) return { type: "ok", principal: who, consumes: true };
      if (!isSame(who, NOBODY)) return connectAs(who, request.sourceDeviceURLs);
      return connectByToken(settings, request, shown);
    },
    attach: (who, { identity }) => isSame(who, ANYBODY) || mayAttach(who.rights, identity),
    register: (who) => isSame(who, ANYBODY) || has(who.rights, "connect"),
    open(who, { resourceURL, entries }) {
      if (isSame(who, ANYBODY)) return [];
      const may = mayOn(resourceURL);
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

/** What sessions on a resource need. One to origins is with the edge, and so addressed to a device of the bearer. */
function mayOn(resourceURL: string): typeof maySend {
  if (isOriginResource(resourceURL)) return (rights, to) => mayReachOrigins(rights) && mayUse(rights, to);
  return isStreamResource(resourceURL) ? mayStream : maySend;
}

/**
 * Whether an entry may be addressed. A device must belong to the identity beside it, and both URLs must be canonical.
 */
function isAllowed(
  rights: Rights,
  entry: Pick<AddressingEntry, "identityURL" | "deviceURL">,
  may: typeof maySend,
): boolean {
  const peer = addressee(entry);
  return peer !== undefined && may(rights, peer);
}
