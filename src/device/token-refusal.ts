/**
 * Explains to a user why a token was refused. The edge or relay names the reason; the token's own claims, which the
 * bearer can read too, show what is missing.
 *
 * @module
 */
import { addressee, maySend, mayStream, mayUse, type Peer, type Rights, readRights } from "../auth/scopes.ts";
import { decodeBase64url } from "../lib/base64url.ts";
import { visible } from "../lib/printable.ts";
import { formatAddress } from "../sstp/index.ts";
import { DeviceError } from "./device-error.ts";

/** A refused token, and what refused it. */
export interface RefusedToken {
  /** Default: the edge. */
  readonly by?: "edge" | "relay" | undefined;
  /** What the edge or relay found wrong, as a whole sentence, if it said so. */
  readonly detail?: string | undefined;
  readonly token?: string | undefined;
  /** The device's own address. */
  readonly address?: Peer | undefined;
  /** The name by which the device addresses the edge or relay. */
  readonly name?: string | undefined;
}

type Text = (refused: Required<Pick<RefusedToken, "by">> & RefusedToken, claims: Claims | undefined) => string;

const TEXTS: Readonly<Record<string, Text>> = {
  TokenNeeded: ({ by }) =>
    `the ${by} requires a token: get one from its operator, and give it with --token @FILE, GROOVEWAY_TOKEN or the option token`,
  TokenInvalid: (refused) =>
    `the ${refused.by} cannot verify the token${why(refused)}: get a new one from its operator${fileHint(refused)}`,
  TokenExpired: ({ by }, claims) => {
    const { expires } = claims ?? {};
    const at = expires?.toISOString();
    return expires !== undefined && expires.getTime() > Date.now()
      ? `the ${by} says that the token has expired, but by this machine's clock it is valid until ${at}: correct the clocks, or get a new token`
      : `the token has expired${at === undefined ? "" : ` on ${at}`}: get a new one`;
  },
  TokenNotYetValid: (refused) => `the token is not valid yet${why(refused)}: wait, or correct the clocks`,
  TokenRevoked: ({ by }) => `the token has been revoked: ask the operator of the ${by} for a new one`,
  WrongAudience: ({ by, name }, claims) => {
    const whose = claims?.audience === undefined ? `another ${by}` : claims.audience;
    const own = ` (grooveway token issue --audience ${name ?? `with one of the ${by}'s names`})`;
    return `the token is for ${whose}, not for this ${by}: get one for this ${by}${own}`;
  },
  ScopeMissing: (refused, claims) => scopeMissing(refused, claims),
};

/** Maps a reason of an edge or relay to an error that is not retryable; undefined if it does not concern the token. */
export function tokenRefusal(reason: string | undefined, refused: RefusedToken = {}): DeviceError | undefined {
  const text = reason !== undefined && Object.hasOwn(TEXTS, reason) ? TEXTS[reason] : undefined;
  if (text === undefined) return undefined;
  const words = text({ ...refused, by: refused.by ?? "edge" }, claimsOf(refused.token));
  return new DeviceError("TokenRefused", `${words} [${reason}]`);
}

/** Names by which a device addresses its edges. */
export interface EdgeNames {
  readonly name: string;
  readonly others: readonly string[];
}

/** The error for a token whose `aud` names one of the device's other edges instead of this one: it must not be sent. */
export function otherAudience(token: string | undefined, { name, others }: EdgeNames): DeviceError | undefined {
  const { aud } = payloadOf(token) ?? {};
  const audience = [aud].flat().map((each) => String(each).toLowerCase());
  const names = (edge: string) => audience.includes(edge.toLowerCase());
  const other = others.find(names);
  if (other === undefined || names(name)) return undefined;
  return new DeviceError(
    "InvalidOption",
    `the token is for ${other}, so it is not sent to ${name}: give each edge its own token`,
  );
}

/** The scope that a recipient needs: of messages to it, or of streams. */
type RecipientScope = "send" | "stream";

/** Names the missing scope if the token does not cover the refused recipient. Returns other errors unchanged. */
export function sendRefusal(
  error: DeviceError,
  token: string | undefined,
  recipient: { readonly identityURL: string; readonly deviceURL: string },
  scope: RecipientScope = "send",
): DeviceError {
  if (error.code !== "RecipientRefused") return error;
  const claims = claimsOf(token);
  const peer = addressee(recipient);
  if (claims === undefined || peer === undefined) return error;
  const may = scope === "send" ? maySend : mayStream;
  if (may(claims.rights, peer)) return error;
  const missing = `${scope}:${formatAddress(peer)}`;
  const text = `the token lacks the scope ${missing}: ${getScope(claims, missing)} [ScopeMissing]`;
  return new DeviceError(error.code, text, { cause: error });
}

/** A text that is not three parts may be the name of a file. */
function fileHint({ token }: RefusedToken): string {
  return token === undefined || token.split(".").length === 3
    ? ""
    : "; if that is the name of a file, write --token @FILE";
}

function why({ detail }: RefusedToken): string {
  return detail === undefined ? "" : ` (${detail.replace(/\.$/, "")})`;
}

function scopeMissing({ address, detail }: RefusedToken, claims: Claims | undefined): string {
  if (claims !== undefined && !claims.rights.connect)
    return `the token lacks the scope connect: ${getScope(claims, "connect")}`;
  if (claims !== undefined && address !== undefined && !mayUse(claims.rights, address)) {
    const own = claims.rights.address === undefined ? "no address" : `the address ${visible(claims.rights.address)}`;
    return `the token is for ${own}, but this device is ${formatAddress(address)}: use an address of the token (--as), or get a token for this one`;
  }
  return `the token does not allow this${why({ detail })}: get one with this device's address and the scopes connect and receive`;
}

/** How to get a token with one more scope. */
function getScope({ scope }: Claims, missing: string): string {
  const all = [...scope.split(" "), missing].filter((word) => word !== "").join(" ");
  return `get one with it (grooveway token issue --scope '${visible(all)}')`;
}

/** The claims of a token. */
interface Claims {
  readonly scope: string;
  readonly rights: Rights;
  /** The audience, as text. */
  readonly audience: string | undefined;
  readonly expires: Date | undefined;
}

/** The payload of a token, without verifying it; undefined if it has none. */
function payloadOf(token: string | undefined): Readonly<Record<string, unknown>> | undefined {
  try {
    const [, payload = ""] = token?.split(".") ?? [];
    const value: unknown = JSON.parse(new TextDecoder().decode(decodeBase64url(payload)));
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

/** The time of a claim; undefined if it is none that can be written. */
function dateOf(claim: unknown): Date | undefined {
  const date = new Date(typeof claim === "number" ? claim * 1000 : Number.NaN);
  return Number.isNaN(date.getTime()) ? undefined : date;
}

/** Reads the claims without verifying them; undefined if they cannot be read. */
function claimsOf(token: string | undefined): Claims | undefined {
  try {
    const payload = payloadOf(token);
    if (payload === undefined) return undefined;
    const { scope = "", address, aud, exp } = payload;
    const rights = readRights({ address, scope });
    if (!rights.ok) return undefined;
    const audience = [aud].flat().filter((name) => typeof name === "string");
    return {
      scope: String(scope),
      rights: rights.value,
      audience: audience.length === 0 ? undefined : visible(audience.join(", ")),
      expires: dateOf(exp),
    };
  } catch {
    return undefined;
  }
}
